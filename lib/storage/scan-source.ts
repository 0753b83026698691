/**
 * Sources that go through all versions in key order: every state transfer, and the catch-up of a receiver that lacks
 * much.
 *
 * Versions and data are both in key order, so that two iterators move forward in step. A stretch that is passed over is
 * jumped over in data.
 */
import type { DeliveryKind } from '../codec/message.ts'
import { inKeyspace, keyspace, wholeKeyspace, type Keyspace } from './keyspaces.ts'
import { SnapshotSource, Values, type Pages, type SourceOptions } from './source.ts'

/** So many keys passed over are worth a jump. */
const jumpMin = 256

export class ScanSource extends SnapshotSource {
  readonly #versions: Pages
  readonly #values: Values<Buffer, Buffer>
  #passedOver = 0

  constructor (kind: DeliveryKind, options: SourceOptions) {
    super(kind, options)
    this.#versions = this.iterate(rangeOf(keyspace.version, options))
    this.#values = new Values(this.iterate(rangeOf(keyspace.data, options)), compareKeys)
  }

  protected async pack (): Promise<boolean> {
    if (this.#versions.drained) await this.#versions.fill()
    let head = this.#versions.head
    if (head === undefined) return false
    for (; head !== undefined && !this.full; head = this.#versions.head) {
      this.#versions.shift()
      const [key, record] = head
      const isDue = this.isDue(record)
      if (!isDue && this.kind === 'catch-up') this.#passedOver++
      else if (record[0] !== 1) await this.packSiblings(key, record)
      else if (!isDue || record[1] === 0) this.packSingle(key, record, undefined)
      else this.packSingle(key, record, this.#values.inPage(key) ?? await this.#valueAt(key))
    }
    return true
  }

  async #valueAt (key: Buffer): Promise<Buffer> {
    if (this.#passedOver >= jumpMin) await this.#values.jump(inKeyspace(keyspace.data, key.subarray(1)))
    this.#passedOver = 0
    return await this.#values.at(key)
  }
}

function rangeOf (space: Keyspace, { after, upTo }: SourceOptions): object {
  const { gte, lt } = wholeKeyspace(space)
  return { ...(after === undefined ? { gte } : { gt: inKeyspace(space, after) }), ...(upTo === undefined ? { lt } : { lte: inKeyspace(space, upTo) }) }
}

/** Of keys in two keyspaces. */
function compareKeys (a: Buffer, b: Buffer): number {
  const length = Math.min(a.length, b.length)
  for (let index = 1; index < length; index++) if (a[index] !== b[index]) return a[index]! - b[index]!
  return a.length - b.length
}
