/**
 * Time that stands still until it is told to go on, and randomness that a seed repeats.
 *
 * `advance` fires timers in the order of their times, then of their making, and lets everything that a timer set
 * in motion come to rest before the next one. "At rest" is: no microtask and no `yield()` is pending. Real I/O
 * (sockets, LevelDB) is not waited for; a simulation that is to be repeated has none.
 */
import type { System, Timer } from '../../lib/types.ts'

interface VirtualTimer {
  atMs: number
  order: number
  callback: () => void
}

export interface VirtualSystemOptions {
  /** 1 by default. */
  seed?: number
  /** The wall clock at the beginning, milliseconds since 1970; the start of 2025 by default. */
  startMs?: number
}

export class VirtualSystem implements System {
  readonly seed: number
  readonly #timers = new Set<VirtualTimer>()
  #elapsedMs = 0
  #wallClockMs: number
  #timersMade = 0
  #yields = 0
  #state: number

  constructor ({ seed = 1, startMs = Date.UTC(2025, 0, 1) }: VirtualSystemOptions = {}) {
    this.seed = seed
    this.#state = seed >>> 0
    this.#wallClockMs = startMs
  }

  nowMs (): number { return this.#wallClockMs + this.#elapsedMs }
  monotonicMs (): number { return this.#elapsedMs }

  setTimer (callback: () => void, delayMs: number): Timer {
    const timer = { atMs: this.#elapsedMs + Math.max(0, delayMs), order: this.#timersMade++, callback }
    this.#timers.add(timer)
    return timer
  }

  clearTimer (timer: Timer): void {
    this.#timers.delete(timer as VirtualTimer)
  }

  async yield (): Promise<void> {
    this.#yields++
    await new Promise((resolve) => { setImmediate(resolve) })
    this.#yields--
  }

  /** Uniform in [0, 1): mulberry32 (Tommy Ettinger, public domain). */
  random (): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** Of the whole numbers below `limit` one, each as likely. */
  below (limit: number): number {
    return Math.floor(this.random() * limit)
  }

  randomBytes (size: number): Uint8Array {
    return Uint8Array.from({ length: size }, () => Math.floor(this.random() * 256))
  }

  /** Timers that have been set and have neither fired nor been cleared. */
  get timers (): number { return this.#timers.size }

  /** When the next timer fires, on the monotonic clock; undefined if there is none. */
  get nextTimerMs (): number | undefined { return this.#next()?.atMs }

  /** Sets the wall clock forward or back; the monotonic clock and timers do not notice. */
  jumpWallClock (byMs: number): void {
    this.#wallClockMs += byMs
  }

  /** Lets so much time pass. Rejects with what a timer's callback throws. */
  async advance (ms: number): Promise<void> {
    const endMs = this.#elapsedMs + ms
    await this.settle()
    for (let timer = this.#next(); timer !== undefined && timer.atMs <= endMs; timer = this.#next()) {
      this.#timers.delete(timer)
      this.#elapsedMs = Math.max(this.#elapsedMs, timer.atMs)
      timer.callback()
      await this.settle()
    }
    this.#elapsedMs = endMs
  }

  /** Waits, without passing time, until everything is at rest. */
  async settle (): Promise<void> {
    do {
      await new Promise((resolve) => { setImmediate(resolve) })
    } while (this.#yields > 0)
  }

  #next (): VirtualTimer | undefined {
    let first: VirtualTimer | undefined
    for (const timer of this.#timers) {
      if (first === undefined || timer.atMs < first.atMs || (timer.atMs === first.atMs && timer.order < first.order)) first = timer
    }
    return first
  }
}
