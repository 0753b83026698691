/**
 * A queue whose head is taken in constant time, however long it is.
 *
 * Source: the pair of stacks of Hood and Melville, "Real-time queue operations in pure Lisp", Information Processing
 * Letters 13 (1981).
 */
export class Fifo<Item> {
  #pushed: Item[] = []
  /** What came before, the first one last. */
  #reversed: Item[] = []

  get length (): number {
    return this.#pushed.length + this.#reversed.length
  }

  push (item: Item): void {
    this.#pushed.push(item)
  }

  /** The head, which stays. */
  get first (): Item | undefined {
    if (this.#reversed.length === 0 && this.#pushed.length > 0) {
      this.#reversed = this.#pushed.reverse()
      this.#pushed = []
    }
    return this.#reversed.at(-1)
  }

  shift (): Item | undefined {
    return this.first === undefined ? undefined : this.#reversed.pop()
  }
}
