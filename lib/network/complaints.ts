/**
 * Which failures are told: whoever is not let in, or lets nobody in, fails in the same way again and again, every few
 * seconds, for as long as nobody mends it. That is told once, and once an hour while it lasts.
 */
import type { ReplicationError, ReplicationErrorCode } from '../errors.ts'
import type { System } from '../types.ts'

/** After so long the same is told again. */
export const toldAgainMs = 60 * 60 * 1000

/** Places of which it is remembered what was told; of more, the one of which it was longest ago is forgotten. */
const placesMax = 1024

export class Complaints {
  readonly #system: Pick<System, 'monotonicMs'>
  /** When each code was last told of a place. */
  readonly #toldMs = new Map<string, Map<ReplicationErrorCode, number>>()

  constructor (system: Pick<System, 'monotonicMs'>) {
    this.#system = system
  }

  /** Whether a failure at a place is to be told, which counts as telling it. */
  isNews (place: string, { code }: ReplicationError): boolean {
    const nowMs = this.#system.monotonicMs()
    const toldMs = this.#toldMs.get(place) ?? new Map<ReplicationErrorCode, number>()
    if (nowMs - (toldMs.get(code) ?? -Infinity) < toldAgainMs) return false
    toldMs.set(code, nowMs)
    this.#toldMs.delete(place)
    this.#toldMs.set(place, toldMs)
    if (this.#toldMs.size > placesMax) this.#toldMs.delete(this.#toldMs.keys().next().value!)
    return true
  }

  /** All is well there: the next failure is news. */
  forget (place: string): void {
    this.#toldMs.delete(place)
  }
}
