/**
 * How long to wait before the next try: exponential, capped, with jitter.
 *
 * Jitter keeps replicas that lost the same peer at the same moment from coming back at the same moment. This is
 * the "equal jitter" of Marc Brooker, 'Exponential Backoff And Jitter', AWS Architecture Blog 2015: half of the
 * delay is fixed, half is random. The fixed half is what "full jitter" lacks and a dialer needs: a delay is never
 * near zero. The factor 1.6 is that of gRPC's connection back-off.
 */
const growth = 1.6

/** Delays from `minMs` growing to `maxMs`; `random` is uniform in [0, 1). Pure but for that. */
export class BackOff {
  readonly #minMs: number
  readonly #maxMs: number
  readonly #random: () => number
  #ceilingMs: number

  constructor ({ minMs, maxMs, random }: { minMs: number, maxMs: number, random: () => number }) {
    this.#minMs = minMs
    this.#maxMs = maxMs
    this.#random = random
    this.#ceilingMs = minMs
  }

  /** The next delay in milliseconds: from half of the present ceiling to all of it. */
  next (): number {
    const ceilingMs = this.#ceilingMs
    this.#ceilingMs = Math.min(this.#maxMs, ceilingMs * growth)
    return ceilingMs / 2 + this.#random() * ceilingMs / 2
  }

  /** Begins again at `minMs`. */
  reset (): void {
    this.#ceilingMs = this.#minMs
  }
}
