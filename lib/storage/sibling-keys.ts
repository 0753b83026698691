/**
 * The keys that have siblings whose values are kept apart, remembered so that a `put` to any other key needs no read.
 *
 * Exact while `complete`; before it is loaded, or when there are more than `siblingKeysMax`, every key may be one.
 */
import { siblingKeysMax } from '../limits.ts'
import type { Engine } from './engine.ts'
import { dotBytes, keyspace, wholeKeyspace } from './keyspaces.ts'

export class SiblingKeys {
  /** Keys as binary strings. */
  readonly #keys = new Set<string>()
  #loaded = false
  #overflown = false
  readonly #max: number

  constructor (max: number = siblingKeysMax) {
    this.#max = max
  }

  /** Whether {@link keys} names them all. */
  get complete (): boolean {
    return this.#loaded && !this.#overflown
  }

  /** Whether no key has siblings for certain, so that nobody needs to ask. */
  get none (): boolean {
    return this.complete && this.#keys.size === 0
  }

  mayHold (key: string): boolean {
    return !this.complete || this.#keys.has(key)
  }

  add (key: string): void {
    if (this.#overflown) return
    this.#keys.add(key)
    if (this.#keys.size > this.#max) {
      this.#overflown = true
      this.#keys.clear()
    }
  }

  delete (key: string): void {
    this.#keys.delete(key)
  }

  keys (): Iterable<string> {
    return this.#keys
  }

  /** What is known may not be true any more. */
  unload (): void {
    this.#loaded = false
  }

  /** Reads the sibling keyspace, whose size is that of the unsettled conflicts. */
  async load (engine: Engine): Promise<void> {
    for await (const bytes of engine.keys({ ...wholeKeyspace(keyspace.sibling), keyEncoding: 'buffer' })) {
      this.add(bytes.latin1Slice(1, bytes.length - dotBytes))
      if (this.#overflown) break
    }
    this.#loaded = true
  }
}
