/** Looks for a fault that was planted. */
import type { PlantedFault } from './faults.ts'
import { runSeeds, type RunOptions } from './workers.ts'

export interface Finding {
  /** The seed that found it; undefined if none did. */
  readonly seed: number | undefined
  readonly failure: string | undefined
  readonly after: number
}

/** @throws if the fault cannot be planted: then nothing was looked for. */
export async function findFault ({ name, patches }: PlantedFault, options: Pick<RunOptions, 'from' | 'seeds' | 'workers'>): Promise<Finding> {
  const { reports } = await runSeeds({ ...options, patches, untilFailure: true })
  const found = reports.find(({ failure }) => failure !== undefined)
  if (found?.kind === 'process') throw new Error(`"${name}" was not found, but ended the process: ${found.failure}`)
  return { seed: found?.seed, failure: found?.failure, after: reports.length }
}
