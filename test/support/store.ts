/**
 * Stores over memory-level, or over any engine, with an identity in memory, a clock that a test moves, and engines
 * that fail when they are told to; and the exchange of two stores without any network.
 */
import { setImmediate } from 'node:timers/promises'
import { MemoryLevel } from 'memory-level'
import { decodeData, encodeData, type DataMessage, type ResumePoint } from '../../lib/codec/message.ts'
import { encodeUnit } from './units.ts'
import { bytesEncodings } from '../../lib/encodings.ts'
import { lastWriterWins } from '../../lib/core/resolve.ts'
import type { VersionVector } from '../../lib/core/version-vector.ts'
import type { Advance, ReadonlyVersionVector } from '../../lib/core/version-vector.ts'
import type { ReplicationError } from '../../lib/errors.ts'
import { memberTtlDefaultMs, stampedValueMax, transactionBytesDefault } from '../../lib/limits.ts'
import { valueOf } from '../../lib/storage/data-record.ts'
import type { Delivery } from '../../lib/storage/delivery.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import type { Followed, Identity, IdentityStore } from '../../lib/storage/identity.ts'
import type { Operation } from '../../lib/storage/local.ts'
import type { MergeReport } from '../../lib/storage/merge.ts'
import { LogSource } from '../../lib/storage/log-source.ts'
import { ScanSource } from '../../lib/storage/scan-source.ts'
import type { RedoFile } from '../../lib/storage/redo-log.ts'
import type { Source } from '../../lib/storage/source.ts'
import { Store, type StoreOptions } from '../../lib/storage/store.ts'
import type { Unit } from '../../lib/storage/unit.ts'
import type { Version } from '../../lib/types.ts'
import { VirtualSystem } from './virtual-system.ts'

/** A directory's identity without a directory. */
export class MemoryIdentity implements IdentityStore {
  current: Identity | undefined
  bootId = 'boot'
  #told: Advance | undefined
  #renewals = 0

  async read (): Promise<Identity | undefined> {
    return this.current === undefined ? undefined : { ...this.current, bootId: this.bootId }
  }

  async draft (): Promise<void> {}

  async renew (nonce: string, follows: Followed | undefined): Promise<Identity> {
    this.#renewals++
    this.current = { nonce, follows, inode: String(this.#renewals), birthTime: '1', changeTime: String(this.#renewals), bootId: this.bootId }
    return this.current
  }

  async remembered (): Promise<void> {
    if (this.current !== undefined) this.current = { ...this.current, follows: undefined }
  }

  async told (): Promise<Advance | undefined> {
    return this.#told
  }

  tell (told: Advance): void {
    this.#told = told
  }

  letGo (): void {}

  close (): void {}

  /** That of a copy which takes itself for the original. */
  clone (): MemoryIdentity {
    const identity = new MemoryIdentity()
    identity.current = this.current
    identity.#told = this.#told
    return identity
  }
}

interface PrivateMemory {
  _batch (operations: unknown[], options: { sync?: boolean }): Promise<void>
}

const plainBatch = (MemoryLevel.prototype as unknown as PrivateMemory)._batch

/** memory-level that counts its batches, and fails those that a test picks. */
export class FaultyMemory extends MemoryLevel<Buffer, Buffer> {
  /** What each batch that was written was asked, in their order. */
  readonly written: Array<{ operations: number, sync: boolean }> = []
  /** Throws if the batch with this number, counted from 0, is to fail. */
  beforeBatch: (number: number) => unknown = () => {}
  #asked = 0

  get asked (): number {
    return this.#asked
  }

  async _batch (operations: unknown[], options: { sync?: boolean }): Promise<void> {
    await this.beforeBatch(this.#asked++)
    await plainBatch.call(this, operations, options)
    this.written.push({ operations: operations.length, sync: options.sync === true })
  }

  /** Lets the next `count` batches fail. */
  failNext (count = 1): void {
    const from = this.#asked
    this.beforeBatch = (number) => { if (number >= from && number < from + count) throw new Error('disk full') }
  }

  /** Lets every batch fail from the `after`th on that is to come: the process is as good as dead. */
  dieAfter (after: number): void {
    const from = this.#asked + after
    this.beforeBatch = (number) => { if (number >= from) throw new Error('dead') }
  }

  revive (): void {
    this.beforeBatch = () => {}
  }
}

/** The file of a redo log, in memory. */
export class MemoryRedoFile implements RedoFile {
  bytes = Buffer.alloc(0)
  /** How many records have been written. */
  written = 0
  /** Throws if the next record is not to be written. */
  beforeWrite: () => void = () => {}

  async read (): Promise<Buffer> {
    return Buffer.from(this.bytes)
  }

  write (bytes: Buffer, position: number): void {
    this.beforeWrite()
    const end = position + bytes.length
    if (end > this.bytes.length) this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end - this.bytes.length)])
    bytes.copy(this.bytes, position)
    this.written++
  }

  /** Lets the next record fail. */
  failNext (): void {
    this.beforeWrite = () => {
      this.beforeWrite = () => {}
      throw new Error('no space left on device')
    }
  }

  async remove (): Promise<void> {
    this.bytes = Buffer.alloc(0)
  }

  close (): void {}

  /** What the next process finds. */
  clone (): MemoryRedoFile {
    const file = new MemoryRedoFile()
    file.bytes = Buffer.from(this.bytes)
    return file
  }
}

export function newMemory (): FaultyMemory {
  return new FaultyMemory({ keyEncoding: 'buffer', valueEncoding: 'buffer', storeEncoding: 'buffer' })
}

/** A store and all that it was made of. */
export class TestReplica {
  readonly store: Store
  readonly engine: Engine
  readonly identity: MemoryIdentity
  readonly system: VirtualSystem
  readonly errors: ReplicationError[]
  readonly reports: MergeReport[]
  readonly options: StoreOptions

  constructor (store: Store, identity: MemoryIdentity, system: VirtualSystem, errors: ReplicationError[], reports: MergeReport[], options: StoreOptions) {
    this.store = store
    this.engine = options.engine
    this.identity = identity
    this.system = system
    this.errors = errors
    this.reports = reports
    this.options = options
  }

  get memory (): FaultyMemory {
    return this.engine as unknown as FaultyMemory
  }

  async put (key: string, value: string): Promise<void> {
    await this.store.commit([put(key, value)], false)
  }

  async del (key: string): Promise<void> {
    await this.store.commit([del(key)], false)
  }

  async get (key: string): Promise<string | undefined> {
    const data = await this.engine.get(Buffer.from('`' + key), { keyEncoding: 'buffer', valueEncoding: 'buffer' }) as Buffer | undefined
    return valueOf(data)?.toString()
  }

  /** Everything that a user sees. */
  async data (): Promise<Record<string, string>> {
    const entries = await this.engine.iterator({ gte: Buffer.of(0x60), lt: Buffer.of(0x61), keyEncoding: 'buffer', valueEncoding: 'buffer' }).all()
    return Object.fromEntries(entries.map(([key, value]) => [(key as Buffer).toString('latin1', 1), valueOf(value as Buffer).toString()]))
  }

  async versions (key: string): Promise<Version[]> {
    return await this.store.versions(Buffer.from(key))
  }

  /** Values of all versions, sorted; `undefined` for deletes. */
  async values (key: string): Promise<Array<string | undefined>> {
    return (await this.versions(key)).map(({ valueBytes }) => valueBytes === undefined ? undefined : Buffer.from(valueBytes).toString()).sort()
  }

  /** Lets a store that was not closed, or was, be opened again over the same engine. */
  async reopened (options: ReplicaOptions = {}): Promise<TestReplica> {
    return await openReplica({ engine: this.engine, identity: this.identity, redoFile: this.options.redoFile, system: this.system, resolver: this.options.resolver, ...options })
  }
}

export const diskFull = Object.assign(new Error('disk full'), { code: 'ENOSPC' })

/** What waits for nothing but its turn has had it. */
export async function rest (): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await setImmediate()
}

/** The next batch fails, and is there all the same or is not. Returns whether that has been. */
export function failBatch ({ memory }: TestReplica, isThere: boolean): { done: boolean } {
  const write = memory._batch.bind(memory)
  const fail = { done: false }
  memory._batch = async (operations, options) => {
    memory._batch = write
    if (isThere) await write(operations, options)
    fail.done = true
    throw diskFull
  }
  return fail
}

/** Lets the engine not be read until the function is called that this returns: a del that has to look fails. */
export function failReads ({ memory }: TestReplica): () => void {
  const { getSync } = memory
  memory.getSync = (): never => { throw new Error('cannot be read') }
  return () => { memory.getSync = getSync }
}

/** From now on no batch gets into the engine until the function is called that this returns; those held till then fail if it is given a failure. */
export function holdBatches ({ memory }: TestReplica): (failure?: Error) => void {
  let release = (_failure?: Error): void => {}
  const held = new Promise<void>((resolve, reject) => { release = (failure) => { if (failure === undefined) resolve(); else reject(failure) } })
  memory.beforeBatch = () => held
  return (failure) => {
    memory.revive()
    release(failure)
  }
}

export interface ReplicaOptions extends Partial<StoreOptions> {
  seed?: number
}

let seeds = 0

/** Opens a store: over a new memory-level, unless the options say otherwise. */
export async function openReplica ({ seed = ++seeds, ...options }: ReplicaOptions = {}): Promise<TestReplica> {
  const system = options.system as VirtualSystem ?? new VirtualSystem({ seed })
  const identity = options.identity as MemoryIdentity ?? new MemoryIdentity()
  const errors: ReplicationError[] = []
  const reports: MergeReport[] = []
  const complete: StoreOptions = {
    engine: newMemory() as unknown as Engine,
    encodings: bytesEncodings('utf8', 'utf8'),
    resolver: lastWriterWins,
    resolverVersion: '',
    transactionBytesMax: transactionBytesDefault,
    memberTtlMs: memberTtlDefaultMs,
    onError: (error) => { errors.push(error) },
    onCommit: () => {},
    onApplying: () => {},
    reports: () => true,
    onReport: (report) => { reports.push(report) },
    ...options,
    system,
    identity
  }
  if (complete.engine.status !== 'open') await complete.engine.open()
  return new TestReplica(await Store.open(complete), identity, system, errors, reports, complete)
}

/** A value, of which every fourth is so long that it has a version record. */
export function valueNumber (number: number): string {
  return number % 4 === 0 ? `v${number}`.padEnd(stampedValueMax + 1) : `v${number}`
}

export function put (key: string, value: string): Operation {
  return { type: 'put', key: Buffer.from(key, 'latin1'), value: Buffer.from(value) }
}

export function del (key: string): Operation {
  return { type: 'del', key: Buffer.from(key, 'latin1') }
}

/** What a source sends, and how it finds it: a catch-up by the log, the same by a scan, or a transfer. */
export type Kind = 'catch-up' | 'scan' | 'transfer'

/** A source of a given kind, of a store that is at rest, if that may be; or of the kind that it chooses itself. */
export async function sourceOf (from: TestReplica, base: ReadonlyVersionVector, kind?: Kind, resume?: ResumePoint): Promise<Source> {
  const chosen = await from.store.openSource(base, resume)
  if (kind === undefined || (kind !== 'transfer' && !base.dominates(from.store.collected))) return chosen
  await chosen.close()
  const options = { engine: from.engine, snapshot: from.engine.snapshot(), vector: from.store.vector.clone(), collected: from.store.collected.clone(), base, entries: chosen.entries, feedNumber: chosen.feedNumber, yield: () => from.system.yield() }
  return kind === 'catch-up' ? new LogSource(options) : new ScanSource(kind === 'scan' ? 'catch-up' : kind, options)
}

/** Hands everything that `to` lacks from one store to the other, through the bytes of the protocol. */
export async function pull (to: TestReplica, from: TestReplica, kind?: Kind): Promise<{ kind: Source['kind'], resumes: boolean, entries: number, feedNumber: number, vector: VersionVector }> {
  const { source, delivery } = await beginDelivery(to, from, kind)
  try {
    let entries = 0
    for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
      entries += chunk.entries
      await delivery.add(passed({ type: 'chunk', bytes: chunk.bytes }).bytes)
    }
    await delivery.end(entries)
    return { kind: source.kind, resumes: source.resumes, entries, feedNumber: source.feedNumber, vector: source.vector.clone() }
  } finally {
    await source.close()
  }
}

/** The same, but for the source, which is gone after so many chunks. Returns how many entries had come. */
export async function pullSome (to: TestReplica, from: TestReplica, chunks: number, kind?: Kind): Promise<number> {
  const { source, delivery } = await beginDelivery(to, from, kind)
  for (let index = 0; index < chunks; index++) {
    const chunk = await source.next()
    if (chunk !== undefined) await delivery.add(passed({ type: 'chunk', bytes: chunk.bytes }).bytes)
  }
  await source.close()
  await delivery.abandon()
  return delivery.progress.received
}

/** Goes on with what `to` holds of an earlier one, unless the kind is given. */
async function beginDelivery (to: TestReplica, from: TestReplica, kind: Kind | undefined): Promise<{ source: Source, delivery: Delivery }> {
  const source = await sourceOf(from, to.store.vector.clone(), kind, to.store.intake.resumePoint)
  const begin = passed<Extract<DataMessage, { type: 'begin' }>>({ type: 'begin', kind: source.kind, resumes: source.resumes, vector: [...source.vector], collected: [...source.collected], entries: source.entries })
  return { source, delivery: to.store.intake.begin(begin.kind, begin.vector, begin.collected, begin.entries, begin.resumes) }
}

/** A message as it comes out at the other end. */
function passed<T extends Exclude<DataMessage, { type: 'unit' }>> (message: T): T {
  return decodeData(encodeData(message).subarray(1)) as T
}

/** Both ways, until neither lacks anything. */
export async function exchange (a: TestReplica, b: TestReplica, kind?: Kind): Promise<void> {
  await pull(a, b, kind)
  await pull(b, a, kind)
}

/** A live stream from one store to another, which begins with a catch-up. */
export class LiveStream {
  readonly #from: TestReplica
  readonly #to: TestReplica
  /** The sender's vector as the receiver knows it. */
  readonly #stream: VersionVector
  /** The sender's vector before its next unit. */
  readonly #before: VersionVector
  #number: number

  private constructor (from: TestReplica, to: TestReplica, vector: VersionVector, number: number) {
    this.#from = from
    this.#to = to
    this.#stream = vector.clone()
    this.#before = vector
    this.#number = number
  }

  static async open (from: TestReplica, to: TestReplica, kind?: Kind): Promise<LiveStream> {
    // A link is one for both.
    for (const { store } of [from, to]) store.feed.open()
    const { vector, feedNumber } = await pull(to, from, kind)
    return new LiveStream(from, to, vector, feedNumber)
  }

  /** Takes all units that are there from the feed, and hands them to the receiver; `'lost'` if it fell behind. */
  send (): Promise<void[]> | 'lost' {
    const units: Array<Unit & { body: Buffer }> = []
    for (let unit = this.#from.store.feed.at(this.#number); unit !== undefined; unit = this.#from.store.feed.at(this.#number + units.length)) {
      if (unit === 'lost' || unit.body === undefined) return 'lost'
      units.push(unit as Unit & { body: Buffer })
    }
    const applied: Array<Promise<void>> = []
    for (const unit of units) {
      const before = [...this.#before]
      this.#number++
      this.#before.join(unit.changes)
      const encoded = encodeUnit(before, unit.body)
      const message = decodeData(encoded.subarray(1)) as Extract<DataMessage, { type: 'unit' }>
      applied.push(this.#to.store.intake.apply({ stream: this.#stream, before: message.before, changes: message.changes, collected: message.collected, entries: message.entries, bytes: encoded.length }))
    }
    return Promise.all(applied)
  }

  close (): void {
    for (const { store } of [this.#from, this.#to]) store.feed.close()
  }
}
