/**
 * Hybrid logical clock: one timestamp per transaction, for order and for people, never for causality.
 *
 * A timestamp is one integer: milliseconds since 1970 times 1024, plus a counter that carries into the milliseconds
 * when more than 1024 transactions share one. So it compares as a number, grows strictly on a replica whatever the
 * wall clock does, and is above every timestamp that the replica has seen: the order by timestamp is a linear
 * extension of causality. It stays below 2^53 until the year 2248; a time beyond 2200 is refused.
 *
 * The last fifty years of these are kept for our own counting: a timestamp of somebody else's there is accepted, and does
 * not move our clock. Else one member whose clock stands at the end could exhaust everybody's. What is written after it
 * has been seen may then have a lower timestamp; it supersedes it all the same.
 *
 * Source: Kulkarni, Demirbas et al., "Logical Physical Clocks", OPODIS 2014. We differ in the representation: the
 * paper keeps the counter apart.
 */
export type Hlc = number

const ticksPerMs = 1024

/** The last millisecond that is accepted: the end of the year 2200. */
export const timeMaxMs = Date.UTC(2201, 0, 1) - 1

/** The highest timestamp that is accepted. */
export const hlcMax: Hlc = timeMaxMs * ticksPerMs + (ticksPerMs - 1)

/** The highest timestamp of somebody else's that our clock follows: the end of the year 2150. */
export const hlcFollowedMax: Hlc = Date.UTC(2151, 0, 1) * ticksPerMs - 1

/** The timestamp of the next transaction: after `last`, and not before the wall clock. */
export function tick (last: Hlc, nowMs: number): Hlc {
  const now = Math.floor(nowMs) * ticksPerMs
  return now > last ? now : last + 1
}

/** The clock after a timestamp of somebody else was seen. */
export function observe (last: Hlc, seen: Hlc): Hlc {
  return seen > last && seen <= hlcFollowedMax ? seen : last
}

/** Milliseconds since 1970, for people. */
export function toMs (hlc: Hlc): number {
  return Math.floor(hlc / ticksPerMs)
}

/** Whether a clock can show this. */
export function isPossible (hlc: Hlc): boolean {
  return Number.isSafeInteger(hlc) && hlc >= 0 && hlc <= hlcMax
}
