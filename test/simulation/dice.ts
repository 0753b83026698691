/** Everything that a simulation leaves to chance, and that its seed repeats. */
import { randomNumbers } from '../support/random.ts'

export class Dice {
  readonly #next: () => number

  constructor (seed: number) {
    this.#next = randomNumbers(Math.imul(seed + 1, 0x9E3779B1))
  }

  /** Uniform in [0, 1). */
  roll (): number {
    return this.#next()
  }

  chance (probability: number): boolean {
    return this.#next() < probability
  }

  below (limit: number): number {
    return Math.floor(this.#next() * limit)
  }

  between (min: number, max: number): number {
    return min + this.below(max - min + 1)
  }

  pick<T> (items: readonly T[]): T {
    return items[this.below(items.length)]!
  }

  /** One of the names, each as likely as its weight. */
  weighted<T extends string> (weights: Readonly<Record<T, number>>): T {
    const entries = Object.entries(weights) as Array<[T, number]>
    let left = this.#next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of entries) if ((left -= weight) < 0) return name
    return entries[0]![0]
  }

  /** Milliseconds of a process without memory. */
  exponential (meanMs: number): number {
    return -Math.log(1 - this.#next()) * meanMs
  }

  bytes (size: number): Uint8Array {
    return Uint8Array.from({ length: size }, () => this.below(256))
  }

  /** Dice of one's own: what others roll does not matter any more. */
  fork (): Dice {
    return new Dice(this.below(2 ** 31))
  }
}
