/**
 * Runs many seeds of the simulation in two processes, and says which failed.
 *
 *     npm run simulate -- [--from 1] [--seeds 100] [--workers 2] [--trace] [--disk a]
 *     SEED=n npm run simulate          that seed alone, with its trace; --disk a shows what replica a writes
 */
import { parseArgs } from 'node:util'
import { runSeeds } from './workers.ts'

const { values } = parseArgs({
  options: {
    from: { type: 'string', default: process.env.SEED ?? '1' },
    seeds: { type: 'string', default: process.env.SEED === undefined ? '100' : '1' },
    workers: { type: 'string', default: '2' },
    disk: { type: 'string' },
    trace: { type: 'boolean', default: process.env.SEED !== undefined }
  }
})

const { from, seeds, workers, trace, disk } = values
const result = await runSeeds({
  from: Number(from),
  seeds: Number(seeds),
  workers: Number(workers),
  trace,
  disk,
  onReport: ({ seed, failure, trace }) => {
    if (trace !== undefined) console.log(trace.join('\n'))
    if (failure !== undefined) console.log(`seed ${seed}: ${failure}`)
  }
})
for (const [what, count] of Object.entries(result.counts).sort(([a], [b]) => a < b ? -1 : 1)) console.log(`${String(count).padStart(10)}  ${what}`)
console.log(`${result.ms.toFixed(0)} ms a seed`)
console.log(`${result.passed} passed, ${result.failed} failed`)
process.exitCode = result.failed === 0 ? 0 : 1
