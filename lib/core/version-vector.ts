/**
 * What a replica knows: for each log the highest sequence up to which everything is reflected in its state.
 *
 * A vector is the causal context of every key that the replica holds (node-wide context), so it must never claim
 * what the state lacks. Entries stand at the ends of transactions, and carry the timestamp of that transaction, by
 * which the owner of a log recognises a history that is not its own.
 * Vectors only grow, except where a loss is made up for (`storage/holes`), or a log turns out to be in other hands
 * (`storage/leaving`).
 *
 * Sources: Parker et al. 1983; Gonçalves, Almeida, Baquero, Fonte, "Concise Server-Wide Causality Management for
 * Eventually Consistent Data Stores", DAIS 2015.
 */
import type { Hlc } from './hlc.ts'
import type { LogId } from './ids.ts'

/** One step of a vector: this log is known up to this sequence, written at this time. */
export interface Advance {
  readonly log: LogId
  readonly sequence: number
  readonly hlc: Hlc
}

/** Anything that can say whether it has seen a write. */
export interface Context {
  covers (log: LogId, sequence: number): boolean
}

export interface ReadonlyVersionVector extends Context, Iterable<Advance> {
  readonly size: number
  get (log: LogId): Advance | undefined
  sequenceOf (log: LogId): number
  placeOf (log: LogId): Advance
  dominates (other: ReadonlyVersionVector): boolean
  equals (other: ReadonlyVersionVector): boolean
  beyond (base: ReadonlyVersionVector): Advance[]
  operationsBeyond (base: ReadonlyVersionVector): number
  clone (): VersionVector
}

export class VersionVector implements ReadonlyVersionVector {
  readonly #entries: Map<LogId, Advance>

  constructor (entries: Iterable<Advance> = []) {
    // A map that is copied whole costs a fraction of its entries taken in one by one.
    this.#entries = entries instanceof VersionVector ? new Map(entries.#entries) : new Map()
    if (!(entries instanceof VersionVector)) this.join(entries)
  }

  get size (): number {
    return this.#entries.size
  }

  get (log: LogId): Advance | undefined {
    return this.#entries.get(log)
  }

  sequenceOf (log: LogId): number {
    return this.#entries.get(log)?.sequence ?? 0
  }

  /** How far a log is known; at sequence 0 if not at all. */
  placeOf (log: LogId): Advance {
    return this.#entries.get(log) ?? { log, sequence: 0, hlc: 0 }
  }

  covers (log: LogId, sequence: number): boolean {
    return (this.#entries.get(log)?.sequence ?? 0) >= sequence
  }

  /** Whether everything that `other` covers is covered here. */
  dominates (other: ReadonlyVersionVector): boolean {
    for (const entry of other) if (!this.covers(entry.log, entry.sequence)) return false
    return true
  }

  equals (other: ReadonlyVersionVector): boolean {
    return this.dominates(other) && other.dominates(this)
  }

  /** Takes one entry in, if it is higher. */
  advance (entry: Advance): void {
    const known = this.#entries.get(entry.log)
    if (known === undefined ? entry.sequence > 0 : entry.sequence > known.sequence) this.#entries.set(entry.log, entry)
  }

  /** Goes back to an entry; to none, if its sequence is 0. */
  rewind (entry: Advance): void {
    if (!this.covers(entry.log, entry.sequence + 1)) return
    if (entry.sequence === 0) this.#entries.delete(entry.log)
    else this.#entries.set(entry.log, entry)
  }

  /** Takes in everything that `other` knows. */
  join (other: Iterable<Advance>): void {
    for (const entry of other) this.advance(entry)
  }

  /** The entries that `base` would have to take in to dominate this vector. */
  beyond (base: ReadonlyVersionVector): Advance[] {
    const advances: Advance[] = []
    for (const entry of this.#entries.values()) if (!base.covers(entry.log, entry.sequence)) advances.push(entry)
    return advances
  }

  /** How many operations this vector covers and `base` does not. */
  operationsBeyond (base: ReadonlyVersionVector): number {
    let operations = 0
    for (const { log, sequence } of this.#entries.values()) operations += Math.max(0, sequence - base.sequenceOf(log))
    return operations
  }

  clone (): VersionVector {
    return new VersionVector(this)
  }

  [Symbol.iterator] (): Iterator<Advance> {
    return this.#entries.values()
  }
}
