/**
 * The ring of recent units that live streams read from, bounded in bytes. What all readers have read leaves it.
 *
 * A reader keeps the number of the next unit it wants. One that asks for a unit which has left the ring has fallen
 * behind, and has to catch up from the store; so has one that lacks what a unit without a body has changed. The newest
 * unit always stays, however large, so that a transaction of any size can be sent as a whole.
 */
import { feedBytesMax, feedUnitBytes } from '../limits.ts'
import type { Unit } from './unit.ts'

export class Feed {
  readonly #units: Unit[] = []
  readonly #bytesMax: number
  #first = 0
  #bytes = 0
  #readers = 0

  constructor (bytesMax: number = feedBytesMax) {
    this.#bytesMax = bytesMax
  }

  /** Number of the next unit to come. */
  get end (): number {
    return this.#first + this.#units.length
  }

  /** Links that read, or may soon. */
  get readers (): number {
    return this.#readers
  }

  /** Counts a reader; the ring is filled while there is one. */
  open (): void {
    this.#readers++
  }

  close (): void {
    if (--this.#readers > 0) return
    this.#first = this.end
    this.#units.length = 0
    this.#bytes = 0
  }

  push (unit: Unit): void {
    if (this.#readers === 0 || (unit.changes.length === 0 && unit.collected.length === 0)) return
    this.#units.push(unit)
    this.#bytes += bytesOf(unit)
    while (this.#bytes > this.#bytesMax && this.#units.length > 1) {
      this.#bytes -= bytesOf(this.#units.shift()!)
      this.#first++
    }
  }

  /** No reader wants a unit before this one any more. */
  release (number: number): void {
    const count = Math.min(number, this.end) - this.#first
    if (count <= 0) return
    for (const unit of this.#units.splice(0, count)) this.#bytes -= bytesOf(unit)
    this.#first += count
  }

  /** The unit with this number; undefined if it is still to come, `'lost'` if it has left the ring. */
  at (number: number): Unit | undefined | 'lost' {
    if (number < this.#first) return 'lost'
    return this.#units[number - this.#first]
  }
}

function bytesOf ({ body }: Unit): number {
  return feedUnitBytes + (body?.length ?? 0)
}
