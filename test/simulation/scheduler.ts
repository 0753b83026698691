/**
 * Virtual time: events in the order of their times, then of their making. After each event everything that it set
 * in motion comes to rest, before the next one happens.
 *
 * "At rest" is: no microtask and no `process.nextTick` is pending, which is when Node comes to its immediates. There is
 * no real I/O and no real timer in a simulation, so nothing else can happen.
 */
import type { System, Timer } from '../../lib/types.ts'
import type { Dice } from './dice.ts'

export interface Event {
  readonly atMs: number
  readonly order: number
  action: (() => void) | undefined
}

export class Scheduler {
  elapsedMs = 0
  events = 0
  readonly #heap: Event[] = []
  #made = 0

  after (delayMs: number, action: () => void): Event {
    const event = { atMs: this.elapsedMs + Math.max(0, delayMs), order: this.#made++, action }
    this.#push(event)
    return event
  }

  cancel (event: Event): void {
    event.action = undefined
  }

  async pause (delayMs: number): Promise<void> {
    await new Promise<void>((resolve) => { this.after(delayMs, resolve) })
  }

  /** Lets one event happen. False if there is none. */
  async step (): Promise<boolean> {
    let event = this.#pop()
    while (event !== undefined && event.action === undefined) event = this.#pop()
    if (event === undefined) return false
    this.elapsedMs = event.atMs
    this.events++
    event.action!()
    await new Promise((resolve) => { setImmediate(resolve) })
    return true
  }

  #push (event: Event): void {
    const heap = this.#heap
    let index = heap.push(event) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(event, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = event
  }

  #pop (): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (heap.length === 0 || last === undefined) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
    return first
  }
}

function isBefore (a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

/** A machine's wall clock: off by so much, and it jumps. */
export interface WallClock {
  offsetMs: number
}

const epochMs = Date.UTC(2026, 0, 1)

/** What one process sees of time and chance; nothing any more once it is dead. */
export class ProcessSystem implements System {
  dead = false
  /** What has become due while the process stands still; undefined while it runs. */
  #held: Array<() => void> | undefined
  readonly #scheduler: Scheduler
  readonly #clock: WallClock
  readonly #dice: Dice
  readonly #startedMs: number

  constructor (scheduler: Scheduler, clock: WallClock, dice: Dice) {
    this.#scheduler = scheduler
    this.#clock = clock
    this.#dice = dice
    this.#startedMs = scheduler.elapsedMs - dice.below(1e6)
  }

  nowMs (): number { return epochMs + this.#scheduler.elapsedMs + this.#clock.offsetMs }
  monotonicMs (): number { return this.#scheduler.elapsedMs - this.#startedMs }

  setTimer (callback: () => void, delayMs: number): Timer {
    return this.#scheduler.after(delayMs, () => { this.#run(callback) })
  }

  #run (callback: () => void): void {
    if (this.dead) return
    if (this.#held === undefined) callback()
    else this.#held.push(callback)
  }

  /** The process stands still, as one does that is stopped by a signal, or whose machine has too much to do. */
  freeze (): void {
    this.#held ??= []
  }

  thaw (): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (const callback of held) this.#scheduler.after(0, () => { this.#run(callback) })
  }

  get frozen (): boolean {
    return this.#held !== undefined
  }

  /** Resolves when the process runs. */
  async running (): Promise<void> {
    while (this.#held !== undefined) await new Promise<void>((resolve) => { this.#held!.push(resolve) })
  }

  clearTimer (timer: Timer): void {
    if (timer !== undefined) this.#scheduler.cancel(timer as Event)
  }

  async yield (): Promise<void> {
    await this.#scheduler.pause(0)
    await this.running()
  }

  randomBytes (size: number): Uint8Array { return this.#dice.bytes(size) }
  random (): number { return this.#dice.roll() }
}
