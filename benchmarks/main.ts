/**
 * Runs the benchmarks one after another, prints their figures, and writes them as JSON.
 *
 * Exit status: 0, 1 if a check failed or a floor was missed, 2 for bad usage.
 */
import { writeFileSync } from 'node:fs'
import { connected } from './connected.ts'
import { convergence } from './convergence.ts'
import { figureOf, type Figure, type Measurement } from './figures.ts'
import { firstSync } from './first-sync.ts'
import { growing } from './growth.ts'
import { latency } from './latency.ts'
import { machine, machineText } from './machine.ts'
import { mesh } from './mesh.ts'
import { parseOptions, type Options } from './options.ts'
import { reconnect } from './reconnect.ts'
import { single } from './single.ts'
import { table } from './table.ts'

const benchmarks: Record<string, (options: Options) => Promise<Measurement[]>> = {
  'single process': single,
  'live peer': connected,
  'first sync': firstSync,
  latency,
  reconnect,
  'both write': convergence,
  'mesh of ten': mesh,
  growth: growing
}

process.once('disconnect', () => { process.exit(1) })

let options: Options
let names: string[]
try {
  options = parseOptions(process.argv.slice(2), process.env.BENCHMARKS_DIRECTORY!)
  const { only } = options
  names = Object.keys(benchmarks).filter((name) => only === undefined || name.includes(only))
  if (names.length === 0) throw new TypeError(`--only has to be part of one of ${Object.keys(benchmarks).join(', ')}; received ${only}`)
} catch (error) {
  console.error((error as Error).message)
  process.exit(2)
}

const { rounds, entries, encoding, json } = options
const figures: Figure[] = []
for (const name of names) {
  const startMs = performance.now()
  const measurements = await benchmarks[name]!(options)
  figures.push(...measurements.map((measurement) => figureOf(name, measurement)))
  console.error(`${name}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
}

console.log(`\n${machineText}; ${rounds} rounds, ${entries} entries of 16 + 100 bytes, ${encoding}\n`)
console.log(table(figures))
if (json !== undefined) writeFileSync(json, JSON.stringify({ date: new Date().toISOString(), ...machine, rounds, entries, encoding, figures }, null, 2))

const missed = figures.filter((figure) => figure.missed)
if (missed.length > 0) console.log(`\nBelow their floor: ${missed.map(({ benchmark, name }) => `${benchmark}, ${name}`).join('; ')}`)
process.exit(options.floors && missed.length > 0 ? 1 : 0)
