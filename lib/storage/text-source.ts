/**
 * A scan for a replica that has nothing, as long as what is stored is text, and not long.
 *
 * Most of what a scan takes is LevelDB's binding, which makes a Buffer of each key and value, and a string in half the
 * time. What is not text comes out of it with a replacement character in it: from there on, as
 * from the first long value on, a {@link ScanSource} reads bytes.
 */
import type { DeliveryKind } from '../codec/message.ts'
import { isStampedText } from './data-record.ts'
import { keyspace, wholeKeyspace } from './keyspaces.ts'
import { ScanSource } from './scan-source.ts'
import { SnapshotSource, StoredKeys, type Chunk, type SourceOptions } from './source.ts'

const replacement = '\ufffd'

export class TextSource extends SnapshotSource {
  readonly #options: SourceOptions
  readonly #keys: StoredKeys<string>
  /** The last key that has been packed. */
  #last: string | undefined
  #scan: ScanSource | undefined

  /** @param options with an empty `base` */
  constructor (kind: DeliveryKind, options: SourceOptions) {
    super(kind, options)
    this.#options = options
    const text = { keyEncoding: 'utf8', valueEncoding: 'utf8' }
    this.#keys = new StoredKeys(this.iterate<string, string>(wholeKeyspace(keyspace.data), text), this.iterate<string, Buffer>(wholeKeyspace(keyspace.version), { keyEncoding: 'utf8' }), compareKeys)
  }

  override async next (): Promise<Chunk | undefined> {
    return (this.#scan === undefined ? await super.next() : undefined) ?? await this.#scan?.next()
  }

  override async close (): Promise<void> {
    await this.#scan?.close()
    await super.close()
  }

  protected async pack (): Promise<boolean> {
    const keys = this.#keys
    while (!this.full && keys.next()) {
      const { key, data, record } = keys
      if (key.includes(replacement) || (record === undefined ? data!.includes(replacement) || !isStampedText(data!) : record[0] === 1 && record[1] === 1)) return this.#goOnWithBytes()
      if (record === undefined) this.packStampedText(key, data!)
      else if (record[0] === 1) this.packSingle(key, record, undefined)
      else await this.packSiblings(Buffer.from(key), record)
      this.#last = key
    }
    return this.full || await keys.fill()
  }

  /** From behind what has been packed. */
  #goOnWithBytes (): false {
    const after = this.#last === undefined ? undefined : Buffer.from(this.#last).subarray(1)
    this.#scan = new ScanSource(this.kind, { ...this.#options, after })
    return false
  }
}

/**
 * In the order of their bytes, which is not that of text. Where a key that may not be text stands is not known: it comes
 * first, so that nothing is packed that is behind it.
 */
function compareKeys (a: string, b: string): number {
  if (a.includes(replacement)) return -1
  if (b.includes(replacement)) return 1
  return Buffer.compare(Buffer.from(a).subarray(1), Buffer.from(b).subarray(1))
}
