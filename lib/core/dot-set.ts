/**
 * Writes known one by one, above what a version vector can claim.
 *
 * After a loss a replica knows some writes whose predecessors it lacks. Together with its vector, cut back to before
 * the loss, they are the exact context of its state.
 *
 * Source: version vectors with exceptions, Malkhi and Terry, "Concise Version Vectors in WinFS", DISC 2005.
 */
import type { LogId } from './ids.ts'
import type { Context } from './version-vector.ts'

/** From one sequence to another, both included. */
type Range = [first: number, last: number]

export class DotSet implements Context {
  /** Of each log, ascending; no two of them touch. */
  readonly #ranges = new Map<LogId, Range[]>()

  get empty (): boolean {
    return this.#ranges.size === 0
  }

  /** Adds a write. */
  add (log: LogId, sequence: number): void {
    const ranges = this.#ranges.get(log)
    if (ranges === undefined) {
      this.#ranges.set(log, [[sequence, sequence]])
      return
    }
    const end = ranges.at(-1)!
    if (sequence === end[1] + 1) {
      end[1] = sequence
      return
    }
    const apart = ranges.filter((range) => range[1] < sequence - 1 || range[0] > sequence + 1)
    const touching = ranges.filter((range) => !apart.includes(range))
    apart.push([Math.min(sequence, ...touching.map((range) => range[0])), Math.max(sequence, ...touching.map((range) => range[1]))])
    this.#ranges.set(log, apart.sort((a, b) => a[0] - b[0]))
  }

  covers (log: LogId, sequence: number): boolean {
    return this.#ranges.size > 0 && this.#ranges.get(log)?.some(([first, last]) => first <= sequence && sequence <= last) === true
  }

  /** Whether another context covers all of them. */
  isWithin (context: Context): boolean {
    for (const [log, ranges] of this.#ranges) if (!context.covers(log, ranges.at(-1)![1])) return false
    return true
  }

  clear (): void {
    this.#ranges.clear()
  }
}
