/**
 * Runs many seeds of the simulation in two processes, and says which failed.
 *
 *     npm run simulate -- [--from 1] [--seeds 100] [--workers 2] [--trace] [--disk a]
 *     SEED=n npm run simulate          that seed alone, with its trace; --disk a shows what replica a writes
 *     npm run simulate -- --planted    plants each fault of `faults.ts`, until a seed finds it; --only word picks some
 */
import { parseArgs } from 'node:util'
import { findFault } from './planted.ts'
import { faults } from './faults.ts'
import { runSeeds } from './workers.ts'

const { values } = parseArgs({
  options: {
    from: { type: 'string', default: process.env.SEED ?? '1' },
    seeds: { type: 'string' },
    workers: { type: 'string', default: '2' },
    disk: { type: 'string' },
    trace: { type: 'boolean', default: process.env.SEED !== undefined },
    planted: { type: 'boolean', default: false },
    only: { type: 'string', default: '' }
  }
})
const { disk, trace, planted, only } = values
const from = Number(values.from)
const workers = Number(values.workers)
const seeds = Number(values.seeds ?? (planted ? '4000' : process.env.SEED === undefined ? '100' : '1'))

if (planted) await plant()
else await simulate()

async function simulate (): Promise<void> {
  const result = await runSeeds({
    from,
    seeds,
    workers,
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
  process.exitCode = result.passed > 0 && result.failed === 0 ? 0 : 1
}

async function plant (): Promise<void> {
  const chosen = faults.filter(({ name }) => name.includes(only))
  let found = 0
  for (const fault of chosen) {
    const { seed, after, failure } = await findFault(fault, { from, seeds, workers })
    if (seed !== undefined) found++
    console.log(seed === undefined ? `not found in ${after} seeds: ${fault.name}` : `found after ${after} seeds: ${fault.name}\n    seed ${seed}: ${failure!.split('\n')[0]!.slice(0, 200)}`)
  }
  console.log(`${found} of ${chosen.length} planted faults found`)
  process.exitCode = chosen.length > 0 && found === chosen.length ? 0 : 1
}
