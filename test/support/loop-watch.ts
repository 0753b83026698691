/**
 * For how long the event loop of this process is held at a time.
 *
 * On a busy machine a process waits for the processor longer than it may hold its loop. So of the time between two ticks
 * counts what the main thread did not wait for a processor (Linux says how long it did; the collector of garbage, for which
 * it waits too, is its own doing), and no more than all threads have computed meanwhile.
 */
import { openSync, readSync } from 'node:fs'

const tickMs = 1

/** Milliseconds for which the main thread has waited for a processor; none where that cannot be told. */
const waitedMs = waitingClock() ?? (() => 0)

function waitingClock (): (() => number) | undefined {
  const text = Buffer.alloc(64)
  try {
    const file = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r')
    const read = (): number => Number(text.latin1Slice(0, readSync(file, text, 0, text.length, 0)).split(' ')[1]) / 1e6
    return read() >= 0 ? read : undefined
  } catch {
    return undefined
  }
}

function computedMs (): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

export class LoopWatch {
  readonly #timer: NodeJS.Timeout
  #lastMs = performance.now() - waitedMs()
  #lastComputedMs = computedMs()
  #heldMs = 0

  constructor () {
    this.#timer = setInterval(() => { this.#tick() }, tickMs)
  }

  #tick (): void {
    const nowMs = performance.now() - waitedMs()
    const nowComputedMs = computedMs()
    this.#heldMs = Math.max(this.#heldMs, Math.min(nowMs - this.#lastMs, nowComputedMs - this.#lastComputedMs))
    this.#lastMs = nowMs
    this.#lastComputedMs = nowComputedMs
  }

  /** The longest time, in milliseconds. */
  end (): number {
    clearInterval(this.#timer)
    this.#tick()
    return this.#heldMs
  }
}
