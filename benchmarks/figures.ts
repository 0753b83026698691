/**
 * What a benchmark gives: figures, each with its samples, what it is compared with, and what was checked.
 */
import { summarise, type Summary } from './statistics.ts'

export interface Measurement {
  readonly name: string
  readonly unit: string
  /** One sample for each round. */
  readonly samples: readonly number[]
  /** The same without what is measured, round by round beside it. */
  readonly against?: { readonly name: string, readonly samples: readonly number[] }
  /** CPU time of the same work relative to `against`, round by round. */
  readonly cpu?: readonly number[]
  /** Entries that were counted, and values compared, over all rounds. */
  readonly checked: { readonly entries: number, readonly samples: number }
}

/** The least or largest ratio, or the least or largest value, that `--floors` lets pass. */
export type Floor = { readonly ratio: number } | { readonly ratioAtMost: number } | { readonly atLeast: number } | { readonly atMost: number }

export interface Figure extends Measurement, Summary {
  readonly benchmark: string
  readonly reference?: Summary & { readonly name: string }
  /** To what it is compared with, taken within each round: not the ratio of the medians. */
  readonly ratio?: Summary
  readonly cpuRatio?: Summary
  readonly floor?: Floor
  /** Whether the floor is missed; undefined if there is none. */
  readonly missed?: boolean
}

/** By benchmark and name. */
const floors: Record<string, Floor> = {
  'single process: sequential put': { ratio: 0.85 },
  'single process: concurrent put': { ratio: 0.9 },
  'single process: batch': { ratio: 0.6 },
  'single process: get': { ratio: 0.95 },
  'single process: getSync': { ratio: 0.95 },
  'single process: getMany': { ratio: 0.95 },
  'single process: iterator.all': { ratio: 0.75 },
  'single process: for await': { ratio: 0.95 },
  'first sync: rate': { atLeast: 60_000 },
  'latency: p50': { atMost: 1 },
  'mesh of ten: wire, for each write and replica': { ratioAtMost: 1.1 },
  'growth: open after writes, beyond classic-level': { atMost: 20 },
  'growth: open at rest, beyond classic-level': { atMost: 20 },
  'growth: disk': { ratioAtMost: 2.2 },
  // A cost that is at most 1.3 of the other.
  'growth: sequential put': { ratio: 1 / 1.3 },
  'growth: batch': { ratio: 1 / 1.3 }
}

export function figureOf (benchmark: string, measurement: Measurement): Figure {
  const { samples, against, cpu } = measurement
  const summary = summarise(samples)
  const ratio = against && summarise(samples.map((sample, round) => sample / against.samples[round]!))
  const floor = floors[`${benchmark}: ${measurement.name}`]
  return {
    benchmark,
    ...measurement,
    ...summary,
    ...(against && { reference: { name: against.name, ...summarise(against.samples) } }),
    ...(ratio && { ratio }),
    ...(cpu && { cpuRatio: summarise(cpu) }),
    ...(floor && { floor, missed: misses(floor, summary, ratio) })
  }
}

function misses (floor: Floor, { median }: Summary, ratio: Summary | undefined): boolean {
  if ('ratio' in floor) return ratio === undefined || ratio.median < floor.ratio
  if ('ratioAtMost' in floor) return ratio === undefined || ratio.median > floor.ratioAtMost
  return 'atLeast' in floor ? median < floor.atLeast : median > floor.atMost
}
