/**
 * Entries in the order of their keys from two places: what the engine has, and what it may not have yet, which takes the
 * place of what it has under the same key.
 *
 * Source: the merging iterator of a log-structured merge-tree, O'Neil et al., Acta Informatica 33 (1996).
 */
import type { Bytes } from './engine.ts'
import { keyText, valueIn, type MemtableEntry } from './memtable.ts'
import { within, type RangeOptions } from './range.ts'

export type Item = [key: Bytes | undefined, value: Bytes | undefined]

/** Where the engine's entries come from: user keys, and values. */
export interface Items {
  /** At most so many, and none at the end. */
  nextv (size: number, options: object): Promise<Item[]>
}

export interface MergedOptions extends RangeOptions {
  readonly keys?: boolean
  readonly values?: boolean
  readonly valueEncoding?: string
}

/**
 * The options for the engine's iterator: its keys are needed, and what it has does not count alone.
 *
 * Of keys that are no text, text does not say which they are. Where they stand among others it does as long as those are ASCII,
 * which they are not equal to either: else the engine's keys are asked for as bytes, which takes longer.
 */
export function forMerging<T extends MergedOptions> (options: T, pending: Iterable<string>): T {
  const keyEncoding = options.keyEncoding === 'utf8' && isAscii(pending) ? 'utf8' : 'buffer'
  return { ...options, keys: true, keyEncoding, limit: -1 }
}

function isAscii (keys: Iterable<string>): boolean {
  for (const key of keys) if (/[\x80-\xff]/.test(key)) return false
  return true
}

export class Merged {
  readonly #items: Items
  readonly #options: MergedOptions
  /** In the order of the iteration. */
  readonly #pending: ReadonlyArray<readonly [key: string, entry: MemtableEntry]>
  readonly #contains: (key: string) => boolean
  #next = 0
  /** What the engine has given, from `#index` on still to be given out. */
  #page: Item[] = []
  #index = 0
  #ended = false

  /** @param items their options are {@link forMerging} these */
  constructor (items: Items, pending: ReadonlyMap<string, MemtableEntry>, options: MergedOptions) {
    this.#items = items
    this.#options = options
    this.#contains = within(options)
    this.#pending = [...pending].filter(([key]) => this.#contains(key)).sort(([a], [b]) => this.#compare(a, b))
  }

  #compare (a: string, b: string): number {
    const order = a < b ? -1 : a > b ? 1 : 0
    return this.#options.reverse === true ? -order : order
  }

  async nextv (size: number, options: object): Promise<Item[]> {
    const items: Item[] = []
    const { highWaterMarkBytes = Infinity } = this.#options // which one entry may exceed, as in classic-level
    let bytes = 0
    const add = (item: Item): void => {
      items.push(item)
      bytes += (item[0]?.length ?? 0) + (item[1]?.length ?? 0)
    }
    while (items.length < size) {
      if (items.length > 0 && bytes > highWaterMarkBytes) break
      if (this.#index === this.#page.length && !this.#ended) {
        this.#page = await this.#items.nextv(size, options)
        this.#index = 0
        this.#ended = this.#page.length === 0
      }
      const item = this.#page[this.#index]
      const pending = this.#pending[this.#next]
      if (item === undefined && pending === undefined) break
      const order = item === undefined ? 1 : pending === undefined ? -1 : this.#compare(keyText(item[0]!), pending[0])
      if (order >= 0) {
        this.#next++
        if (pending![1].type === 'put') add(this.#itemOf(pending![1]))
      }
      if (order <= 0) {
        this.#index++
        if (order < 0) add([this.#keyOf(item![0]!), item![1]])
      }
    }
    return items
  }

  #keyOf (key: Bytes): Item[0] {
    const { keys, keyEncoding } = this.#options
    return keys === false ? undefined : keyEncoding === 'utf8' ? key.toString() : key
  }

  #itemOf (entry: MemtableEntry): Item {
    const { keys, values, keyEncoding, valueEncoding } = this.#options
    return [keys === false ? undefined : valueIn(entry.key, keyEncoding), values === false ? undefined : valueIn(entry.value!, valueEncoding)]
  }

  /** Goes on at a key; the engine's iterator has done so. Beyond the range nothing is found. */
  seek (target: Bytes): void {
    const key = keyText(target)
    this.#page = []
    this.#index = 0
    this.#ended = false
    this.#next = this.#contains(key) ? this.#pending.findIndex(([other]) => this.#compare(other, key) >= 0) : -1
    if (this.#next === -1) this.#next = this.#pending.length
  }
}
