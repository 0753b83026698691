/**
 * The catch-up of a receiver that lacks little: the log records that its vector does not cover name the keys.
 *
 * What a log record says of a key is not looked at, since the write may have been superseded: the versions decide. The
 * keys are sorted in memory; if they turn out to be too many for that, a scan takes over.
 */
import { keysOfLogRecord } from '../codec/log-record.ts'
import { chunkBytes, entriesAtOnce, logKeysBytesMax } from '../limits.ts'
import { valueOf } from './data-record.ts'
import { inKeyspace, keyspace, logKey } from './keyspaces.ts'
import { ScanSource } from './scan-source.ts'
import { sortInSlices } from './sort.ts'
import { SnapshotSource, type Chunk, type SourceOptions } from './source.ts'
import { recordOfData } from './stored-sets.ts'

/** What a key in memory takes beside its bytes. */
const keyOverheadBytes = 64
/** Keys that are looked up together, with their values, as long as these are small. */
const keysAtOnceMax = 256

export class LogSource extends SnapshotSource {
  readonly #options: SourceOptions
  /** Keys as binary strings, in their order; undefined before they are collected. */
  #keys: string[] | undefined
  #index = 0
  #keysAtOnce = 4
  /** What has been read and is not packed yet. */
  #due: Array<{ key: Buffer, record: Buffer, value: Buffer | undefined }> = []
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
          const text = key.latin1Slice()
          if (keys.has(text) || (after !== undefined && text <= after) || (upTo !== undefined && text > upTo)) continue
          keys.add(text)
          bytes += text.length + keyOverheadBytes
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
      const { key, record, value } = next
      if (record[0] === 1) this.packSingle(key, record, value)
      else await this.packSiblings(key, record)
    }
    return true
  }

  /** Reads as many as make one chunk, if they are like those before them; of the first, few. */
  async #read (): Promise<void> {
    const keys = this.#keys!.slice(this.#index, this.#index + this.#keysAtOnce).map((key) => inKeyspace(keyspace.data, Buffer.from(key, 'latin1')))
    this.#index += keys.length
    // Together, though a value may not be needed: a call to LevelDB's threads takes longer than a look-up.
    const stored = await this.engine.getMany([...keys, ...keys.map((key) => inKeyspace(keyspace.version, key.subarray(1)))], this.reading)
    let bytes = 1
    for (const [index, key] of keys.entries()) {
      const data = stored[index]
      const record = stored[keys.length + index] ?? recordOfData(data)
      bytes += data?.length ?? 0
      if (record !== undefined && this.isDue(record)) this.#due.push({ key, record, value: valueOf(data) })
    }
    this.#keysAtOnce = Math.max(1, Math.min(keysAtOnceMax, this.#keysAtOnce * 8, Math.floor(chunkBytes * keys.length / bytes)))
  }
}
