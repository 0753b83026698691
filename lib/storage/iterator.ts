/**
 * An iterator over the data keyspace: the inner iterator, without the prefix of its keys and the ends of its values.
 *
 * It calls the private methods of the inner one, since the outer one has already normalised options, counted and
 * checked; the inner one is closed with it. So the inner one does not know that it is being read, and LevelDB ends the
 * process if it is closed meanwhile: whoever closes the database under it waits for its reads. Entries are read in pages,
 * the first of one entry, since that is often all that is wanted, initially or after a seek; what a page holds is given
 * out without a promise for each. From the second whole page on LevelDB's thread reads the next one meanwhile.
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
  /** How many of earlier pages have been given out; what could not be decoded then counts, too, as in classic-level. */
  #given = 0
  #first = true
  /** Whether a whole page has been read since it began, or sought. */
  #goesOn = false
  /** The next page of the inner one. */
  #ahead: Promise<Item[]> | undefined
  /** Where the inner one has to seek when that has been read. */
  #sought: (() => void) | undefined
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
      const reading = { ...inData(inSnapshot(options)), limit: -1, highWaterMarkBytes: options.highWaterMarkBytes ?? iteratorBytes } // what is read ahead and forgotten must not count
      this.#inner = inner()._iterator(pending === undefined ? reading : forMerging(reading, pending.keys()))
      if (pending !== undefined) this.#merged = new Merged({ nextv: (size, options) => this.#read(size, options) }, pending, { ...options, highWaterMarkBytes: reading.highWaterMarkBytes })
    } catch (error) {
      this.#failure = error
    }
  }

  _next (): Item | undefined | Promise<Item | undefined> {
    return this.#index < this.#page.length ? this.#page[this.#index++] : this.#nextOfNextPage()
  }

  async #nextOfNextPage (): Promise<Item | undefined> {
    await this.#turn(this.#first ? 1 : pageSize, noOptions)
    return this.#take(1)[0]
  }

  _nextv (size: number, options: object): Item[] | Promise<Item[]> {
    return this.#index < this.#page.length ? this.#take(size) : this.#someOfNextPage(size, options)
  }

  async #someOfNextPage (size: number, options: object): Promise<Item[]> {
    await this.#turn(size, options)
    return this.#take(size)
  }

  /** The next ones of the page, so many at most. */
  #take (size: number): Item[] {
    const start = this.#index
    this.#index = Math.min(this.#page.length, start + size)
    return start === 0 && this.#index === this.#page.length ? this.#page : this.#page.slice(start, this.#index)
  }

  /** Goes on to the next page, within the limit. */
  async #turn (size: number, options: object): Promise<void> {
    this.#first = false
    this.#leave()
    const left = this.limit - this.#given
    if (left <= 0) return
    const asked = Math.min(size, left)
    const page = await (this.#merged === undefined ? this.#read(asked, options) : this.#merged.nextv(asked, options))
    this.#page = page.length > left ? page.slice(0, left) : page
  }

  #leave (): void {
    this.#given += this.#index
    this.#page = nothing
    this.#index = 0
  }

  /** The next entries of the inner one: so many at most, or as many as were asked for when they were read ahead. */
  async #read (size: number, options: object): Promise<Item[]> {
    this.#live()
    if (this.#sought !== undefined) {
      await this.#ahead!.catch(() => {})
      this.#ahead = undefined
      this.#live()
      this.#sought()
      this.#sought = undefined
    }
    const reading = this.#ahead ?? this.#begin(size, options)
    this.#ahead = undefined
    const items = await reading
    if (size > 1 && this.#given + items.length < this.limit && this.#isLive) {
      if (this.#goesOn) this.#ahead = this.#begin(size, options)
      this.#goesOn = true
    }
    for (const item of items) {
      item[0] = withoutPrefix(item[0])
      item[1] = valueOf(item[1])
    }
    return items
  }

  #begin (size: number, options: object): Promise<Item[]> {
    const { reads } = this.#reopenable
    const reading = this.#inner!._nextv(size, options)
    reads.add(reading)
    const done = (): void => { reads.delete(reading) }
    reading.then(done, done) // who takes it hears of a failure
    return reading
  }

  _seek (target: Uint8Array | string, options: object): void {
    if (this.#inner === undefined) return // the next read says why: to throw it here would undo the open that this may have waited for
    const inner = this.#live()
    this.#leave()
    this.#first = true
    this.#goesOn = false
    this.#merged?.seek(target)
    const key = dataKey(target)
    if (this.#ahead === undefined) inner._seek(key, options)
    else this.#sought = () => { inner._seek(key, options) }
  }

  #live (): PrivateIterator {
    if (this.#inner === undefined) throw this.#failure
    if (!this.#isLive) throw new ReplicationError('The database was opened again under this iterator, after a failed write', { code: 'LEVEL_ITERATOR_NOT_OPEN' })
    return this.#inner
  }

  /** Whether the database is still the one it was. */
  get #isLive (): boolean {
    return this.#reopenable.generation === this.#generation
  }

  async _close (): Promise<void> {
    this.#page = nothing
    this.#index = 0
    await this.#ahead?.catch(() => {})
    await this.#inner?.close()
  }
}

function withoutPrefix (key: Item[0]): Item[0] {
  return typeof key === 'string' ? key.slice(1) : key?.subarray(1)
}
