/**
 * For how long the event loop of this process is held at a time.
 *
 * On a busy machine a process waits for the processor longer than it may hold its loop. So what counts of the time between
 * two ticks is what the process has computed in it, on all its threads.
 */
const tickMs = 1

export class LoopWatch {
  readonly #timer: NodeJS.Timeout
  #lastMs = performance.now()
  #last = process.cpuUsage()
  #heldMs = 0

  constructor () {
    this.#timer = setInterval(() => { this.#tick() }, tickMs)
  }

  #tick (): void {
    const nowMs = performance.now()
    const { user, system } = process.cpuUsage(this.#last)
    this.#last = process.cpuUsage()
    this.#heldMs = Math.max(this.#heldMs, Math.min(nowMs - this.#lastMs, (user + system) / 1000))
    this.#lastMs = nowMs
  }

  /** The longest time, in milliseconds. */
  end (): number {
    clearInterval(this.#timer)
    this.#tick()
    return this.#heldMs
  }
}
