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
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { writeEntry, writeValue } from '../codec/entry.ts'
import type { DeliveryKind } from '../codec/message.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { LogId } from '../core/ids.ts'
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
  /** Keys are due that hold a version which this does not cover; `base` if left out. */
  readonly since?: ReadonlyVersionVector
  /** The last user key before those to be sent; all if left out. */
  readonly after?: Buffer | undefined
  /** The last user key to be sent; no bound if left out. */
  readonly upTo?: Buffer
}

const pageEntries = 1000
const pageEntriesAfterJump = 16

interface PageIterator<Key, Value> {
  nextv (size: number): Promise<Array<[Key, Value]>>
  seek (target: Key): void
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

  /** Whether the receiver has to be told of a version of this stored set. */
  protected isDue (record: Buffer): boolean {
    if (record[0] === 1) return !this.#coversSingle(record)
    return decodeSiblings(record).some(({ log, sequence }) => !this.since.covers(log, sequence))
  }

  /** Of a set of one, without decoding it: most sets are such, and most of them of the same log as the one before. */
  #coversSingle (record: Buffer): boolean {
    const high = record.readUInt32BE(2)
    const low = record.readUInt32BE(6)
    if (high !== this.#logHigh || low !== this.#logLow) {
      this.#logHigh = high
      this.#logLow = low
      this.#log = record.latin1Slice(2, 10) as LogId
      this.#logSequence = this.since.sequenceOf(this.#log)
    }
    return this.#logSequence > 0 && new ByteReader(record, 17).varint() <= this.#logSequence
  }

  /** Packs a key that has one version; `value` if the receiver lacks it, and it is a put. `key` is in some keyspace. */
  protected packSingle (key: Buffer | string, record: Buffer, value: Buffer | string | undefined): void {
    this.#packed++
    if (typeof key === 'string') this.#writer.text(key.slice(1))
    else this.#writer.varint(key.length - 1).part(key, 1, key.length)
    this.#writer.raw(record)
    if (record[1] === 1) writeValue(this.#writer, value)
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
  #size = pageEntries
  #index = 0
  #ended = false

  constructor (iterator: PageIterator<Key, Value>) {
    this.#iterator = iterator
  }

  /** Reads on, if nothing that was read is left. */
  async fill (): Promise<void> {
    if (!this.drained) return
    const page = await (this.#ahead ?? this.#iterator.nextv(this.#size))
    this.#page = page
    this.#index = 0
    this.#ended = page.length === 0
    this.#ahead = this.#ended ? undefined : this.#iterator.nextv(this.#size)
    this.#ahead?.catch(() => {}) // thrown where it is awaited
    this.#size = Math.min(pageEntries, this.#size * 4)
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

  /** Goes to the first entry at or after a key, from which on only a few may be wanted. */
  async jump (key: Key): Promise<void> {
    await this.#ahead
    this.#ahead = undefined
    this.#iterator.seek(key)
    this.#page = []
    this.#index = 0
    this.#ended = false
    this.#size = pageEntriesAfterJump
  }

  async close (): Promise<void> {
    await this.#iterator.close()
  }
}

/** The values beside the versions of a scan, both in key order: keys are asked for in that order, and some are passed over. */
export class Values<Key extends Buffer | string, Value> {
  readonly #pages: Pages<Key, Value>
  readonly #compare: (a: Key, b: Key) => number

  /** @param compare keys of two keyspaces, by the bytes of the user's key */
  constructor (pages: Pages<Key, Value>, compare: (a: Key, b: Key) => number) {
    this.#pages = pages
    this.#compare = compare
  }

  /**
   * The value of a key; undefined if what has been read ends before it.
   *
   * @throws Error if it is missing
   */
  inPage (key: Key): Value | undefined {
    for (let head = this.#pages.head; head !== undefined; head = this.#pages.head) {
      const order = this.#compare(head[0], key)
      if (order > 0) throw missing(key)
      this.#pages.shift()
      if (order === 0) return head[1]
    }
    return undefined
  }

  /** Reads on up to a key. */
  async at (key: Key): Promise<Value> {
    while (!this.#pages.ended) {
      await this.#pages.fill()
      const value = this.inPage(key)
      if (value !== undefined) return value
    }
    throw missing(key)
  }

  /** Goes to a key, where many before it have been passed over. */
  async jump (key: Key): Promise<void> {
    await this.#pages.jump(key)
  }
}

/** @param key in some keyspace */
function missing (key: Buffer | string): Error {
  return new Error(`The value of key ${Buffer.from(key as string).toString('hex', 1)} is missing`)
}
