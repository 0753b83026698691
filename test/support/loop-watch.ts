/**
 * For how long the event loop of this process is held at a time.
 *
 * On a busy machine a process waits for the processor longer than it may hold its loop, and its other threads compute while
 * the loop is free. So of the time between two ticks counts what the main thread has computed in it, where Linux says so (to
 * a tick of the kernel, a few milliseconds); elsewhere what all threads have, which is more.
 */
import { openSync, readSync } from 'node:fs'

const tickMs = 1

/** Milliseconds of the processor that the main thread has had. */
const computedMs = mainThreadClock() ?? (() => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
})

function mainThreadClock (): (() => number) | undefined {
  const text = Buffer.alloc(64)
  try {
    const file = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r')
    const read = (): number => Number.parseInt(text.latin1Slice(0, readSync(file, text, 0, text.length, 0))) / 1e6
    return read() > 0 ? read : undefined
  } catch {
    return undefined
  }
}

export class LoopWatch {
  readonly #timer: NodeJS.Timeout
  #lastMs = performance.now()
  #lastComputedMs = computedMs()
  #heldMs = 0

  constructor () {
    this.#timer = setInterval(() => { this.#tick() }, tickMs)
  }

  #tick (): void {
    const nowMs = performance.now()
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
