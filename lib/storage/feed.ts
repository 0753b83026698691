/**
 * The ring of recent units that live streams read from, bounded in bytes. What all readers have read leaves it.
 *
 * A reader keeps the number of the next unit it wants. One that asks for a unit which has left the ring has fallen
 * behind, and has to catch up from the store. The newest unit always stays, however large, so that a transaction of
 * any size can be sent as a whole.
 */
import { feedBytesMax } from '../limits.ts'
import type { Unit } from './unit.ts'

export interface FeedUnit extends Unit {
  readonly body: Buffer
}

export class Feed {
  readonly #units: FeedUnit[] = []
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

  /** Whether units are worth recording. */
  get hasReaders (): boolean {
    return this.#readers > 0
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

  push ({ changes, collected, body }: Unit): void {
    if (!this.hasReaders || (changes.length === 0 && collected.length === 0)) return
    if (body === undefined) {
      // A batch begun before the first reader came, or one that is no unit: a gap that no reader may jump over.
      this.#first = this.end + 1
      this.#units.length = 0
      this.#bytes = 0
      return
    }
    this.#units.push({ changes, collected, body })
    this.#bytes += body.length
    while (this.#bytes > this.#bytesMax && this.#units.length > 1) {
      this.#bytes -= this.#units.shift()!.body.length
      this.#first++
    }
  }

  /** No reader wants a unit before this one any more. */
  release (number: number): void {
    const count = Math.min(number, this.end) - this.#first
    if (count <= 0) return
    for (const { body } of this.#units.splice(0, count)) this.#bytes -= body.length
    this.#first += count
  }

  /** The unit with this number; undefined if it is still to come, `'lost'` if it has left the ring. */
  at (number: number): FeedUnit | undefined | 'lost' {
    if (number < this.#first) return 'lost'
    return this.#units[number - this.#first]
  }
}
