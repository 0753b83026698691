/**
 * Sending what somebody lacks: a walk over the log, or over the whole state, at one LevelDB snapshot.
 *
 * A *catch-up* walks the log records that the receiver's vector does not cover, merged across logs by time, so that
 * what depends on something comes after it. Garbage (a dot that has been superseded) is skipped; each key comes
 * once, at the lowest of its dots that the receiver lacks, with its whole sibling set. A *state transfer* walks the
 * version keyspace in key order. Both carry the values of exactly those dots that the receiver lacks, and both end
 * at the vector of the snapshot.
 */
import { ByteWriter } from '../codec/bytes.ts'
import { writeEntry, type Entry } from '../codec/entry.ts'
import { decodeLogRecord, type LogRecord } from '../codec/log-record.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { LogId } from '../core/ids.ts'
import { noSiblings, type SiblingSet } from '../core/siblings.ts'
import type { ReadonlyVersionVector } from '../core/version-vector.ts'
import { chunkBytes, MiB } from '../limits.ts'
import type { Engine } from './engine.ts'
import { inKeyspace, keyspace, logKey, readSequence, siblingKey, wholeKeyspace } from './keyspaces.ts'

type Snapshot = ReturnType<Engine['snapshot']>

export interface Source {
  readonly kind: 'catch-up' | 'transfer'
  /** The vector of the snapshot: what the receiver knows when it has everything. */
  readonly vector: ReadonlyVersionVector
  readonly collected: ReadonlyVersionVector
  /** About how many entries are to come. */
  readonly entries: number
  /** Number of the first unit of the feed that is not in the snapshot. */
  readonly feedNumber: number
  /** Encoded entries, about `chunkBytes` of them; undefined at the end. */
  next (): Promise<{ bytes: Buffer, entries: number } | undefined>
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
}

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
const readAhead = 512
/** Values that are read together, as long as they are small. */
const valuesAtOnceMax = 64

/** What both kinds share: reading at a snapshot, and packing entries into chunks. */
abstract class SnapshotSource implements Source {
  abstract readonly kind: 'catch-up' | 'transfer'
  readonly vector: ReadonlyVersionVector
  readonly collected: ReadonlyVersionVector
  readonly entries: number
  readonly feedNumber: number
  protected readonly base: ReadonlyVersionVector
  protected readonly engine: Engine
  protected readonly reading: { snapshot: Snapshot, fillCache: boolean, keyEncoding: 'buffer', valueEncoding: 'buffer', highWaterMarkBytes: number }
  /** Entries that have been read and are not packed yet. */
  #unpacked: Entry[] = []
  #unpackedIndex = 0
  readonly #snapshot: Snapshot
  readonly #iterators: Array<{ close (): Promise<void> }> = []
  readonly #writer = new ByteWriter(chunkBytes * 2)

  constructor (options: SourceOptions) {
    this.engine = options.engine
    this.vector = options.vector
    this.collected = options.collected
    this.base = options.base
    this.entries = options.entries
    this.feedNumber = options.feedNumber
    this.#snapshot = options.snapshot
    this.reading = { snapshot: options.snapshot, fillCache: false, highWaterMarkBytes: MiB / 4, ...buffers }
  }

  /** The next few entries, about `chunkBytes` of them if they are large; none at the end. */
  protected abstract read (): Promise<Entry[]>

  async next (): Promise<{ bytes: Buffer, entries: number } | undefined> {
    let entries = 0
    while (this.#writer.length < chunkBytes) {
      if (this.#unpackedIndex === this.#unpacked.length) {
        this.#unpacked = await this.read()
        this.#unpackedIndex = 0
        if (this.#unpacked.length === 0) break
      }
      writeEntry(this.#writer, this.#unpacked[this.#unpackedIndex++]!)
      entries++
    }
    return entries === 0 ? undefined : { bytes: this.#writer.take(), entries }
  }

  async close (): Promise<void> {
    for (const iterator of this.#iterators) await iterator.close()
    await this.#snapshot.close()
  }

  protected iterate (range: object): Pages {
    const iterator = this.engine.iterator<Buffer, Buffer>({ ...range, ...this.reading })
    this.#iterators.push(iterator)
    return new Pages(iterator)
  }

  /** The values of a set that the receiver lacks; `single` is the value of a set of one. */
  protected async values (key: Buffer, siblings: SiblingSet, single: Buffer | undefined): Promise<Array<Buffer | undefined>> {
    const lacks = siblings.map(({ type, log, sequence }) => type === 'put' && !this.base.covers(log, sequence))
    if (siblings.length === 1) return [lacks[0] === true ? single : undefined]
    return await Promise.all(siblings.map(async ({ log, sequence }, index) => lacks[index] === true
      ? await this.engine.get(siblingKey(key, log, sequence), this.reading) as Buffer
      : undefined))
  }
}

/** An iterator, read a thousand entries at a time, with a look at the next one. */
class Pages {
  readonly #iterator: { nextv (size: number): Promise<Array<[Buffer, Buffer]>> }
  #page: Array<[Buffer, Buffer]> = []
  #index = 0
  #ended = false

  constructor (iterator: { nextv (size: number): Promise<Array<[Buffer, Buffer]>> }) {
    this.#iterator = iterator
  }

  async fill (): Promise<void> {
    if (this.#index < this.#page.length || this.#ended) return
    this.#page = await this.#iterator.nextv(1000)
    this.#index = 0
    this.#ended = this.#page.length === 0
  }

  /** The next entry, after {@link fill}; undefined at the end. */
  get head (): [Buffer, Buffer] | undefined {
    return this.#page[this.#index]
  }

  /** Whether the next call of {@link fill} has to read. */
  get drained (): boolean {
    return this.#index >= this.#page.length && !this.#ended
  }

  shift (): void {
    this.#index++
  }
}

export class TransferSource extends SnapshotSource {
  readonly kind = 'transfer'
  readonly #versions: Pages
  readonly #data: Pages

  constructor (options: SourceOptions) {
    super(options)
    this.#versions = this.iterate(wholeKeyspace(keyspace.version))
    this.#data = this.iterate(wholeKeyspace(keyspace.data))
  }

  protected async read (): Promise<Entry[]> {
    const entries: Entry[] = []
    for (let bytes = 0; entries.length < readAhead && bytes < chunkBytes;) {
      if (this.#versions.drained) await this.#versions.fill()
      const head = this.#versions.head
      if (head === undefined) break
      this.#versions.shift()
      const key = head[0].subarray(1)
      const siblings = decodeSiblings(head[1])
      const needsData = siblings.length === 1 && siblings[0]!.type === 'put'
      const values = siblings.length === 1
        ? [needsData && !this.base.covers(siblings[0]!.log, siblings[0]!.sequence) ? await this.#valueAt(key) : undefined]
        : await this.values(key, siblings, undefined)
      entries.push({ key, siblings, values })
      bytes += bytesOf(values)
    }
    return entries
  }

  /** Both keyspaces are in key order: the data iterator only moves forward. */
  async #valueAt (key: Buffer): Promise<Buffer> {
    while (true) {
      if (this.#data.drained) await this.#data.fill()
      const head = this.#data.head
      if (head === undefined) throw new Error(`The value of key ${key.toString('hex')} is missing`)
      const order = Buffer.compare(head[0].subarray(1), key)
      if (order > 0) throw new Error(`The value of key ${key.toString('hex')} is missing`)
      this.#data.shift()
      if (order === 0) return head[1]
    }
  }
}

interface LoggedDot {
  readonly log: LogId
  readonly sequence: number
  readonly key: Buffer
}

interface KeySiblings {
  readonly key: Buffer
  readonly siblings: SiblingSet
}

interface LogWalk {
  readonly log: LogId
  readonly pages: Pages
  record: LogRecord | undefined
}

export class CatchUpSource extends SnapshotSource {
  readonly kind = 'catch-up'
  readonly #walks: LogWalk[] = []
  #begun = false
  /** Keys that are to be sent, and whose values have not been read yet. */
  #due: KeySiblings[] = []
  #dueIndex = 0
  #valuesAtOnce = valuesAtOnceMax

  constructor (options: SourceOptions) {
    super(options)
    for (const { log, sequence } of this.vector.beyond(this.base)) {
      const range = { gte: logKey(log, this.base.sequenceOf(log) + 1), lte: logKey(log, sequence) }
      this.#walks.push({ log, pages: this.iterate(range), record: undefined })
    }
  }

  protected async read (): Promise<Entry[]> {
    while (this.#dueIndex === this.#due.length) {
      const dots = await this.#nextDots()
      if (dots.length === 0) return []
      this.#due = await this.#dueOf(dots)
      this.#dueIndex = 0
    }
    const due = this.#due.slice(this.#dueIndex, this.#dueIndex + this.#valuesAtOnce)
    this.#dueIndex += due.length
    const data = await this.engine.getMany(due.map(({ key }) => inKeyspace(keyspace.data, key)), this.reading) as Array<Buffer | undefined>
    const entries = await Promise.all(due.map(async ({ key, siblings }, index) => ({ key, siblings, values: await this.values(key, siblings, data[index]) })))
    // As many as make one chunk, if the next ones are like these.
    const bytes = entries.reduce((sum, { values }) => sum + bytesOf(values), 1)
    this.#valuesAtOnce = Math.max(1, Math.min(valuesAtOnceMax, Math.floor(chunkBytes * entries.length / bytes)))
    return entries
  }

  async #nextDots (): Promise<LoggedDot[]> {
    if (!this.#begun) {
      for (const walk of this.#walks) await this.#advance(walk)
      this.#begun = true
    }
    const dots: LoggedDot[] = []
    while (dots.length < readAhead) {
      let lowest: LogWalk | undefined
      for (const walk of this.#walks) {
        if (walk.record === undefined) continue
        if (lowest === undefined || walk.record.hlc < lowest.record!.hlc || (walk.record.hlc === lowest.record!.hlc && walk.log < lowest.log)) lowest = walk
      }
      if (lowest === undefined) break
      for (const { sequence, key } of lowest.record!.operations) dots.push({ log: lowest.log, sequence, key })
      await this.#advance(lowest)
    }
    return dots
  }

  async #advance (walk: LogWalk): Promise<void> {
    if (walk.pages.drained) await walk.pages.fill()
    const head = walk.pages.head
    walk.record = head === undefined ? undefined : decodeLogRecord(readSequence(head[0], 9), head[1])
    if (head !== undefined) walk.pages.shift()
  }

  /** Those that are no garbage, and not to come at a higher dot. */
  async #dueOf (dots: readonly LoggedDot[]): Promise<KeySiblings[]> {
    const records = await this.engine.getMany(dots.map(({ key }) => inKeyspace(keyspace.version, key)), this.reading) as Array<Buffer | undefined>
    const due: KeySiblings[] = []
    for (let index = 0; index < dots.length; index++) {
      const { log, sequence, key } = dots[index]!
      const siblings = records[index] === undefined ? noSiblings : decodeSiblings(records[index]!)
      const lowest = siblings.find((sibling) => !this.base.covers(sibling.log, sibling.sequence))
      if (lowest?.log === log && lowest.sequence === sequence) due.push({ key, siblings })
    }
    return due
  }
}

function bytesOf (values: Entry['values']): number {
  return values.reduce((sum, value) => sum + (value?.length ?? 0), 0)
}
