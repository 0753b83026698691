/**
 * From timings, taken in turns on two sides, to rates and their ratios.
 */
import type { Measurement } from './figures.ts'
import type { writeNames } from './operations.ts'
import { type OperationName, type Timing } from './operations.ts'

export interface TimedTask {
  readonly operation: OperationName
  readonly count: number
  readonly ours: Timing
  readonly theirs: Timing
}

/** Turns that each side has at one operation. */
export const slicesPerRound = 8

/** How many entries each way to write gets. */
export function putSizes (entries: number): Record<typeof writeNames[number], number> {
  return { 'sequential put': Math.ceil(entries / 5), 'concurrent put': Math.ceil(entries / 5), batch: Math.ceil(entries / 5) }
}

/** One measurement for each operation, in the order in which they came first. */
export function ratesOf (timed: readonly TimedTask[], against: string, checked: Measurement['checked']): Measurement[] {
  return [...new Set(timed.map(({ operation }) => operation))].map((name) => {
    const rounds = timed.filter(({ operation }) => operation === name)
    return {
      name,
      unit: 'entries/s',
      samples: rounds.map(({ count, ours }) => count / ours.ms * 1000),
      against: { name: against, samples: rounds.map(({ count, theirs }) => count / theirs.ms * 1000) },
      cpu: rounds.map(({ ours, theirs }) => ours.cpuMs / theirs.cpuMs),
      checked
    }
  })
}
