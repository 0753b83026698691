/**
 * Two sides do the same task in turns, a slice at a time, and who begins alternates: what else the machine does
 * meanwhile meets both alike, and mostly leaves their ratio alone. What it cannot tell apart is work that LevelDB does
 * in the background after a slice: it may fall into the other side's turn.
 */
import type { Task, Timing } from './operations.ts'

export type Side = (task: Task) => Promise<Timing>

/** @returns what the slices took together, on each side */
export async function takeTurns (tasks: readonly Task[], ours: Side, theirs: Side): Promise<{ ours: Timing, theirs: Timing }> {
  const timings = { ours: [] as Timing[], theirs: [] as Timing[] }
  for (const [index, task] of tasks.entries()) {
    if (index % 2 === 1) timings.theirs.push(await theirs(task))
    timings.ours.push(await ours(task))
    if (index % 2 === 0) timings.theirs.push(await theirs(task))
  }
  return { ours: sum(timings.ours), theirs: sum(timings.theirs) }
}

/** A task in so many slices, each of at least `least` entries. */
export function slicesOf ({ operation, from, count }: Task, slices: number, least: number): Task[] {
  const size = Math.max(Math.ceil(count / slices), Math.min(least, count))
  return Array.from({ length: Math.ceil(count / size) }, (_, index) => {
    return { operation, from: from + index * size, count: Math.min(size, count - index * size) }
  })
}

function sum (timings: readonly Timing[]): Timing {
  const total = { ms: 0, cpuMs: 0, compared: 0 }
  for (const { ms, cpuMs, compared } of timings) {
    total.ms += ms
    total.cpuMs += cpuMs
    total.compared += compared
  }
  return total
}
