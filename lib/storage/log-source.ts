/**
 * The catch-up of a receiver that lacks little: the log records that its vector does not cover name the keys.
 *
 * What a log record says of a key is not looked at, since the write may have been superseded: the versions decide. The
 * keys are sorted in memory; if they turn out to be too many for that, a scan takes over.
 */
import { keysOfLogRecord } from '../codec/log-record.ts'
import { chunkBytes, entriesAtOnce, logKeysBytesMax } from '../limits.ts'
import { stampStart } from '../codec/stamp.ts'
import { isStamped, valueOf } from './data-record.ts'
import { keyspace, logKey, textInKeyspace } from './keyspaces.ts'
import { ScanSource } from './scan-source.ts'
import { sortInSlices } from './sort.ts'
import { SnapshotSource, type Chunk, type SourceOptions } from './source.ts'

/** What a key in memory takes beside its bytes. */
const keyOverheadBytes = 64
/** Keys that are looked up together, with their values, as long as these are small; of those that may not be, so many at first. */
const keysAtOnceMax = 256
const keysAtOnceMin = 4

export class LogSource extends SnapshotSource {
  readonly #options: SourceOptions
  /** Keys as binary strings, in their order; undefined before they are collected. */
  #keys: string[] | undefined
  #index = 0
  #keysAtOnce = keysAtOnceMax
  /** What has been read and is not packed yet. */
  #due: Array<{ key: Buffer, data: Buffer | undefined, record: Buffer | undefined }> = []
  #scan: ScanSource | undefined

  constructor (options: SourceOptions) {
    super('catch-up', options)
    this.#options = options
  }

  override async next (): Promise<Chunk | undefined> {
    if (this.#keys === undefined && this.#scan === undefined) {
      this.#keys = await this.#collectKeys()
      if (this.#keys === undefined) this.#scan = new ScanSource('catch-up', this.#options)
    }
    return await (this.#scan?.next() ?? super.next())
  }

  override async close (): Promise<void> {
    await this.#scan?.close()
    await super.close()
  }

  /** Keys written since; undefined if they are too many. */
  async #collectKeys (): Promise<string[] | undefined> {
    const keys = new Set<string>()
    let bytes = 0
    let unpaused = 0
    // Binary strings compare as their bytes do.
    const after = this.#options.after?.latin1Slice()
    const upTo = this.#options.upTo?.latin1Slice()
    for (const { log, sequence } of this.vector.beyond(this.since)) {
      const records = this.iterate({ gte: logKey(log, this.since.sequenceOf(log) + 1), lte: logKey(log, sequence) })
      for (await records.fill(); records.head !== undefined; await records.fill()) {
        const [, record] = records.head
        records.shift()
        for (const key of keysOfLogRecord(record)) {
          if (++unpaused % entriesAtOnce === 0) await this.#options.yield()
          if (keys.has(key) || (after !== undefined && key <= after) || (upTo !== undefined && key > upTo)) continue
          keys.add(key)
          bytes += key.length + keyOverheadBytes
        }
        if (bytes > logKeysBytesMax) return undefined
      }
      await records.close()
    }
    return await sortInSlices([...keys], this.#options.yield)
  }

  protected async pack (): Promise<boolean> {
    if (this.#due.length === 0 && this.#index === this.#keys!.length) return false
    if (this.#due.length === 0) await this.#read()
    for (let next = this.#due.shift(); next !== undefined; next = this.full ? undefined : this.#due.shift()) {
      const { key, data, record } = next
      if (record === undefined) this.packStamped(key, data!, stampStart(data!), true)
      else if (record[0] === 1) this.packSingle(key, record, valueOf(data))
      else await this.packSiblings(key, record)
    }
    return true
  }

  /** Reads as many as make one chunk, if they are like those before them; of the first, few, unless it is known that their values are short. */
  async #read (): Promise<void> {
    const { mayHaveRecord = () => true } = this.#options
    if (this.#index === 0 && this.#keys!.slice(0, keysAtOnceMax).some(mayHaveRecord)) this.#keysAtOnce = keysAtOnceMin
    const keys = this.#keys!.slice(this.#index, this.#index + this.#keysAtOnce)
    this.#index += keys.length
    const recorded = keys.filter(mayHaveRecord)
    // Together, though a value may not be needed: a call to LevelDB's threads takes longer than a look-up.
    const looked = [...keys.map((key) => textInKeyspace(keyspace.data, key)), ...recorded.map((key) => textInKeyspace(keyspace.version, key))]
    const stored = await this.engine.getMany(looked, this.reading)
    let bytes = 1
    let next = 0
    for (let index = 0; index < keys.length; index++) {
      const data = stored[index]
      const record = keys[index] === recorded[next] ? stored[keys.length + next++] : undefined
      bytes += data?.length ?? 0
      if (record !== undefined ? this.isDue(record) : data !== undefined && this.#isDataDue(looked[index]!, data)) this.#due.push({ key: looked[index]!, data, record })
    }
    this.#keysAtOnce = Math.max(1, Math.min(keysAtOnceMax, this.#keysAtOnce * 8, Math.floor(chunkBytes * keys.length / bytes)))
  }

  /** The same of a value with its stamp, as it has to be where there is no version record. */
  #isDataDue (key: Buffer, data: Buffer): boolean {
    if (!isStamped(data)) throw new Error(`The versions of key ${key.toString('hex', 1)} are missing`)
    return this.isStampDue(data, stampStart(data))
  }
}
