/**
 * Runs all jobs with all peers, one after another in every round, prints how ReplicatedLevel compares with each, and
 * writes it as JSON.
 *
 * Exit status: 0, or 1 if a peer failed or a check did. A peer that fails does not keep the others
 * from being measured, and one that is missing here is named.
 */
import { writeFileSync } from 'node:fs'
import { figureOf, type Figure, type Measurement } from '../figures.ts'
import { machine, machineText } from '../machine.ts'
import { Directories } from '../processes.ts'
import { table } from '../table.ts'
import { runJobs, units, type JobName, type Outcome } from './jobs.ts'
import { kinds, ours } from './kinds.ts'
import { parseOptions } from './options.ts'
import { versionOf } from './packages.ts'

process.once('disconnect', () => { process.exit(1) })

const { rounds, entries, peers, json, roundLimitMs } = parseOptions(process.argv.slice(2))
const skipped: Record<string, string> = {}
for (const name of peers) {
  const missing = kinds[name]!.missing?.()
  if (missing !== undefined) skipped[name] = missing
}
const names = peers.filter((name) => skipped[name] === undefined)
for (const [name, reason] of Object.entries(skipped)) console.error(`Skipped: ${name}, since ${reason}`)

/** By peer, round by round; undefined if it failed. */
const outcomes: Record<string, Array<Outcome | undefined>> = Object.fromEntries(names.map((name) => [name, []]))
const failed: string[] = []
const directories = new Directories(process.env.BENCHMARKS_DIRECTORY!)
for (let round = 1; round <= rounds; round++) {
  for (const name of names) {
    const startMs = performance.now()
    outcomes[name]!.push(await measure(name, round))
    console.error(`Round ${round}, ${name}: ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
  }
}

const figures = names.flatMap((name) => figuresOf(name))
console.log(`\n${machineText}; ${rounds} rounds, ${entries} entries of 16 + 100 bytes\n`)
console.log(table(figures))
console.log()
for (const name of names) console.log(`${kinds[name]!.title}: ${kinds[name]!.layout}; written to: ${kinds[name]!.durability}`)
if (json !== undefined) {
  const described = Object.fromEntries(names.map((name) => {
    const { title, layout, durability, packages } = kinds[name]!
    return [name, { title, layout, durability, versions: Object.fromEntries(packages.map((name) => [name, versionOf(name)])) }]
  }))
  writeFileSync(json, JSON.stringify({ date: new Date().toISOString(), ...machine, rounds, entries, peers: described, skipped, failed, figures }, null, 2))
}
if (failed.length > 0) console.log(`\nFailed:\n${failed.join('\n')}`)
process.exit(failed.length > 0 ? 1 : 0)

/** One peer, once. */
async function measure (kind: string, round: number): Promise<Outcome | undefined> {
  try {
    return await runJobs({ kind, replicates: kinds[kind]!.replicates, entries, directory: directories.next(), limitMs: roundLimitMs })
  } catch (error) {
    failed.push(`${kind}, round ${round}: ${(error as Error).message}`)
    console.error(failed.at(-1))
    return undefined
  } finally {
    directories.clear()
  }
}

/** Ours as they are; the others beside ours, in the rounds in which both gave a figure. */
function figuresOf (kind: string): Figure[] {
  const benchmark = kind === ours ? kinds[ours]!.title : `against ${kinds[kind]!.title}`
  return (Object.keys(units) as JobName[]).flatMap((name) => {
    const rounds = outcomes[kind]!.flatMap((outcome, round) => {
      const sample = outcomes[ours]![round]?.values[name]
      const against = outcome?.values[name]
      return sample === undefined || against === undefined ? [] : [{ sample, against, checked: outcome!.checked }]
    })
    if (rounds.length === 0) return []
    const measurement: Measurement = {
      name,
      unit: units[name],
      samples: rounds.map(({ sample }) => sample),
      ...(kind !== ours && { against: { name: kind, samples: rounds.map(({ against }) => against) } }),
      checked: {
        entries: rounds.reduce((sum, { checked }) => sum + checked.entries, 0),
        samples: rounds.reduce((sum, { checked }) => sum + checked.samples, 0)
      }
    }
    return [figureOf(benchmark, measurement)]
  })
}
