/**
 * An iterator over the data keyspace: the inner iterator, without the prefix of its keys.
 *
 * It calls the private methods of the inner one, since the outer one has already normalised options, counted and
 * checked; the inner one is closed with it.
 */
import { AbstractIterator, type AbstractLevel } from 'abstract-level'
import { dataPrefix, inKeyspace, keyspace } from './keyspaces.ts'
import { inData, type RangeOptions } from './clear.ts'

type Item = [Buffer | Uint8Array | string | undefined, unknown]

/** The private side of an iterator, as abstract-level defines it for implementors. */
interface PrivateIterator {
  _next (): Promise<Item | undefined>
  _nextv (size: number, options: object): Promise<Item[]>
  _seek (target: Uint8Array | string, options: object): void
  close (): Promise<void>
}

export interface IteratorSource {
  _iterator (options: object): PrivateIterator
}

export class DataIterator extends AbstractIterator<AbstractLevel<Buffer | Uint8Array | string>, unknown, unknown> {
  readonly #inner: PrivateIterator

  constructor (db: AbstractLevel<Buffer | Uint8Array | string>, inner: IteratorSource, options: RangeOptions) {
    super(db, options as object)
    this.#inner = inner._iterator(inData(options))
  }

  async _next (): Promise<Item | undefined> {
    const item = await this.#inner._next()
    if (item !== undefined) item[0] = withoutPrefix(item[0])
    return item
  }

  async _nextv (size: number, options: object): Promise<Item[]> {
    const items = await this.#inner._nextv(size, options)
    for (const item of items) item[0] = withoutPrefix(item[0])
    return items
  }

  _seek (target: Uint8Array | string, options: object): void {
    this.#inner._seek(typeof target === 'string' ? dataPrefix + target : inKeyspace(keyspace.data, target), options)
  }

  async _close (): Promise<void> {
    await this.#inner.close()
  }
}

function withoutPrefix (key: Item[0]): Item[0] {
  return typeof key === 'string' ? key.slice(1) : key?.subarray(1)
}
