/** For tests: throws with what failed, and how to see it again. */
import { runSeeds, type RunOptions } from './workers.ts'

export async function passes (options: RunOptions): Promise<void> {
  const { reports } = await runSeeds(options)
  const failures = reports.filter(({ failure }) => failure !== undefined)
  if (failures.length === 0 && reports.length === options.seeds) return
  throw new Error([`${reports.length - failures.length} of ${options.seeds} seeds passed; SEED=n npm run simulate replays one`, ...failures.map(({ seed, failure }) => `seed ${seed}: ${failure}`)].join('\n'))
}
