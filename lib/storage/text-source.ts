/**
 * A scan for a replica that has nothing, as long as what is stored is text, and not long.
 *
 * LevelDB's binding takes four times as long to make a Buffer of a key or value as it takes to make a string, and that
 * is most of what a scan takes. What is not text comes out of it with a replacement character in it: from there on, as
 * from the first long value on, a {@link ScanSource} reads bytes.
 */
import { keyspace, wholeKeyspace } from './keyspaces.ts'
import { ScanSource } from './scan-source.ts'
import { SnapshotSource, type Chunk, type Pages, type SourceOptions } from './source.ts'

/** Longer values are copied faster as bytes. */
const textUnitsMax = 1024
const replacement = '\ufffd'

export class TextSource extends SnapshotSource {
  readonly #options: SourceOptions
  readonly #versions: Pages<string, Buffer>
  readonly #data: Pages<string, string>
  /** The last key that has been packed. */
  #last: string | undefined
  #scan: ScanSource | undefined

  /** @param options with an empty `base` */
  constructor (kind: 'catch-up' | 'transfer', options: SourceOptions) {
    super(kind, options)
    this.#options = options
    this.#versions = this.iterate<string, Buffer>(wholeKeyspace(keyspace.version), { keyEncoding: 'utf8' })
    this.#data = this.iterate<string, string>(wholeKeyspace(keyspace.data), { keyEncoding: 'utf8', valueEncoding: 'utf8' })
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
        const value = this.#valueInPage(key) ?? await this.#valueAt(key)
        if (value.length > textUnitsMax || value.includes(replacement)) return this.#goOnWithBytes()
        this.packSingle(key, record, value)
      }
      this.#versions.shift()
      this.#last = key
    }
    return this.#versions.head !== undefined
  }

  async #valueAt (key: string): Promise<string> {
    while (!this.#data.ended) {
      await this.#data.fill()
      const value = this.#valueInPage(key)
      if (value !== undefined) return value
    }
    throw missing(key)
  }

  /** Passes over what is before the key; undefined if the page ends before it. */
  #valueInPage (key: string): string | undefined {
    const user = key.slice(1)
    for (let head = this.#data.head; head !== undefined; head = this.#data.head) {
      const [dataKey, value] = head
      const isKey = dataKey.endsWith(user) && dataKey.length === key.length
      if (!isKey && isAfter(dataKey, key)) throw missing(key)
      this.#data.shift()
      if (isKey) return value
    }
    return undefined
  }

  /** From behind what has been packed. */
  #goOnWithBytes (): false {
    const after = this.#last === undefined ? undefined : Buffer.from(this.#last).subarray(1)
    this.#scan = new ScanSource(this.kind, { ...this.#options, after })
    return false
  }
}

function missing (key: string): Error {
  return new Error(`The value of key ${Buffer.from(key).toString('hex', 1)} is missing`)
}

/** Of keys in two keyspaces, in the order of their bytes, which is not that of text. */
function isAfter (a: string, b: string): boolean {
  return Buffer.compare(Buffer.from(a).subarray(1), Buffer.from(b).subarray(1)) > 0
}
