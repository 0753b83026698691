/**
 * The store of one replica: what `ReplicatedLevel` reads and writes, and what the network layer takes from and gives
 * to. It knows the keys on disk and nothing of peers.
 *
 * What holds at every LevelDB snapshot: data, version, sibling and log of an operation and the advance of the vector
 * are in one inner batch; a key is in data if and only if the fold of its siblings is a value; every dot of a sibling
 * set is covered by the vector, and a dot that the vector covers and the set lacks has been superseded or is a
 * collected tombstone.
 */
import type { ResumePoint } from '../codec/message.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { LogId, ReplicaId } from '../core/ids.ts'
import { holdsPut, type SiblingSet } from '../core/siblings.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { backgroundError, ReplicationError } from '../errors.ts'
import { journalTrimMin, logsMax, logsWarned, operationBytes, transactionBytesDefault } from '../limits.ts'
import type { ErrorListener, Resolver, System, Version } from '../types.ts'
import { clearRange } from './clear.ts'
import type { Reopen } from './committer.ts'
import { valueOf } from './data-record.ts'
import { Derivation, type Encodings, type SiblingValues } from './derive.ts'
import { buffers, writeOut, type Bytes, type Engine } from './engine.ts'
import { Feed } from './feed.ts'
import { Housekeeping } from './housekeeping.ts'
import type { IdentityStore } from './identity.ts'
import type { InnerBatch } from './inner-batch.ts'
import type { Unit } from './unit.ts'
import { Intake } from './intake.ts'
import { inKeyspace, keyspace, meta, siblingKey, tallied } from './keyspaces.ts'
import type { Operation } from './local.ts'
import { Members } from './members.ts'
import { beginLeaving, leaveStep } from './leaving.ts'
import { LogSource } from './log-source.ts'
import { keyText, valueOfEntry, type MemtableEntry, type Pending } from './memtable.ts'
import type { MergeReport } from './merge.ts'
import { ScanSource } from './scan-source.ts'
import { openState, type Opening } from './opening.ts'
import { inVersions, type RangeOptions } from './range.ts'
import type { RedoFile, RedoLog } from './redo-log.ts'
import { Repair } from './repair.ts'
import { mayResume, ResumedSource } from './resumed-source.ts'
import { TextSource } from './text-source.ts'
import type { Source } from './source.ts'
import type { ReplicaState } from './state.ts'
import { readSet } from './stored-sets.ts'
import { Told } from './told.ts'
import { checkTransactionBytes, transactionBytes, Writer } from './writer.ts'

export interface StoreOptions {
  readonly engine: Engine
  readonly identity: IdentityStore
  /** Where local transactions count before the engine has them; left out, they count when it has. */
  readonly redoFile?: RedoFile | undefined
  readonly system: System
  readonly encodings: Encodings
  readonly resolver: Resolver
  readonly resolverVersion: string
  readonly transactionBytesMax: number
  /** How long a member may be unseen before it is not waited for any more. */
  readonly memberTtlMs: number
  readonly onError: ErrorListener
  /** Closes and opens the engine again after a failed write, when there is hope, until `look` succeeds; undefined if that needs nothing. */
  readonly reopen?: Reopen | undefined
  /** Makes durable what a synced write leaves to chance; undefined if that is nothing. */
  readonly syncFullLogs?: () => Promise<void>
  /** A batch has been committed. */
  readonly onCommit: (unit: Unit, local: boolean) => void
  /** An apply phase begins or ends, or the repair of a hole has ended. */
  readonly onApplying: (applying: boolean) => void
  /** Whether {@link onReport} is wanted. */
  readonly reports: () => boolean
  /** What became visible that others wrote. */
  readonly onReport: (report: MergeReport) => void
}

/** Looking a key up costs as much as scanning so many. */
const scanWorth = 4

export class Store {
  readonly #options: StoreOptions
  readonly #state: ReplicaState
  readonly #writer: Writer
  readonly #derivation: Derivation
  readonly members: Members
  readonly feed: Feed
  readonly intake: Intake
  readonly housekeeping: Housekeeping
  readonly #repair: Repair
  readonly #redo: RedoLog | undefined
  readonly #durable = new VersionVector()
  /** Background work that has to end before the engine closes. */
  readonly #background = new Set<Promise<void>>()
  readonly told: Told
  #leaving: Promise<void> | undefined
  /** Whether the disk says that a log is being left. */
  #leavingSaved: boolean
  #closing = false

  private constructor (options: StoreOptions, { state, redo, told }: Opening, derivation: Derivation) {
    this.#options = options
    this.#state = state
    this.#redo = redo
    this.#leavingSaved = state.leaving !== undefined
    this.feed = new Feed(state)
    this.told = new Told(state, options.identity, told)
    this.#derivation = derivation
    this.#writer = new Writer(state, {
      system: options.system,
      redo,
      // What an apply phase writes is no unit: only its last batch advances the vector, for all of them.
      recordsUnits: (remote) => this.feed.records(remote) && !this.applying && !this.repairing && !this.leaving,
      onCommit: (unit, local) => {
        this.feed.push(unit)
        state.recentKeys.committed(unit, state.ownLog)
        if (state.journal.due) this.#inBackground(state.journal.take(state.engine))
        if (this.repairing && this.#repair.complete) this.#inBackground(this.endRepair())
        this.housekeeping.changed()
        if (unit.changes.length > 0 || unit.collected.length > 0) options.onCommit(unit, local)
      },
      // Without one the redo log would have nowhere to go to.
      reopen: options.reopen ?? (redo === undefined ? undefined : async (look) => { await look() }),
      onReopened: () => { this.#inBackground(this.#reopened()) },
      onError: options.onError
    })
    this.#repair = new Repair(state, this.#writer, derivation)
    this.members = new Members({ self: state.replica, monotonicMs: () => options.system.monotonicMs(), memberTtlMs: options.memberTtlMs, onChange: () => { this.housekeeping.changed() } })
    this.housekeeping = new Housekeeping({
      state,
      writer: this.#writer,
      derivation,
      members: this.members,
      durable: this.#durable,
      flush: async () => { await this.flush() },
      saveMembers: async () => {
        await this.#saveMembers()
        await this.intake.dropStageInTime()
      },
      applying: () => this.applying || this.repairing || this.leaving,
      transactionBytesMax: options.transactionBytesMax,
      system: options.system,
      onError: options.onError
    })
    this.intake = new Intake({ state, writer: this.#writer, derivation, members: this.members, collector: this.housekeeping.collector, reports: options.reports, onReport: options.onReport, onApplying: options.onApplying, unitEntriesMax: Math.max(options.transactionBytesMax, transactionBytesDefault) / operationBytes, yield: () => options.system.yield() })
  }

  /**
   * Takes over an open engine. The format is checked, the identity renewed, and the log kept or replaced.
   *
   * @throws `REPLICATION_NOT_A_REPLICA`, `REPLICATION_FORMAT_UNKNOWN`, `REPLICATION_CORRUPT`
   */
  static async open (options: StoreOptions): Promise<Store> {
    const derivation = new Derivation(options)
    const opening = await openState(options)
    const store = new Store(options, opening, derivation)
    try {
      await store.#begin(opening)
    } catch (error) {
      store.#closing = true
      await store.housekeeping.stop()
      await Promise.allSettled(store.#background)
      options.identity.letGo()
      throw error
    }
    return store
  }

  async #begin ({ state, fresh, told, hole, repairing, tailLost, save }: Opening): Promise<void> {
    const options = this.#options
    await this.members.load(state.engine)
    this.members.met(state.replica)
    if (hole !== undefined) this.members.rewind(state.replica, state.vector)
    await this.#saveMembers(save)
    await options.identity.remembered().catch(() => {}) // what is left says nothing new
    try { this.told.note(told) } catch {} // then the next open begins a new log
    if (fresh) await writeOut(state.engine)
    this.#durable.join(state.vector)
    if (hole !== undefined) options.onError(new ReplicationError(`LevelDB has lost ${hole.lost} of the last ${hole.since} batches from its write-ahead log; peers are asked for them, and the others are written again if need be`, { code: 'REPLICATION_HOLE' }))
    if (state.vector.size >= logsWarned) options.onError(new ReplicationError(`The group has written ${state.vector.size} logs, of at most ${logsMax}`, { code: 'REPLICATION_TOO_MANY_LOGS' }))
    if (tailLost) options.onError(new ReplicationError('LevelDB has lost the end of its write-ahead log, of which peers have been told: this replica writes on in a new log, and they bring back what they have', { code: 'REPLICATION_LOG_REPLACED' }))
    if (repairing) await this.#repair.begin(this.housekeeping.collector)
    if (state.leaving !== undefined) await this.leaveLog()
    const recovery = await this.intake.recover()
    this.#inBackground(recovery.done)
    this.#inBackground(this.#loadSiblings())
  }

  get replica (): ReplicaId {
    return this.#state.replica
  }

  get ownLog (): LogId {
    return this.#state.ownLog
  }

  /** What this replica knows; a live view. */
  get vector (): ReadonlyVersionVector {
    return this.#state.vector
  }

  /** Tombstones up to here have been forgotten; a live view. */
  get collected (): ReadonlyVersionVector {
    return this.#state.collected
  }

  /** What of the vector is certain to survive a power loss; a live view. */
  get durable (): ReadonlyVersionVector {
    return this.#durable
  }

  /** What a sweep or a collection is still to remove, as far as that is known. */
  get garbage (): { tombstones: { count: number, conflicts: number }, log: { live: number, written: number, forgotten: number } } {
    const { live, written, forgotten, tombstonesMax } = this.#state.tally
    return { tombstones: { count: tombstonesMax, conflicts: this.housekeeping.collector.held.length }, log: { live: live.all, written: written.all, forgotten } }
  }

  get applying (): boolean {
    return this.intake.applying
  }

  /** Whether a hole is being made up for. Nothing may be sent. */
  get repairing (): boolean {
    return this.#repair.active
  }

  /** Whether a log is being left that is in other hands. Nobody may be linked. */
  get leaving (): boolean {
    return this.#state.leaving !== undefined
  }

  /** Makes up for the rest of a hole with what is here. */
  async endRepair (): Promise<void> {
    await this.#repair.end()
    this.#options.onApplying(this.applying)
  }

  /**
   * Commits a transaction: all of it or nothing, with its replication record.
   *
   * @throws `REPLICATION_TRANSACTION_TOO_LARGE`, or what LevelDB throws
   */
  commit (operations: readonly Operation[], sync: boolean): Promise<void> {
    const bytes = transactionBytes(operations)
    checkTransactionBytes(bytes, operations, this.#options.transactionBytesMax)
    return this.#writer.commit(operations, sync, bytes)
  }

  /** @param sync whether all of it is on disk when this resolves */
  async clear (options: RangeOptions, sync = false): Promise<void> {
    await clearRange(this.#state, this.#writer, options, sync, () => this.#options.system.nowMs())
    if (sync) await this.#options.syncFullLogs?.()
  }

  /** The last write to a user's key, if the engine may not have it yet. */
  find (key: Bytes): MemtableEntry | undefined {
    return this.#writer.find(key)
  }

  /** All that {@link find} finds now in a range, by keys as binary strings; undefined if that is nothing. */
  pending (range: RangeOptions = {}): Pending {
    return this.#writer.pending(range)
  }

  /** Returns what `take` returns, called when the engine has all that is committed now. Rejects if the disk takes no more writes. */
  atMoment<T> (take: () => T): Promise<T> {
    return this.#writer.atMoment(take)
  }

  /** Makes everything committed so far durable, and returns its vector. */
  async flush (): Promise<ReadonlyVersionVector> {
    let vector = this.#state.vector.clone()
    let { replica } = this
    await this.#saveMembers((batch) => {
      replica = this.replica
      vector = this.#state.vector.clone()
      if (this.#state.leaving !== undefined) vector.rewind(this.#state.leaving) // what is beyond goes on under another name
      batch.sync = true
    })
    await this.#options.syncFullLogs?.()
    if (this.replica !== replica) return await this.flush() // a log is left, and something else stands in it from now on
    this.#durable.join(vector)
    this.members.acknowledge(this.replica, vector)
    this.housekeeping.changed()
    return vector
  }

  /** A batch with what is new of the members, and what else has to be in it. */
  async #saveMembers (fill: (batch: InnerBatch) => void | Promise<void> = () => {}): Promise<void> {
    let saved = (): void => {}
    await this.#writer.run(async (batch) => {
      await fill(batch)
      saved = this.members.save(batch)
      return true
    })
    saved()
  }

  /** Begins to read, at one snapshot, what a peer with this vector lacks; if it may be, from where it stands already. */
  async openSource (base: ReadonlyVersionVector, resume?: ResumePoint): Promise<Source> {
    let source: Source | undefined
    await this.#writer.run(() => {
      const { engine } = this.#state
      const vector = this.#state.vector.clone()
      const missing = vector.operationsBeyond(base)
      const options = { engine, snapshot: engine.snapshot(), vector, collected: this.#state.collected.clone(), base, entries: missing, feedNumber: this.feed.end, yield: () => this.#options.system.yield(), mayHaveRecord: this.#state.versionKeys.atSnapshot() }
      const fenced = !base.dominates(this.#state.collected)
      const most = missing * scanWorth > this.#state.tally.liveMax
      const resumes = resume !== undefined && mayResume(resume, vector, options.collected) && !(fenced && resume.kind === 'catch-up')
      const Scan = base.size === 0 ? TextSource : ScanSource
      source = resumes ? new ResumedSource(resume, options, most) : fenced ? new Scan('transfer', options) : most ? new Scan('catch-up', options) : new LogSource(options)
      return false
    })
    return source!
  }

  /**
   * Goes on as another replica, in a new log, into which it takes what only it has of the old one: that is in other hands,
   * too. Nobody may be linked. To be called again if it fails.
   */
  leaveLog (): Promise<void> {
    this.#leaving ??= this.#leaveLog().finally(() => { this.#leaving = undefined })
    return this.#leaving
  }

  async #leaveLog (): Promise<void> {
    const { housekeeping, intake } = this
    const state = this.#state
    await housekeeping.pause()
    try {
      await intake.settled()
      if (this.applying) throw new ReplicationError('A delivery is half applied', { code: 'REPLICATION_INTERNAL' })
      const leaving = state.leaving ??= this.told.last
      if (!this.#leavingSaved) {
        await this.#saveMembers((batch) => {
          batch.sync = true
          beginLeaving(state, leaving)
          this.members.become(state.replica)
        })
        this.#leavingSaved = true
      }
      this.#forget(leaving)
      for (let more = true; more;) {
        if (this.#closing) return
        await this.#writer.run(async (batch) => {
          more = await leaveStep(state, this.#derivation, batch, leaving)
          return true
        })
      }
      state.leaving = undefined
      this.#leavingSaved = false
      this.told.note(this.told.last)
      await this.#saveMembers()
      await intake.dropStage()
    } finally {
      housekeeping.resume()
    }
  }

  /** What is on disk of a log beyond this, here or elsewhere, is something else or has another name. */
  #forget (entry: Advance): void {
    this.#durable.rewind(entry)
    this.members.forget(entry)
    this.housekeeping.collector.forget(entry)
  }

  /** Does not count a member any more. Resolves when that is on disk. */
  async retire (replica: ReplicaId): Promise<void> {
    this.members.retire(replica)
    await this.#saveMembers((batch) => { batch.sync = true })
  }

  /** All concurrent versions of a key, the visible one first. */
  async versions (key: Buffer): Promise<Version[]> {
    const held = this.find(key)
    if (held !== undefined) return this.versionsOf(key, [held], [valueOfEntry(held, 'buffer') as Buffer | undefined])
    const snapshot = this.#state.engine.snapshot()
    try {
      const siblings = await readSet(this.#state, key, { snapshot })
      return this.versionsOf(key, siblings, await this.#valuesOf(key, siblings, snapshot))
    } finally {
      await snapshot.close()
    }
  }

  /** The same, of versions at hand. */
  versionsOf (key: Uint8Array, siblings: SiblingSet, values: SiblingValues): Version[] {
    return this.#derivation.visibleFirst(key, siblings, values)
  }

  /** Keys in a range that have more than one version, at least one of them a value; in no order but the store's. */
  async * conflicts (range: RangeOptions): AsyncGenerator<{ key: Buffer, versions: Version[] }> {
    const { siblingKeys, engine } = this.#state
    let { limit = -1 } = range
    if (siblingKeys.none || limit === 0) return
    const pending = this.pending(range)
    const snapshot = engine.snapshot()
    try {
      for await (const [key, record] of engine.iterator<Buffer, Buffer>({ ...inVersions(range), reverse: range.reverse, ...buffers, snapshot, fillCache: false } as object)) {
        if (record[0] === 1) continue
        const siblings = decodeSiblings(record)
        if (!holdsPut(siblings)) continue
        const user = key.subarray(1)
        if (pending?.has(keyText(user)) === true) continue // settled
        yield { key: user, versions: this.versionsOf(user, siblings, await this.#valuesOf(user, siblings, snapshot)) }
        if (--limit === 0) return
      }
    } finally {
      await snapshot.close()
    }
  }

  async #valuesOf (key: Buffer, siblings: SiblingSet, snapshot?: ReturnType<Engine['snapshot']>): Promise<Array<Buffer | undefined>> {
    const reading = snapshot === undefined ? buffers : { ...buffers, snapshot }
    const read = async (stored: Buffer): Promise<Buffer | undefined> => await this.#state.engine.get(stored, reading)
    return await Promise.all(siblings.map(async ({ type, log, sequence }) => {
      if (type === 'del') return undefined
      return siblings.length === 1 ? valueOf(await read(inKeyspace(keyspace.data, key))) : await read(siblingKey(key, log, sequence))
    }))
  }

  /**
   * Writes what is queued, remembers that the close is clean, and lets go of the engine, which stays open.
   *
   * Never fails: where the disk takes no more writes, closing and opening again is the only way on, and the close is just not a clean one.
   */
  async close (): Promise<void> {
    this.#closing = true
    this.intake.stop()
    await this.housekeeping.stop()
    await Promise.allSettled([...this.#background, this.#leaving])
    await this.#writer.drained()
    try {
      this.#options.identity.close()
      if (this.#state.journal.length > journalTrimMin) await this.housekeeping.trim()
      await this.#saveMembers((batch) => {
        batch.sync = true
        batch.putRaw(meta.cleanClose, Buffer.of(tallied))
        batch.putRaw(meta.tally, this.#state.tally.encode())
      })
      await writeOut(this.#state.engine) // else the next open has to, and is waited for
      await this.#redo?.remove().catch(() => {}) // what is left says nothing new
    } catch (cause) {
      this.#options.onError(backgroundError('The last write of a clean close failed', cause))
    }
    await this.#writer.drained()
    this.#redo?.close()
  }

  /** What was going on when a write failed goes on, from what is on disk. */
  async #reopened (): Promise<void> {
    this.told.reopened()
    this.#redo?.close()
    this.#state.siblingKeys.unload()
    this.members.changed()
    const work = [this.#loadSiblings()] // what a new resolver has not decided yet, too
    await this.intake.settled() // it was another write that failed
    if (this.applying) work.push((await this.intake.recover()).done)
    await Promise.all(work)
  }

  #inBackground (work: Promise<void>): void {
    const settled = work.catch((error) => {
      if (!this.#closing) this.#options.onError(backgroundError('Background work on the store failed', error))
    }).finally(() => { this.#background.delete(settled) })
    this.#background.add(settled)
  }

  /** Learns which keys have version records, and which siblings, and folds them again if the resolver has changed. */
  async #loadSiblings (): Promise<void> {
    const { engine, siblingKeys, versionKeys } = this.#state
    await versionKeys.load(engine, this.#writer)
    await siblingKeys.load(engine)
    const stored = await engine.get(meta.resolverVersion, buffers)
    const version = this.#options.resolverVersion
    if ((stored?.toString() ?? '') === version) return
    for await (const { key } of this.conflicts({})) {
      if (this.#closing) return
      await this.#foldAgain(key)
    }
    await writeOut(engine) // lest LevelDB should lose some of that, and not what says that it is done
    await this.#writer.run((batch) => {
      batch.putRaw(meta.resolverVersion, Buffer.from(version))
      return true
    })
  }

  async #foldAgain (key: Buffer): Promise<void> {
    await this.#writer.run(async (batch) => {
      const siblings = await readSet(this.#state, key)
      if (siblings.length < 2) return false
      const values = await this.#valuesOf(key, siblings)
      const outcome = this.#derivation.outcome(key, siblings, values)
      // The whole key, as whatever changes one: LevelDB may lose what made it so.
      batch.setKey(key)
      batch.putSet(siblings, outcome.type === 'put' ? outcome.version.valueBytes : undefined)
      batch.changeUnlogged()
      for (const [index, { type, log, sequence }] of siblings.entries()) if (type === 'put') batch.putSiblingValue(log, sequence, values[index]!)
      return true
    })
  }
}
