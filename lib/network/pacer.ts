/**
 * Calls that come close upon one another are made together: the first few within a pause at once, the others at its
 * end. So a single change is told without delay, and thousands in a second cost no system call and no wake-up each.
 *
 * Source: interrupt moderation of network interfaces; the trade is the one of RFC 896, without its wait for an answer.
 */
import { callsAtOnceMax } from '../limits.ts'
import type { System, Timer } from '../types.ts'

export class Pacer {
  readonly #system: System
  readonly #pauseMs: number
  readonly #call: () => void
  #calls = 0
  #sinceMs = -Infinity
  /** Runs while a call is owed. */
  #timer: Timer | undefined

  constructor (system: System, pauseMs: number, call: () => void) {
    this.#system = system
    this.#pauseMs = pauseMs
    this.#call = call
  }

  /** Calls now, or soon. */
  call (): void {
    if (this.#timer !== undefined) return
    const nowMs = this.#system.monotonicMs()
    if (nowMs - this.#sinceMs >= this.#pauseMs) {
      this.#sinceMs = nowMs
      this.#calls = 0
    }
    if (++this.#calls <= callsAtOnceMax) return this.#call()
    this.#timer = this.#system.setTimer(() => {
      this.#timer = undefined
      this.#call()
    }, this.#pauseMs)
  }

  /** No call is owed any more. */
  stop (): void {
    this.#system.clearTimer(this.#timer)
  }
}
