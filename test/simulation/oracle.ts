/**
 * What has happened in truth: every write with all writes that its author had seen.
 *
 * It knows no merge. A set of writes is a bit set (a bigint), so that "what is left of these when everything that one of
 * them had seen is taken away" is a handful of operations.
 */
import { formatLogId, type LogId } from '../../lib/core/ids.ts'
import type { Advance } from '../../lib/core/version-vector.ts'

export interface NewWrite {
  readonly log: LogId
  readonly sequence: number
  readonly hlc: number
  readonly key: string
  readonly type: 'put' | 'del'
  readonly value: string | undefined
  /** The replica that wrote it, by id and by the machine's name. */
  readonly replica: string
  readonly author: string
  /** Whether its author was restored or cloned before. */
  readonly special: boolean
}

export interface Write extends NewWrite {
  readonly index: number
  readonly bit: bigint
  /** All writes of its transaction, itself included; known when the transaction is complete. */
  together: bigint
  /** All writes that its author had seen. */
  past: bigint
  /** Those of the same key. */
  superseded: bigint
}

/** A machine takes what it alone has out of a log. */
export interface Leaving {
  readonly machine: string
  /** Up to where it does not. */
  readonly kept: Advance
  /** What is beyond. */
  readonly beyond: bigint
  /** What it has written again. */
  readonly again: Map<Write, Write>
  /** How many writes there were when it began. */
  readonly since: number
}

export class Oracle {
  readonly writes: Write[] = []
  readonly #byDot = new Map<LogId, Map<number, Write>>()
  readonly #byKey = new Map<string, Write[]>()
  readonly #maskByKey = new Map<string, bigint>()
  /** Tombstones that somebody has forgotten, and what they had superseded. */
  collected = 0n
  collectedSuperseded = 0n
  /** Writes that somebody has taken out of a log, and what became of those that were live. */
  left = 0n
  readonly #again = new Map<Write, Write[]>()
  /** By machine, while it is under way, crashes in between or not. */
  readonly #leavings = new Map<string, Leaving>()
  /** What deletes had superseded that were forgotten, and then left with their log. */
  erased = 0n
  /** Logs that begin with a sequence which is no write. */
  readonly fenced = new Set<LogId>()
  /** Who counted for the collector of a tombstone when it was collected. */
  readonly countedAt = new Map<Write, ReadonlySet<string>>()
  /** Writes that the disk of their author has lost; others may have them. */
  lostByAuthors = 0n

  get keys (): Iterable<string> {
    return this.#byKey.keys()
  }

  write (fresh: NewWrite, past: bigint): Write {
    const bit = 1n << BigInt(this.writes.length)
    const mask = this.mask(fresh.key)
    const write: Write = { ...fresh, index: this.writes.length, bit, together: bit, past, superseded: past & mask }
    this.writes.push(write)
    let log = this.#byDot.get(fresh.log)
    if (log === undefined) this.#byDot.set(fresh.log, log = new Map())
    log.set(fresh.sequence, write)
    let ofKey = this.#byKey.get(fresh.key)
    if (ofKey === undefined) this.#byKey.set(fresh.key, ofKey = [])
    ofKey.push(write)
    this.#maskByKey.set(fresh.key, mask | bit)
    return write
  }

  /** The author writes again what it takes out of a log: all that it had seen of it goes by the new names. */
  writeAgain (leaving: Leaving, old: Write, { log, sequence }: { log: LogId, sequence: number }): Write {
    const { beyond: left, again } = leaving
    const known = this.list(old.past & left).reduce((bits, write) => bits | (again.get(write)?.bit ?? 0n), 0n)
    const write = this.write({ ...old, log, sequence, special: true }, (old.past & ~left) | known)
    again.set(old, write)
    this.#again.set(old, [...this.#again.get(old) ?? [], write])
    // What was written meanwhile knew it by the old name.
    for (const later of this.#meanwhile(leaving)) if ((later.past & old.bit) !== 0n) this.#setPast(later, (later.past & ~old.bit) | write.bit)
    return write
  }

  /** It is done: what was written meanwhile counts as written without having seen those that go by no other name. */
  endLeaving (leaving: Leaving): void {
    this.#leavings.delete(leaving.machine)
    for (const write of this.#meanwhile(leaving)) if ((write.past & leaving.beyond) !== 0n) this.#setPast(write, write.past & ~leaving.beyond)
  }

  #meanwhile ({ machine, since }: Leaving): Write[] {
    return this.writes.slice(since).filter(({ author }) => author === machine)
  }

  #setPast (write: Write, past: bigint): void {
    write.past = past
    write.superseded = past & this.mask(write.key)
  }

  /** What was written beyond this is gone from everywhere. */
  forgetBeyond (log: LogId, last: number): void {
    const writes = this.#byDot.get(log)
    for (const sequence of [...writes?.keys() ?? []]) if (sequence > last) writes!.delete(sequence)
  }

  /** A machine takes out of a log what is beyond an entry, or goes on with that after a crash. */
  leave (machine: string, kept: Advance, beyond: bigint): Leaving {
    this.left |= beyond
    for (const write of this.list(beyond & this.collected)) this.erased |= write.superseded
    const earlier = this.#leavings.get(machine)
    if (earlier?.kept.log === kept.log && earlier.kept.sequence === kept.sequence && earlier.beyond === beyond) return earlier
    const leaving = { machine, kept, beyond, again: new Map(), since: this.writes.length }
    this.#leavings.set(machine, leaving)
    return leaving
  }

  /** Of writes that have to be there, those that are not, under any name; what had been superseded when its log was left need not. */
  lost (bits: bigint, seen: bigint): bigint {
    const isThere = (write: Write): boolean => (seen & write.bit) !== 0n || ((this.left & write.bit) !== 0n && (this.#again.get(write) ?? [undefined]).some((again) => again === undefined || isThere(again)))
    return this.list(bits & ~seen).reduce((lost, write) => isThere(write) ? lost : lost | write.bit, 0n)
  }

  at (log: LogId, sequence: number): Write | undefined {
    return this.#byDot.get(log)?.get(sequence)
  }

  /** The last sequence that was ever written in a log. */
  lastOf (log: LogId): number {
    return Math.max(0, ...this.#byDot.get(log)?.keys() ?? [])
  }

  /** All writes to a key. */
  mask (key: string): bigint {
    return this.#maskByKey.get(key) ?? 0n
  }

  of (key: string): readonly Write[] {
    return this.#byKey.get(key) ?? []
  }

  /** The writes of a log from one sequence, excluded, to another, included. */
  range (log: LogId, from: number, to: number): bigint {
    const writes = this.#byDot.get(log)
    let bits = 0n
    if (writes !== undefined) for (let sequence = from + 1; sequence <= to; sequence++) bits |= writes.get(sequence)?.bit ?? 0n
    return bits
  }

  /** What true causality leaves of a key for somebody who has seen these writes. */
  siblings (key: string, seen: bigint): bigint {
    let left = seen & this.mask(key)
    if (left !== 0n) for (const write of this.of(key)) if ((write.bit & seen) !== 0n) left &= ~write.superseded
    return left
  }

  list (bits: bigint): Write[] {
    return this.writes.filter(({ bit }) => (bits & bit) !== 0n)
  }

  names (bits: bigint): string {
    return this.list(bits).map(dotOf).join(', ')
  }
}

export function dotOf ({ author, log, sequence, type, key }: Write): string {
  return `${author}/${formatLogId(log).slice(0, 4)}:${sequence} (${type} ${key})`
}
