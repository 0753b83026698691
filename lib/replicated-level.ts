/**
 * A Level database that replicates itself.
 *
 * Reads go straight to classic-level, under the prefix of the data keyspace. Writes go to the store, which commits
 * them together with their replication record. `open()` starts replication, `close()` ends it.
 */
import { AbstractLevel } from 'abstract-level'
import { ClassicLevel, type StartEndOptions } from 'classic-level'
import { bytesEncodings } from './encodings.ts'
import { ReplicationError, toReplicationError } from './errors.ts'
import { assertPath, completeOptions, type CompleteOptions, type ReplicatedLevelOptions } from './options.ts'
import { checkedPeers } from './network/peer-source.ts'
import type { PeerStatus } from './network/peer-status.ts'
import { Replicator } from './network/replicator.ts'
import { deriveGroupKeys } from './network/secret.ts'
import type { Discovery } from './network/discovery.ts'
import { Protection } from './network/tls.ts'
import type { Transport } from './network/transport.ts'
import { Replication, type OpenReplica } from './replication.ts'
import { valueOf } from './storage/data-record.ts'
import { buffers, bytesOf, type Bytes, type Engine } from './storage/engine.ts'
import { backUp } from './storage/backup.ts'
import { Reopener, syncFullLogs } from './storage/disk.ts'
import { IdentityFile, removeIdentityFile } from './storage/identity.ts'
import { DataBatch } from './storage/chained-batch.ts'
import { DataIterator, type IteratorSource } from './storage/iterator.ts'
import { dataKey } from './storage/keyspaces.ts'
import { inBytes, type Operation } from './storage/local.ts'
import { keyText, valueOfEntry, type MemtableEntry } from './storage/memtable.ts'
import type { MergedOptions } from './storage/merged.ts'
import type { MergeReport } from './storage/merge.ts'
import type { RangeOptions } from './storage/range.ts'
import { DirectoryRedoFile } from './storage/redo-file.ts'
import { DataSnapshot, inSnapshot, pendingAt, readAt, type ReadOptions } from './storage/snapshot.ts'
import { Store } from './storage/store.ts'
import type { Address, System, Version } from './types.ts'

/** What classic-level does behind abstract-level's public methods, which have normalised the options already. */
interface PrivateLevel extends IteratorSource {
  _get (key: Bytes, options: object): Promise<Bytes | undefined>
  _getSync (key: Bytes, options: object): Bytes | undefined
  _getMany (keys: Bytes[], options: object): Promise<Array<Bytes | undefined>>
  _has (key: Bytes, options: object): Promise<boolean>
  _hasMany (keys: Bytes[], options: object): Promise<boolean[]>
}

const manifest = {
  encodings: { buffer: true, utf8: true, view: true },
  has: true,
  getSync: true,
  explicitSnapshots: true,
  createIfMissing: true,
  errorIfExists: true,
  signals: { iterators: true },
  additionalMethods: { approximateSize: true, compactRange: true }
}

/** What a replica needs of its surroundings. */
export interface Surroundings {
  readonly system: System
  readonly transport: (protection: Protection | undefined) => Transport
  /** Finds peers; left out where that is not to be. */
  readonly finder?: Discovery
}

/** abstract-level's class, with the types of classic-level's methods: this database takes the same options. */
const LevelBase = AbstractLevel as unknown as new <K, V> (manifest: object, options?: object) => ClassicLevel<K, V>

/** What listeners are given, beside abstract-level's events. */
export interface ReplicationEvents<K = string, V = string> {
  /** It listens there. */
  listening: [address: Address]
  /** A link that was dialled from here is greeted. */
  connect: [host: string, port: number]
  /** A link that was dialled from there is greeted. */
  connection: [host: string, port: number]
  /** A link that was greeted has ended; without an error when the database is closed. */
  disconnect: [host: string, port: number, error: ReplicationError | undefined]
  /** This replica has all that the peer had when it connected. */
  sync: [peer: PeerStatus]
  /** Writes of others have become visible here. */
  replicate: [versions: Array<Version<K, V>>]
  /** A key has got concurrent versions. */
  conflict: [conflict: { key: K, versions: Array<Version<K, V>> }]
  /** Something in the background failed; emitted only if somebody listens. */
  error: [error: ReplicationError]
}

export interface ReplicatedLevelBase<K = string, V = string> {
  on<Event extends keyof ReplicationEvents>(event: Event, listener: (...args: ReplicationEvents<K, V>[Event]) => void): this
  on(event: string | symbol, listener: (...args: any[]) => void): this
  once<Event extends keyof ReplicationEvents>(event: Event, listener: (...args: ReplicationEvents<K, V>[Event]) => void): this
  once(event: string | symbol, listener: (...args: any[]) => void): this
  off<Event extends keyof ReplicationEvents>(event: Event, listener: (...args: ReplicationEvents<K, V>[Event]) => void): this
  off(event: string | symbol, listener: (...args: any[]) => void): this
}

export class ReplicatedLevelBase<K = string, V = string> extends LevelBase<K, V> {
  /** Replication: peers, versions, conflicts, status. */
  readonly replication: Replication<K, V>
  readonly #location: string
  readonly #surroundings: Surroundings
  readonly #options: CompleteOptions
  readonly #encodings: ReturnType<typeof bytesEncodings>
  #level: ClassicLevel<Buffer, Buffer> | undefined
  #reopener: Reopener | undefined
  #store: Store | undefined
  #replica: OpenReplica | undefined
  /** How many calls of `close()` are under way, which wait for an `open()` that is. */
  #closing = 0

  constructor (surroundings: Surroundings, location: string, options?: ReplicatedLevelOptions<K, V> | null) {
    options ??= {}
    assertPath(location, "first argument 'location'")
    const complete = completeOptions(options)
    const peers = checkedPeers(complete.peers)
    super(manifest, options)
    this.#location = location
    this.#surroundings = surroundings
    this.#options = Object.freeze({ ...complete, peers })
    this.#encodings = bytesEncodings(options.keyEncoding, options.valueEncoding)
    this.replication = new Replication<K, V>(complete.group, {
      encode: (key) => {
        if (key === undefined || key === null) throw new ReplicationError('Key cannot be null or undefined', { code: 'LEVEL_INVALID_KEY' })
        return Buffer.from(bytesOf(this.keyEncoding().encode(key)) as string)
      },
      decode: this.#encodings.decodeKey
    }, () => this.#replica)
  }

  /** The directory that was given to the constructor. */
  override get location (): string {
    return this.#location
  }

  async _open (options: { createIfMissing: boolean, multithreading?: boolean }): Promise<void> {
    if (options.multithreading === true) completeOptions({ multithreading: true })
    const identity = new IdentityFile(this.#location, this.#surroundings.system)
    await identity.prepare(options.createIfMissing)
    const level = new ClassicLevel<Buffer, Buffer>(this.#location, buffers)
    try {
      await level.open({ ...options, passive: false })
    } catch (error) {
      throw (error as Error).cause ?? error
    }
    this.#reopener = new Reopener({ level: level as unknown as Engine, directory: this.#location, options, system: this.#surroundings.system })
    try {
      await this.#start(level, identity)
    } catch (error) {
      await this.#stop().catch(() => {})
      await level.close()
      throw error
    }
    this.#level = level
  }

  /** Opens the store, then begins to replicate. */
  async #start (level: ClassicLevel<Buffer, Buffer>, identity: IdentityFile): Promise<void> {
    const { system, transport, finder } = this.#surroundings
    const protecting = protect(this.#options)
    protecting.catch(() => {}) // awaited when the store is open
    const onError = (error: ReplicationError): void => { this.#emitError(error) }
    const changed = (): void => { this.#replica?.replicator.mesh.changed() }
    const store = this.#store = await Store.open({
      ...this.#options,
      engine: level as unknown as Engine,
      identity,
      redoFile: new DirectoryRedoFile(this.#location),
      system,
      encodings: this.#encodings,
      onError,
      reopen: async (look) => { await this.#reopener!.reopen(look) },
      syncFullLogs: async () => { await syncFullLogs(this.#location) },
      onCommit: changed,
      onApplying: changed,
      reports: () => this.listenerCount('replicate') > 0 || this.listenerCount('conflict') > 0,
      onReport: (report) => { this.#emitReport(report) }
    })
    const { protection, announcementKey } = await protecting
    const replicator = new Replicator({ ...this.#options, system, store, transport: transport(protection), protection, announcementKey, finder, onError, emit: (event, ...args) => { this.#emit(event, ...args) } })
    const backUpInto = async (directory: string): Promise<void> => {
      const takeSnapshot = (): ReturnType<Engine['snapshot']> => {
        store.told.tell() // now: when the copy is there this database may be closed
        return (level as unknown as Engine).snapshot()
      }
      await backUp(level as unknown as Engine, async () => await store.atMoment(takeSnapshot), directory, async (directory) => {
        const target = new ClassicLevel<Buffer, Buffer>(directory, buffers)
        try {
          await target.open({ errorIfExists: true })
        } catch (error) {
          throw (error as Error).cause ?? error // it is not this database that is not open
        }
        return target as unknown as Engine
      })
    }
    this.#replica = { store, replicator, backUp: backUpInto }
    if (this.#closing > 0) replicator.hurry()
    await replicator.open()
  }

  /** Ends replication, then closes the store, and leaves LevelDB open. */
  async #stop (): Promise<void> {
    await this.#reopener?.stop()
    await this.#replica?.replicator.close()
    this.#replica = undefined
    await this.#store?.close()
    this.#store = undefined
  }

  /** An `open()` that is under way does not wait for peers any more. */
  override close (): Promise<void> {
    this.#closing++
    this.#replica?.replicator.hurry()
    const closing = super.close() // whose turn is abstract-level's own: another open() may come right after it
    const done = (): void => { this.#closing-- }
    closing.then(done, done)
    return closing
  }

  async _close (): Promise<void> {
    await this.#stop()
    await this.#level?.close()
    this.#level = undefined
  }

  get #inner (): PrivateLevel {
    if (this.#reopener!.opening !== undefined) throw new ReplicationError('The database is being opened again, after a failed write', { code: 'LEVEL_DATABASE_NOT_OPEN' })
    return this.#level as unknown as PrivateLevel
  }

  // The inner database is read where what is held is the answer, too: who reads again and again lets others have their turn.

  _get (key: Bytes, options: ReadOptions): Promise<Bytes | undefined> {
    const opening = this.#reopener!.opening
    if (opening !== undefined) return opening.then(() => this._get(key, options))
    const held = this.#find(key, options)
    const reading = readAt(options, (options) => this.#inner._get(dataKey(key), options))
    return held === undefined ? reading.then(valueOf) : reading.then(() => valueOfEntry(held, options.valueEncoding))
  }

  _getSync (key: Bytes, options: ReadOptions): Bytes | undefined {
    const held = this.#find(key, options)
    const value = this.#inner._getSync(dataKey(key), inSnapshot(options))
    return held === undefined ? valueOf(value) : valueOfEntry(held, options.valueEncoding)
  }

  _getMany (keys: Bytes[], options: ReadOptions): Promise<Array<Bytes | undefined>> {
    const opening = this.#reopener!.opening
    if (opening !== undefined) return opening.then(() => this._getMany(keys, options))
    const held = this.#findMany(keys, options)
    const reading = readAt(options, (options) => this.#inner._getMany(keys.map(dataKey), options))
    return reading.then((data) => valuesOf(data, held, options))
  }

  _has (key: Bytes, options: ReadOptions): Promise<boolean> {
    const opening = this.#reopener!.opening
    if (opening !== undefined) return opening.then(() => this._has(key, options))
    const held = this.#find(key, options)
    const reading = readAt(options, (options) => this.#inner._has(dataKey(key), options))
    return held === undefined ? reading : reading.then(() => held.type === 'put')
  }

  _hasMany (keys: Bytes[], options: ReadOptions): Promise<boolean[]> {
    const opening = this.#reopener!.opening
    if (opening !== undefined) return opening.then(() => this._hasMany(keys, options))
    const held = this.#findMany(keys, options)
    const reading = readAt(options, (options) => this.#inner._hasMany(keys.map(dataKey), options))
    return held === undefined ? reading : reading.then((has) => has.map((has, index) => held[index] === undefined ? has : held[index].type === 'put'))
  }

  /** The last write to a key, if the inner database, or its snapshot, may not have it. */
  #find (key: Bytes, options: ReadOptions): MemtableEntry | undefined {
    return options.snapshot === undefined ? this.#store!.find(key) : pendingAt(options)?.get(keyText(key))
  }

  /** The same of several keys; undefined if that is none of them. */
  #findMany (keys: readonly Bytes[], options: ReadOptions): Array<MemtableEntry | undefined> | undefined {
    let held: Array<MemtableEntry | undefined> | undefined
    for (let index = 0; index < keys.length; index++) {
      const entry = this.#find(keys[index]!, options)
      if (entry !== undefined) (held ??= [])[index] = entry
    }
    return held
  }

  _put (key: Bytes, value: Bytes, options: { sync?: boolean }): Promise<void> {
    return this._batch([{ type: 'put', key, value }], options)
  }

  _del (key: Bytes, options: { sync?: boolean }): Promise<void> {
    return this._batch([{ type: 'del', key }], options)
  }

  _batch (operations: Operation[], options: { sync?: boolean }): Promise<void> {
    return this.#store!.commit(operations.map(inBytes), options.sync ?? this.#options.sync)
  }

  _chainedBatch (): DataBatch {
    return new DataBatch(this as never, (operations, options) => this._batch(operations, options))
  }

  async _clear (options: RangeOptions & { sync?: boolean }): Promise<void> {
    await this.#store!.clear(options, options.sync ?? this.#options.sync)
  }

  _iterator (options: MergedOptions): DataIterator {
    return new DataIterator(this as never, () => this.#inner, options.snapshot === undefined ? this.#store!.pending(options) : pendingAt(options), options, this.#reopener!)
  }

  _snapshot (options: object): DataSnapshot {
    const reopener = this.#reopener!
    const { generation } = reopener
    return new DataSnapshot(options, this.#level!.snapshot(), this.#store!.pending(), () => reopener.generation === generation)
  }

  /** About how many bytes of the file system the data of a range of keys uses, `start` included, `end` not. */
  override async approximateSize<TKey = K> (start: TKey, end: TKey, options?: StartEndOptions<TKey>): Promise<number> {
    const [from, to] = await this.#boundsOf('approximateSize', start, end, options)
    return await this.#level!.approximateSize(from, to)
  }

  /** Compacts a range of keys by hand. */
  override async compactRange<TKey = K> (start: TKey, end: TKey, options?: StartEndOptions<TKey>): Promise<void> {
    const [from, to] = await this.#boundsOf('compactRange', start, end, options)
    await this.#store!.atMoment(() => {})
    await this.#level!.compactRange(from, to)
  }

  async #boundsOf (method: string, start: unknown, end: unknown, options?: StartEndOptions<any>): Promise<[Buffer, Buffer]> {
    if (start === undefined || end === undefined) throw new TypeError("The arguments 'start' and 'end' are required")
    if (this.status === 'opening') return await this.deferAsync(async () => await this.#boundsOf(method, start, end, options))
    if (this.status !== 'open') throw new ReplicationError(`Database is not open: cannot call ${method}()`, { code: 'LEVEL_DATABASE_NOT_OPEN' })
    const encoding = this.keyEncoding(options?.keyEncoding as 'utf8')
    const bound = (key: unknown): Buffer => Buffer.from(dataKey(encoding.encode(key as string)) as string)
    return [bound(start), bound(end)]
  }

  /** Details of LevelDB, such as `'leveldb.stats'`. */
  override getProperty (property: string): string {
    if (typeof property !== 'string') throw new TypeError("The first argument 'property' must be a string")
    if (this.status !== 'open') throw new ReplicationError('Database is not open', { code: 'LEVEL_DATABASE_NOT_OPEN' })
    return this.#level!.getProperty(property)
  }

  /** Removes a database and nothing else from a directory. */
  static async destroy (location: string): Promise<void> {
    await ClassicLevel.destroy(location)
    await removeIdentityFile(location)
  }

  /** Tries to restore a damaged database, to be read and copied: what is gone does not come back from peers, nor need they get what is left. Where there is one, let it fill an empty directory instead. Refused while the database is open. */
  static async repair (location: string): Promise<void> {
    await assertNobodyHas(location)
    await ClassicLevel.repair(location)
  }

  #emitError (error: ReplicationError): void {
    if (this.listenerCount('error') > 0) this.#emit('error', error)
  }

  #emitReport ({ changed, conflicts }: MergeReport): void {
    if (changed.length > 0 && this.listenerCount('replicate') > 0) this.#emit('replicate', changed)
    if (this.listenerCount('conflict') === 0) return
    for (const { key, siblings, values } of conflicts) {
      this.#emit('conflict', { key: this.#encodings.decodeKey(key), versions: this.#store!.versionsOf(key, siblings, values) })
    }
  }

  /** A listener that throws must not stop replication, nor kill the process. */
  #emit (event: string, ...args: unknown[]): void {
    try {
      this.emit(event as 'open', ...args as [])
    } catch (error) {
      if (event !== 'error') this.#emitError(toReplicationError(error))
    }
  }
}

/**
 * LevelDB repairs a database that somebody has open, too, and what he has written and will write is lost. An open that cannot
 * succeed finds out: it is refused after the lock is taken, and before anything is read or removed.
 *
 * @throws `LEVEL_LOCKED`
 */
async function assertNobodyHas (location: string): Promise<void> {
  const level = new ClassicLevel(location)
  const cause = await level.open({ createIfMissing: false, errorIfExists: true }).catch((error: Error) => error.cause)
  if ((cause as { code?: string } | undefined)?.code === 'LEVEL_LOCKED') throw cause
}

function valuesOf (data: Array<Bytes | undefined>, held: Array<MemtableEntry | undefined> | undefined, { valueEncoding }: ReadOptions): Array<Bytes | undefined> {
  for (let index = 0; index < data.length; index++) {
    const entry = held?.[index]
    data[index] = entry === undefined ? valueOf(data[index]) : valueOfEntry(entry, valueEncoding)
  }
  return data
}

/** @throws `REPLICATION_INVALID_OPTION`, `LEVEL_NOT_SUPPORTED` */
async function protect ({ secret, tls, group }: CompleteOptions): Promise<{ protection: Protection | undefined, announcementKey: Uint8Array | undefined }> {
  if (secret === undefined) return { protection: tls === undefined ? undefined : Protection.byCertificate(tls), announcementKey: undefined }
  const { connection, announcement } = await deriveGroupKeys(secret, group)
  return { protection: Protection.bySecret(connection), announcementKey: announcement }
}
