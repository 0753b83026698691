/**
 * Sources that go through all keys in their order: every state transfer, and the catch-up of a receiver that lacks much.
 *
 * Data and version records are both in key order, so that two iterators move forward in step.
 */
import type { DeliveryKind } from '../codec/message.ts'
import { stampStart } from '../codec/stamp.ts'
import { isStamped, valueOf } from './data-record.ts'
import { inKeyspace, keyspace, wholeKeyspace, type Keyspace } from './keyspaces.ts'
import { compareKeys, SnapshotSource, StoredKeys, type SourceOptions } from './source.ts'

export class ScanSource extends SnapshotSource {
  readonly #keys: StoredKeys<Buffer>

  constructor (kind: DeliveryKind, options: SourceOptions) {
    super(kind, options)
    this.#keys = new StoredKeys(this.iterate(rangeOf(keyspace.data, options)), this.iterate(rangeOf(keyspace.version, options)), compareKeys)
  }

  protected async pack (): Promise<boolean> {
    const keys = this.#keys
    while (!this.full && keys.next()) {
      const { key, data, record } = keys
      if (record === undefined) {
        if (data === undefined || !isStamped(data)) throw missing(key)
        const start = stampStart(data)
        const isDue = this.isStampDue(data, start)
        if (isDue || this.kind === 'transfer') this.packStamped(key, data, start, isDue)
        continue
      }
      const isDue = this.isDue(record)
      if (!isDue && this.kind === 'catch-up') continue
      if (record[0] !== 1) await this.packSiblings(key, record)
      else if (!isDue || record[1] === 0) this.packSingle(key, record, undefined)
      else if (data !== undefined) this.packSingle(key, record, valueOf(data))
      else throw missing(key)
    }
    return this.full || await keys.fill()
  }
}

/** @param key in some keyspace */
function missing (key: Buffer): Error {
  return new Error(`The value of key ${key.toString('hex', 1)} is missing, or its versions are`)
}

function rangeOf (space: Keyspace, { after, upTo }: SourceOptions): object {
  const { gte, lt } = wholeKeyspace(space)
  return { ...(after === undefined ? { gte } : { gt: inKeyspace(space, after) }), ...(upTo === undefined ? { lt } : { lte: inKeyspace(space, upTo) }) }
}
