/**
 * Sending what somebody lacks, at one LevelDB snapshot, in key order.
 *
 * A *catch-up* sends the keys of which the receiver lacks a version, a *state transfer* all keys: then a key that does
 * not come, and that both vectors cover, was deleted. Each key comes once, with its whole sibling set, as it stands on
 * disk, and with the values of exactly those versions that the receiver lacks. Both end at the vector of the snapshot.
 *
 * Which keys a catch-up needs can be learned from the log records that the receiver's vector does not cover, or from
 * a scan of all versions: the log is an index, and nothing else. The scan is the cheaper way if much is missing.
 */
import { ByteWriter } from '../codec/bytes.ts'
import { writeEntry, writeValue } from '../codec/entry.ts'
import { stampOffset } from '../codec/entry-scan.ts'
import { readUint32 } from '../codec/integers.ts'
import type { DeliveryKind } from '../codec/message.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import { readStampSequence, stampStartInText } from '../codec/stamp.ts'
import { logIdBytes, type LogId } from '../core/ids.ts'
import type { ReadonlyVersionVector } from '../core/version-vector.ts'
import { chunkBytes, MiB } from '../limits.ts'
import { buffers, type Engine } from './engine.ts'
import { siblingKey } from './keyspaces.ts'

type Snapshot = ReturnType<Engine['snapshot']>

export interface Chunk {
  readonly bytes: Buffer
  readonly entries: number
}

export interface Source {
  readonly kind: DeliveryKind
  /** Whether it goes on where the receiver stands. */
  readonly resumes: boolean
  /** The vector of the snapshot: what the receiver knows when it has everything. */
  readonly vector: ReadonlyVersionVector
  readonly collected: ReadonlyVersionVector
  /** About how many entries are to come. */
  readonly entries: number
  /** Number of the first unit of the feed that is not in the snapshot. */
  readonly feedNumber: number
  /** Encoded entries, about `chunkBytes` of them; undefined at the end. */
  next (): Promise<Chunk | undefined>
  close (): Promise<void>
}

export interface SourceOptions {
  readonly engine: Engine
  readonly snapshot: Snapshot
  readonly vector: ReadonlyVersionVector
  readonly collected: ReadonlyVersionVector
  /** What the receiver covers. */
  readonly base: ReadonlyVersionVector
  readonly entries: number
  readonly feedNumber: number
  /** Lets other work of the process have its turn. */
  readonly yield: () => Promise<void>
  /** Whether a key, as a binary string, may have a version record in the snapshot; each may if left out. */
  readonly mayHaveRecord?: (key: string) => boolean
  /** Keys are due that hold a version which this does not cover; `base` if left out. */
  readonly since?: ReadonlyVersionVector
  /** The last user key before those to be sent; all if left out. */
  readonly after?: Buffer | undefined
  /** The last user key to be sent; no bound if left out. */
  readonly upTo?: Buffer
}

const pageEntries = 1000

export interface PageIterator<Key, Value> {
  nextv (size: number): Promise<Array<[Key, Value]>>
  close (): Promise<void>
}

/** What all sources share: reading at a snapshot, and packing entries into chunks. */
export abstract class SnapshotSource implements Source {
  readonly kind: DeliveryKind
  readonly resumes = false
  readonly vector: ReadonlyVersionVector
  readonly collected: ReadonlyVersionVector
  readonly entries: number
  readonly feedNumber: number
  protected readonly base: ReadonlyVersionVector
  protected readonly since: ReadonlyVersionVector
  protected readonly engine: Engine
  protected readonly reading: { snapshot: Snapshot, fillCache: boolean, keyEncoding: 'buffer', valueEncoding: 'buffer', highWaterMarkBytes: number }
  readonly #snapshot: Snapshot
  readonly #pages: Array<{ close (): Promise<void> }> = []
  readonly #writer = new ByteWriter(chunkBytes * 2)
  #packed = 0
  #log = '' as LogId
  #logHigh = -1
  #logLow = -1
  #logSequence = 0

  constructor (kind: DeliveryKind, options: SourceOptions) {
    this.kind = kind
    this.engine = options.engine
    this.vector = options.vector
    this.collected = options.collected
    this.base = options.base
    this.since = options.since ?? options.base
    this.entries = options.entries
    this.feedNumber = options.feedNumber
    this.#snapshot = options.snapshot
    this.reading = { snapshot: options.snapshot, fillCache: false, highWaterMarkBytes: MiB / 4, ...buffers }
  }

  /** Packs a few entries more; false at the end. */
  protected abstract pack (): Promise<boolean>

  async next (): Promise<Chunk | undefined> {
    while (!this.full && await this.pack());
    const entries = this.#packed
    this.#packed = 0
    return entries === 0 ? undefined : { bytes: this.#writer.take(), entries }
  }

  /** Whether the chunk at hand is large enough. */
  protected get full (): boolean {
    return this.#writer.length >= chunkBytes
  }

  async close (): Promise<void> {
    for (const pages of this.#pages) await pages.close()
    await this.#snapshot.close()
  }

  /** @param encodings instead of those of {@link reading} */
  protected iterate<Key = Buffer, Value = Buffer> (range: object, encodings: object = {}): Pages<Key, Value> {
    const pages = new Pages(this.engine.iterator({ ...range, ...this.reading, ...encodings } as object) as unknown as PageIterator<Key, Value>)
    this.#pages.push(pages)
    return pages
  }

  /** Whether the receiver has to be told of a version of this set. */
  protected isDue (record: Buffer): boolean {
    if (record[0] === 1) return this.isStampDue(record, stampOffset)
    return decodeSiblings(record).some(({ log, sequence }) => !this.since.covers(log, sequence))
  }

  /**
   * Whether the receiver has to be told of the version whose stamp stands from `start` to the end, without decoding it: most sets
   * are of one version, and most of them of the same log as the one before.
   */
  protected isStampDue (bytes: Buffer, start: number): boolean {
    const high = readUint32(bytes, start)
    const low = readUint32(bytes, start + 4)
    if (high !== this.#logHigh || low !== this.#logLow) {
      this.#logHigh = high
      this.#logLow = low
      this.#log = bytes.latin1Slice(start, start + logIdBytes) as LogId
      this.#logSequence = this.since.sequenceOf(this.#log)
    }
    return this.#logSequence === 0 || readStampSequence(bytes, start, bytes.length) > this.#logSequence
  }

  /** Packs a key that has one version; `value` if the receiver lacks it, and it is a put. `key` is in some keyspace. */
  protected packSingle (key: Buffer | string, record: Buffer, value: Buffer | string | undefined): void {
    this.#packed++
    if (typeof key === 'string') this.#writer.text(key.slice(1))
    else this.#writer.varint(key.length - 1).part(key, 1, key.length)
    this.#writer.raw(record)
    if (record[1] === 1) writeValue(this.#writer, value)
  }

  /** The same, of a value with its stamp. @param due whether the receiver lacks it */
  protected packStamped (key: Buffer, data: Buffer, start: number, due: boolean): void {
    this.#packed++
    this.#writer.varint(key.length - 1).part(key, 1, key.length).byte(1).byte(1).part(data, start, data.length)
    if (due) this.#writer.varint(start + 1).part(data, 0, start)
    else this.#writer.varint(0)
  }

  /** The same, as text. */
  protected packStampedText (key: string, data: string): void {
    this.#packed++
    const start = stampStartInText(data)
    const length = Buffer.byteLength(data) - (data.length - start)
    this.#writer.text(key.slice(1)).byte(1).byte(1).latin1(data, start).varint(length + 1).utf8(data.slice(0, start), length)
  }

  /** Packs a key that has several. */
  protected async packSiblings (key: Buffer, record: Buffer): Promise<void> {
    this.#packed++
    const user = key.subarray(1)
    const siblings = decodeSiblings(record)
    const values = await Promise.all(siblings.map(async ({ type, log, sequence }) => type === 'put' && !this.base.covers(log, sequence)
      ? await this.engine.get(siblingKey(user, log, sequence), this.reading)
      : undefined))
    writeEntry(this.#writer, { key: user, siblings, values })
  }
}

/** An iterator, read many entries at a time and one page ahead, with a look at the next one. */
export class Pages<Key = Buffer, Value = Buffer> {
  readonly #iterator: PageIterator<Key, Value>
  #page: Array<[Key, Value]> = []
  #ahead: Promise<Array<[Key, Value]>> | undefined
  #index = 0
  #ended = false

  constructor (iterator: PageIterator<Key, Value>) {
    this.#iterator = iterator
  }

  /** Reads on, if nothing that was read is left. */
  async fill (): Promise<void> {
    if (!this.drained) return
    const page = await (this.#ahead ?? this.#iterator.nextv(pageEntries))
    this.#page = page
    this.#index = 0
    this.#ended = page.length === 0
    this.#ahead = this.#ended ? undefined : this.#iterator.nextv(pageEntries)
    this.#ahead?.catch(() => {}) // thrown where it is awaited
  }

  /** The next entry, after {@link fill}; undefined at the end. */
  get head (): [Key, Value] | undefined {
    return this.#page[this.#index]
  }

  /** Whether the next call of {@link fill} has to read. */
  get drained (): boolean {
    return this.#index >= this.#page.length && !this.#ended
  }

  get ended (): boolean {
    return this.#ended
  }

  shift (): void {
    this.#index++
  }

  async close (): Promise<void> {
    await this.#iterator.close()
  }
}

/** The data and the version record of each key, in key order: one of them or both. */
export class StoredKeys<Key extends Buffer | string> {
  readonly #data: Pages<Key, Key>
  readonly #versions: Pages<Key, Buffer>
  readonly #compare: (a: Key, b: Key) => number
  /** In one keyspace or the other. */
  key!: Key
  data: Key | undefined
  record: Buffer | undefined

  /** @param compare keys of two keyspaces, by the bytes of the user's key */
  constructor (data: Pages<Key, Key>, versions: Pages<Key, Buffer>, compare: (a: Key, b: Key) => number) {
    this.#data = data
    this.#versions = versions
    this.#compare = compare
  }

  /** Goes to the next key; false if there is none, or {@link fill} has to read on. */
  next (): boolean {
    const data = this.#data.head
    const version = this.#versions.head
    if ((data === undefined && !this.#data.ended) || (version === undefined && !this.#versions.ended)) return false
    if (data === undefined && version === undefined) return false
    const order = version === undefined ? -1 : data === undefined ? 1 : this.#compare(data[0], version[0])
    this.data = order <= 0 ? data![1] : undefined
    this.record = order >= 0 ? version![1] : undefined
    this.key = order <= 0 ? data![0] : version![0]
    if (order <= 0) this.#data.shift()
    if (order >= 0) this.#versions.shift()
    return true
  }

  /** Reads on; false if nothing is left. */
  async fill (): Promise<boolean> {
    await this.#data.fill()
    await this.#versions.fill()
    return this.#data.head !== undefined || this.#versions.head !== undefined
  }
}

/** Of keys in two keyspaces. */
export function compareKeys (a: Buffer, b: Buffer): number {
  const length = Math.min(a.length, b.length)
  for (let index = 1; index < length; index++) if (a[index] !== b[index]) return a[index]! - b[index]!
  return a.length - b.length
}
