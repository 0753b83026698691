/**
 * The catch-up of a receiver that lacks little: the log records that its vector does not cover name the keys.
 *
 * What a log record says of a key is not looked at, since the write may have been superseded: the versions decide. The
 * keys are sorted in memory; if they turn out to be too many for that, a scan takes over.
 */
import { decodeLogRecord } from '../codec/log-record.ts'
import { chunkBytes, logKeysBytesMax } from '../limits.ts'
import { inKeyspace, keyspace, logKey, readSequence } from './keyspaces.ts'
import { ScanSource } from './scan-source.ts'
import { SnapshotSource, type Chunk, type SourceOptions } from './source.ts'

/** What a key in memory takes beside its bytes. */
const keyOverheadBytes = 64
/** Keys that are looked up together; and values, as long as they are small. */
const keysAtOnce = 256

export class LogSource extends SnapshotSource {
  readonly #options: SourceOptions
  /** Keys as binary strings, in their order; undefined before they are collected. */
  #keys: string[] | undefined
  #index = 0
  #valuesAtOnce = keysAtOnce
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
    for (const { log, sequence } of this.vector.beyond(this.base)) {
      const records = this.iterate({ gte: logKey(log, this.base.sequenceOf(log) + 1), lte: logKey(log, sequence) })
      for (await records.fill(); records.head !== undefined; await records.fill()) {
        const [recordKey, record] = records.head
        records.shift()
        for (const { key } of decodeLogRecord(readSequence(recordKey, 9), record).operations) {
          const text = key.latin1Slice()
          if (keys.has(text)) continue
          keys.add(text)
          bytes += text.length + keyOverheadBytes
        }
        if (bytes > logKeysBytesMax) return undefined
      }
      await records.close()
    }
    return [...keys].sort()
  }

  protected async pack (): Promise<boolean> {
    const keys = this.#keys!
    if (this.#index === keys.length) return false
    const some = keys.slice(this.#index, this.#index + this.#valuesAtOnce).map((key) => inKeyspace(keyspace.version, Buffer.from(key, 'latin1')))
    this.#index += some.length
    const records = await this.engine.getMany(some, this.reading) as Array<Buffer | undefined>
    const due: Array<[key: Buffer, record: Buffer]> = []
    for (const [index, record] of records.entries()) if (record !== undefined && this.lacks(record)) due.push([some[index]!, record])
    const values = await this.engine.getMany(due.map(([key]) => inKeyspace(keyspace.data, key.subarray(1))), this.reading) as Array<Buffer | undefined>
    let bytes = 1
    for (const [index, [key, record]] of due.entries()) {
      if (record[0] === 1) this.packSingle(key, record, values[index])
      else await this.packSiblings(key, record)
      bytes += values[index]?.length ?? 0
    }
    // As many as make one chunk, if the next ones are like these.
    this.#valuesAtOnce = Math.max(1, Math.min(keysAtOnce, Math.floor(chunkBytes * some.length / bytes)))
    return true
  }
}
