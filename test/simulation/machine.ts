/**
 * One replica: a machine with a disk and a clock, and at times a process that runs the real store and the real
 * replication on it.
 *
 * What a user asks for is told to the oracle when its batch reaches the disk, in the order in which it was asked for,
 * so that the oracle decides by itself which operation has to be there, and in which place.
 */
import { bytesEncodings } from '../../lib/encodings.ts'
import type { ReplicationError } from '../../lib/errors.ts'
import { Replicator } from '../../lib/network/replicator.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { keyspace, meta } from '../../lib/storage/keyspaces.ts'
import { Store } from '../../lib/storage/store.ts'
import type { Dice } from './dice.ts'
import { applied, DiskIdentity, DiskRedoFile, SimulatedLevel, Disk, type BatchObserver, type Contents, type RawOperation, type Tree } from './disk.ts'
import { ProcessSystem, type WallClock } from './scheduler.ts'
import { checkFeed } from './bounds.ts'
import { countPayloads } from './payloads.ts'
import { changedByOthers, checkReport, type ObservedBatch } from './events.ts'
import { Transactions, type ClearedRange, type TextOperation } from './transactions.ts'
import { Witness, type Branch } from './witness.ts'
import type { Release, World } from './world.ts'

export const port = 9000

/** One run of the database: it dies with the process. */
class Process {
  readonly system: ProcessSystem
  readonly engine: SimulatedLevel
  readonly redoFile: DiskRedoFile
  readonly transactions: Transactions
  readonly witness: Witness
  /** The writes that a power loss cannot take. */
  syncedSeen: bigint
  /** The last one that has reached the disk. */
  batch: ObservedBatch | undefined
  store: Store | undefined
  replicator: Replicator | undefined
  readonly release: Release
  /** Keys that read as something else since what others wrote came, which nobody has been told yet. */
  readonly untold = new Set<string>()
  /** Whether it accepts writes. */
  ready = false
  closing = false

  constructor (release: Release, system: ProcessSystem, engine: SimulatedLevel, redoFile: DiskRedoFile, transactions: Transactions, witness: Witness) {
    this.release = release
    this.system = system
    this.engine = engine
    this.redoFile = redoFile
    this.transactions = transactions
    this.witness = witness
    this.syncedSeen = 0n
  }
}

export class Machine {
  readonly name: string
  readonly world: World
  readonly disk: Disk
  readonly clock: WallClock
  readonly dice: Dice
  peers: string[]
  process: Process | undefined
  /** A copy of the directory, to be put back or opened elsewhere. */
  saved: Contents | undefined
  /** Others have begun with what it had. */
  hasCopies = false
  /** It was restored or cloned: outside exact conflicts where deletes were collected. */
  special = false
  /** Its disk went back together with its identity: it cannot know that, before it hears of it. */
  wentBack = false
  /** Its disk is a snapshot, and the original goes on in the same log. */
  branch: Branch | undefined
  /** Switched off until it is switched on by hand. */
  away = false
  /** For good. */
  gone = false
  /** Peers that it is not to link with, as long as it is open. */
  readonly disconnected = new Set<string>()
  /** The most versions that it has ever held. */
  liveMax = 0
  /** When it was last linked with a replica. */
  readonly #sightings = new Map<string, number>()

  constructor (world: World, name: string, peers: string[], disk = new Disk()) {
    this.world = world
    this.name = name
    this.peers = peers
    this.disk = disk
    this.dice = world.dice.fork()
    this.clock = { offsetMs: 0 }
  }

  get ready (): boolean {
    return this.process?.ready === true && !this.process.system.frozen
  }

  /** The writes that it has on its disk. */
  get seen (): bigint {
    return (this.process?.witness ?? this.#witness(() => {})).seen
  }

  /** Whether all that is in conflict is as the resolver decides that it was opened with last. */
  get hasFolded (): boolean {
    return (this.disk.tree.get(meta.resolverVersion)?.toString() ?? '') === this.process?.release.version
  }

  /** Whether nothing that it writes could have been written before: it knows the end of its log, or of none. */
  get mayWrite (): boolean {
    if (!this.wentBack) return true
    const { ownLog, vector } = this.process!.witness
    return ownLog === undefined || this.world.oracle.lastOf(ownLog) <= vector.sequenceOf(ownLog)
  }

  /** Whether it has to wait for a member: one that it was linked with lately. */
  #counts (replica: string): boolean {
    const { scheduler, settings } = this.world
    return scheduler.elapsedMs - (this.#sightings.get(replica) ?? 0) < settings.memberTtlMs
  }

  #witness (onOwnDots: Transactions['place']): Witness {
    const { world } = this
    return new Witness({ name: this.name, branch: this.branch, onLeft: () => { this.branch = undefined }, oracle: world.oracle, resolver: world.release.resolver, onOwnDots, counts: (replica) => this.#counts(replica), onCount: (what) => { world.count(what) } }, this.disk.tree)
  }

  /** Opens the database. Resolves when it accepts writes, or has failed to open. */
  async start (): Promise<void> {
    const { world } = this
    const system = new ProcessSystem(world.scheduler, this.clock, this.dice.fork())
    const observe: BatchObserver = (operations, before, after, sync) => {
      world.guard(() => { this.#committed(operations, before, after, sync) })
    }
    const engine = new SimulatedLevel(this.disk, world.scheduler, this.dice.fork(), observe, async () => { await system.running() })
    const redoFile = new DiskRedoFile(this.disk, this.dice.fork(), observe, () => system.dead)
    const witness = this.#witness((dots, before) => { transactions.place(dots, before) })
    const transactions: Transactions = new Transactions({ world, name: this.name, disk: this.disk, witness, isSpecial: () => this.special, isClosing: () => process.closing, store: () => process.store! })
    const process = this.process = new Process(world.release, system, engine, redoFile, transactions, witness)
    world.network.reset(this.name)
    this.disconnected.clear()
    world.log(`${this.name} opens`)
    try {
      await this.#open(process)
      if (system.dead) return
      process.ready = true
      world.log(`${this.name} accepts writes`)
    } catch (error) {
      if (system.dead) return
      world.count(`failed to open: ${(error as ReplicationError).code ?? (error as Error).message}`)
      world.log(`${this.name} failed to open: ${(error as Error).message}`)
      this.kill()
    }
  }

  async #open (process: Process): Promise<void> {
    const { world, name } = this
    const { system, engine, redoFile, release } = process
    const options = {
      system,
      resolverVersion: release.version,
      transactionBytesMax: world.transactionBytesMax,
      memberTtlMs: world.settings.memberTtlMs,
      onError: (error: ReplicationError) => { world.guard(() => { world.error(name, error) }) }
    }
    const changed = (): void => { process.replicator?.mesh.changed() }
    await engine.open()
    const store = process.store = await Store.open({
      ...options,
      engine: engine as unknown as Engine,
      identity: new DiskIdentity(this.disk),
      redoFile,
      encodings: bytesEncodings('utf8', 'utf8'),
      resolver: release.resolver,
      reopen: async (look) => {
        await this.#reopen(system)
        await look()
      },
      onCommit: changed,
      onApplying: changed,
      reports: () => world.settings.reports,
      onReport: (report) => {
        for (const { keyBytes } of report.changed) process.untold.delete(Buffer.from(keyBytes).toString('latin1'))
        world.guard(() => { checkReport(world, name, report, process.batch!) })
      }
    })
    if (!process.witness.vector.equals(store.vector)) world.fail('vector', `${name} opens with another vector than is on its disk`)
    countPayloads(store, world, this.name)
    if (!this.hasFolded) world.onFolding(name)
    this.#noteSightings(store)
    process.replicator = new Replicator({
      ...options,
      store,
      transport: world.network.transport(name, () => system.dead),
      protection: undefined,
      announcementKey: undefined,
      finder: undefined,
      discovery: { bonjour: false, exchange: false, interfaces: undefined, port: 5353, machineOnly: true },
      group: 'simulation',
      host: name,
      port,
      portIsPreference: false,
      peers: () => this.peers.map((peer) => `${peer}:${port}`),
      initialSyncMs: world.settings.initialSyncMs,
      emit: (event) => { world.count(`event ${event}`) }
    })
    await process.replicator.open()
  }

  #noteSightings ({ members }: Store): void {
    const { seen } = members
    members.seen = (replica) => {
      this.#sightings.set(replica, this.world.scheduler.elapsedMs)
      seen.call(members, replica)
    }
  }

  /** The database is opened again and again, until its disk takes writes. */
  async #reopen (system: ProcessSystem): Promise<void> {
    do {
      await this.world.scheduler.pause(this.dice.exponential(200))
      if (system.dead) await new Promise(() => {})
    } while (this.disk.failures-- > 0)
    this.disk.failures = 0
    this.world.log(`${this.name} has opened its database again`)
  }

  #committed (operations: readonly RawOperation[], before: Tree, after: Tree, sync: boolean): void {
    const { process, world } = this
    if (process === undefined) return
    process.transactions.batches++
    process.batch = { operations, before, after }
    if (world.diskTrace === this.name) for (const operation of operations) world.log(describeRecord(operation))
    if (sync) process.transactions.synced = process.transactions.batches
    const wasApplying = process.witness.applying !== undefined
    const wasLeaving = process.witness.leaving
    process.witness.observe(operations, before, after)
    if (!wasApplying && process.witness.applying !== undefined) world.onApplying(this.name)
    else if (process.witness.applying === undefined && operations.some(({ type, key }) => type === 'put' && key[0] === keyspace.stage)) world.onStaged(this.name)
    if (!wasLeaving && process.witness.leaving) world.onLeaving(this.name)
    if (sync) process.syncedSeen = process.witness.seen
    if (world.settings.reports) for (const key of changedByOthers(process.batch, process.witness.ownLog)) process.untold.add(key)
    this.liveMax = Math.max(this.liveMax, process.witness.live)
    if (process.store !== undefined) checkFeed(world, this.name, process.store)
    world.log(() => `${this.name} has written ${operations.length} records${sync ? ', synced' : ''}: ${[...process.witness.vector].map(({ log, sequence }) => `${Buffer.from(log, 'latin1').toString('hex', 0, 2)}:${sequence}`).join(' ')}`)
    const early = process.store === undefined ? 0n : process.witness.bitsOf(process.store.durable) & ~process.syncedSeen & ~process.witness.left
    if (early !== 0n) world.fail('durable', `${this.name} calls durable what is not synced: ${world.oracle.names(early)}`)
  }

  /** The process stands still, and goes on. */
  freeze (forMs: number): void {
    const { world, name, process } = this
    if (process === undefined) return
    process.system.freeze()
    world.network.freeze(name)
    world.scheduler.after(forMs, () => { if (this.process === process) this.thaw() })
  }

  thaw (): void {
    this.process?.system.thaw()
    this.world.network.thaw(this.name)
  }

  /** The process is gone from one moment to the next. */
  kill ({ told = true }: { told?: boolean } = {}): void {
    const { process } = this
    if (process === undefined) return
    if (process.witness.applying !== undefined) this.world.count('crashes in an apply phase')
    process.system.dead = process.engine.dead = true
    this.world.network.thaw(this.name)
    this.process = undefined
    this.world.network.vanish(this.name, told)
  }

  losePower (): void {
    this.#lose((disk) => { disk.losePower(this.dice) })
  }

  /** The process is killed, and the file system loses what LevelDB wrote last. */
  loseTail (): void {
    this.#lose((disk) => { disk.loseTail(this.dice) })
    const { ownLog, vector, nameOf } = this.#witness(() => {})
    const { told } = this.disk
    if (ownLog === undefined || (told?.log === ownLog && told.sequence > vector.sequenceOf(ownLog))) return
    // Nobody has it: other writes will stand there.
    this.world.oracle.forgetBeyond(nameOf(ownLog, Infinity), vector.sequenceOf(ownLog))
  }

  #lose (how: (disk: Disk) => void): void {
    const durable = this.process?.store?.durable
    const { witness } = this.process ?? {}
    const claimed = durable === undefined ? 0n : witness!.bitsOf(durable) & ~witness!.left
    const before = this.seen
    this.kill({ told: this.dice.chance(0.3) })
    how(this.disk)
    const { oracle } = this.world
    for (const write of oracle.list(before & ~this.seen)) if (write.author === this.name) oracle.lostByAuthors |= write.bit
    const lost = claimed & ~this.seen
    if (lost !== 0n) this.world.fail('durable-lost', `${this.name} lost what it called durable: ${this.world.oracle.names(lost)}`)
  }

  async stop (): Promise<void> {
    const { process } = this
    if (process === undefined || process.closing) return
    process.closing = true
    process.ready = false
    await process.replicator?.close()
    await process.store?.close()
    if (process.system.dead) return
    this.disk.settle()
    this.kill()
  }

  write (operations: readonly TextOperation[], sync: boolean): void {
    if (this.process !== undefined && this.mayWrite) this.process.transactions.write(operations, sync)
  }

  clear (range: ClearedRange): void {
    if (this.process !== undefined && this.mayWrite) this.process.transactions.clear(range)
  }

  /** A copy of the open database is made, to be opened elsewhere or put back: it does not say whose it is. */
  backUp (): void {
    const { process, disk, world, name } = this
    const tree = applied(disk.tree, [{ type: 'del', key: meta.identity }, { type: 'del', key: meta.cleanClose }])
    world.scheduler.after(this.dice.exponential(50), () => {
      if (process === undefined || this.process !== process || process.store === undefined) return
      try { process.store.told.tell() } catch { return }
      this.saved = { levelTree: tree, redo: [], identity: undefined, told: undefined }
      world.count('backups')
      world.log(`${name} has been backed up`)
    })
  }

  /** Links with a peer are ended by hand, and not made again for a while. */
  disconnect (peer: string, forMs: number): void {
    const { process, world, name } = this
    const address = { host: peer, port }
    world.log(`${name} is disconnected from ${peer} for ${forMs} ms`)
    process!.replicator!.disconnect(address)
    this.disconnected.add(peer)
    world.scheduler.after(forMs, () => { if (this.process === process) this.connect(peer) })
  }

  connect (peer: string): void {
    this.disconnected.delete(peer)
    this.process?.replicator?.connect({ host: peer, port })
  }

  /** Tells the store that a member will not come back, which may be wrong. */
  retire (): void {
    const { store, replicator } = this.process!
    const others = [...store!.members].filter(({ replica, retired }) => !retired && replica !== store!.replica && replicator!.mesh.linkTo(replica) === undefined)
    if (others.length === 0) return
    const { replica } = this.dice.pick(others)
    this.world.log(`${this.name} retires ${replica}`)
    store!.retire(replica).catch(() => { this.world.count('retirements that were not saved') })
  }
}

function describeRecord ({ type, key, value }: RawOperation): string {
  const text = key.toString('latin1').replace(/[^ -~]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
  return `  ${type} ${text}${value === undefined ? '' : ` = ${value.toString('hex')}`}`
}
