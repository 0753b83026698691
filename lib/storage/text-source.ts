/**
 * A scan for a replica that has nothing, as long as what is stored is text, and not long.
 *
 * Most of what a scan takes is LevelDB's binding, which makes a Buffer of each key and value, and a string in half the
 * time. What is not text comes out of it with a replacement character in it: from there on, as
 * from the first long value on, a {@link ScanSource} reads bytes.
 */
import type { DeliveryKind } from '../codec/message.ts'
import { keyspace, wholeKeyspace } from './keyspaces.ts'
import { ScanSource } from './scan-source.ts'
import { SnapshotSource, Values, type Chunk, type Pages, type SourceOptions } from './source.ts'

/** Longer values are copied faster as bytes. */
const textUnitsMax = 1024
const replacement = '\ufffd'

export class TextSource extends SnapshotSource {
  readonly #options: SourceOptions
  readonly #versions: Pages<string, Buffer>
  readonly #values: Values<string, string>
  /** The last key that has been packed. */
  #last: string | undefined
  #scan: ScanSource | undefined

  /** @param options with an empty `base` */
  constructor (kind: DeliveryKind, options: SourceOptions) {
    super(kind, options)
    this.#options = options
    this.#versions = this.iterate<string, Buffer>(wholeKeyspace(keyspace.version), { keyEncoding: 'utf8' })
    this.#values = new Values(this.iterate<string, string>(wholeKeyspace(keyspace.data), { keyEncoding: 'utf8', valueEncoding: 'utf8' }), compareKeys)
  }

  override async next (): Promise<Chunk | undefined> {
    return (this.#scan === undefined ? await super.next() : undefined) ?? await this.#scan?.next()
  }

  override async close (): Promise<void> {
    await this.#scan?.close()
    await super.close()
  }

  protected async pack (): Promise<boolean> {
    if (this.#versions.drained) await this.#versions.fill()
    for (let head = this.#versions.head; head !== undefined && !this.full; head = this.#versions.head) {
      const [key, record] = head
      if (key.includes(replacement)) return this.#goOnWithBytes()
      if (record[0] !== 1) {
        await this.packSiblings(Buffer.from(key), record)
      } else if (record[1] === 0) {
        this.packSingle(key, record, undefined)
      } else {
        const value = this.#values.inPage(key) ?? await this.#values.at(key)
        if (value.length > textUnitsMax || value.includes(replacement)) return this.#goOnWithBytes()
        this.packSingle(key, record, value)
      }
      this.#versions.shift()
      this.#last = key
    }
    return this.#versions.head !== undefined
  }

  /** From behind what has been packed. */
  #goOnWithBytes (): false {
    const after = this.#last === undefined ? undefined : Buffer.from(this.#last).subarray(1)
    this.#scan = new ScanSource(this.kind, { ...this.#options, after })
    return false
  }
}

/** In the order of their bytes, which is not that of text. */
function compareKeys (a: string, b: string): number {
  return a.length === b.length && a.endsWith(b.slice(1)) ? 0 : Buffer.compare(Buffer.from(a).subarray(1), Buffer.from(b).subarray(1))
}
