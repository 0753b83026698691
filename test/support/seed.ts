/**
 * The seed of this run: from the environment, or new. It is printed, so that `SEED=n` replays a failure.
 */
export const seed = Number(process.env.SEED ?? Date.now() % 1_000_000_007)

console.log(`SEED=${seed}`)

/** fast-check's parameters for so many runs. */
export function runs (numRuns: number): { numRuns: number, seed: number, includeErrorInReport: true } {
  return { numRuns, seed, includeErrorInReport: true }
}
