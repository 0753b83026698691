/**
 * Calls that come close upon one another are made together: the first few at once, the others at the end of a pause.
 * So a single change is told without delay, and thousands in a second cost no system call and no wake-up each.
 *
 * Source: interrupt moderation of network interfaces; the trade is the one of RFC 896, without its wait for an answer.
 */
import type { System, Timer } from '../types.ts'

export interface Pace {
  /** So many calls are made at once. */
  readonly atOnceMax: number
  /** For so long the calls that follow are gathered. */
  readonly pauseMs: number
  /** When no call came for so long, it begins anew. */
  readonly restMs: number
}

export class Pacer {
  readonly #system: System
  readonly #pace: Pace
  readonly #call: () => void
  #atOnce = 0
  #lastMs = -Infinity
  /** Runs while a call is owed. */
  #timer: Timer | undefined

  constructor (system: System, pace: Pace, call: () => void) {
    this.#system = system
    this.#pace = pace
    this.#call = call
  }

  /** Calls now, or soon. */
  call (): void {
    const { atOnceMax, pauseMs, restMs } = this.#pace
    const nowMs = this.#system.monotonicMs()
    if (nowMs - this.#lastMs >= restMs) this.#atOnce = 0
    this.#lastMs = nowMs
    if (this.#timer !== undefined) return
    if (this.#atOnce++ < atOnceMax) return this.#call()
    this.#timer = this.#system.setTimer(() => {
      this.#timer = undefined
      this.#call()
    }, pauseMs)
  }

  /** No call is owed any more. */
  stop (): void {
    this.#system.clearTimer(this.#timer)
  }
}
