/**
 * An iterator over the data keyspace: the inner iterator, without the prefix of its keys and the ends of its values.
 *
 * It calls the private methods of the inner one, since the outer one has already normalised options, counted and
 * checked; the inner one is closed with it. So the inner one does not know that it is being read, and LevelDB ends the
 * process if it is closed meanwhile: whoever closes the database under it waits for its reads. Entries are read in pages,
 * the first of one entry, since that is often all that is wanted, initially or after a seek; what a page holds is given
 * out without a promise for each.
 */
import { AbstractIterator, type AbstractLevel } from 'abstract-level'
import { ReplicationError } from '../errors.ts'
import { iteratorBytes } from '../limits.ts'
import { valueOf } from './data-record.ts'
import { dataKey } from './keyspaces.ts'
import type { Pending } from './memtable.ts'
import { forMerging, Merged, type Item, type MergedOptions } from './merged.ts'
import { inData } from './range.ts'
import { inSnapshot } from './snapshot.ts'

/** The private side of an iterator, as abstract-level defines it for implementors. */
interface PrivateIterator {
  _nextv (size: number, options: object): Promise<Item[]>
  _seek (target: Uint8Array | string, options: object): void
  close (): Promise<void>
}

/** The database under it may be closed and opened again, after a failed write. */
export interface Reopenable {
  /** How often it has been. */
  readonly generation: number
  /** What it waits for before it is closed. */
  readonly reads: Set<Promise<unknown>>
}

const nothing: Item[] = []
const noOptions = {}
const pageSize = 1000

export interface IteratorSource {
  _iterator (options: object): PrivateIterator
}

export class DataIterator extends AbstractIterator<AbstractLevel<Buffer | Uint8Array | string>, unknown, unknown> {
  readonly #inner: PrivateIterator | undefined
  /** Its entries, and those that the inner database may not have yet; undefined if it has all. */
  readonly #merged: Merged | undefined
  /** Why there is none. To throw it at once would leave abstract-level with an iterator that it cannot close. */
  readonly #failure: unknown
  /** What has been read and not been given out: from `#index` on. */
  #page: Item[] = nothing
  #index = 0
  #first = true
  readonly #reopenable: Reopenable
  readonly #generation: number

  /**
   * @param inner the database; may throw
   * @param pending what it may not have yet
   */
  constructor (db: AbstractLevel<Buffer | Uint8Array | string>, inner: () => IteratorSource, pending: Pending, options: MergedOptions, reopenable: Reopenable) {
    super(db, options as object)
    this.#reopenable = reopenable
    this.#generation = reopenable.generation
    if (options.keys === false && options.values === false) pending = undefined // then LevelDB's iterator gives nothing
    try {
      const reading = { ...inData(inSnapshot(options)), highWaterMarkBytes: options.highWaterMarkBytes ?? iteratorBytes }
      this.#inner = inner()._iterator(pending === undefined ? reading : forMerging(reading, pending.keys()))
      if (pending !== undefined) this.#merged = new Merged({ nextv: (size, options) => this.#readInner(size, options) }, pending, { ...options, highWaterMarkBytes: reading.highWaterMarkBytes })
    } catch (error) {
      this.#failure = error
    }
  }

  _next (): Item | undefined | Promise<Item | undefined> {
    return this.#index < this.#page.length ? this.#page[this.#index++] : this.#nextOfNextPage()
  }

  async #nextOfNextPage (): Promise<Item | undefined> {
    this.#page = await this.#read(this.#first ? 1 : pageSize, noOptions)
    this.#index = Math.min(1, this.#page.length)
    return this.#page[0]
  }

  _nextv (size: number, options: object): Item[] | Promise<Item[]> {
    const { length } = this.#page
    if (this.#index === length) return this.#read(size, options)
    const start = this.#index
    this.#index = Math.min(length, start + size)
    return this.#page.slice(start, this.#index)
  }

  #read (size: number, options: object): Promise<Item[]> {
    this.#first = false
    return this.#merged === undefined ? this.#readInner(size, options) : this.#merged.nextv(size, options)
  }

  async #readInner (size: number, options: object): Promise<Item[]> {
    const inner = this.#live()
    const { reads } = this.#reopenable
    const reading = inner._nextv(size, options)
    reads.add(reading)
    try {
      const items = await reading
      for (const item of items) {
        item[0] = withoutPrefix(item[0])
        item[1] = valueOf(item[1])
      }
      return items
    } finally {
      reads.delete(reading)
    }
  }

  _seek (target: Uint8Array | string, options: object): void {
    if (this.#inner === undefined) return // the next read says why: to throw it here would undo the open that this may have waited for
    const inner = this.#live()
    this.#page = nothing
    this.#index = 0
    this.#first = true
    inner._seek(dataKey(target), options)
    this.#merged?.seek(target)
  }

  #live (): PrivateIterator {
    if (this.#inner === undefined) throw this.#failure
    if (this.#reopenable.generation !== this.#generation) throw new ReplicationError('The database was opened again under this iterator, after a failed write', { code: 'LEVEL_ITERATOR_NOT_OPEN' })
    return this.#inner
  }

  async _close (): Promise<void> {
    this.#page = nothing
    this.#index = 0
    await this.#inner?.close()
  }
}

function withoutPrefix (key: Item[0]): Item[0] {
  return typeof key === 'string' ? key.slice(1) : key?.subarray(1)
}
