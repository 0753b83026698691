/**
 * What a database costs that holds ten times as much: a replica beside classic-level with the same entries, and each beside one
 * of its kind that holds a tenth.
 *
 * All four are loaded once, and grow alike with each round by what is written into them. The large ones are opened twice: after
 * those writes, of which LevelDB may have compactions left to do, and, classic-level's, a write-ahead log to read; then at rest,
 * closed with nothing written.
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseOptions, Engine } from './databases.ts'
import type { Measurement } from './figures.ts'
import { windowSize, type Task, type Timing } from './operations.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers, type Worker } from './processes.ts'
import { putSizes, ratesOf, slicesPerRound, type TimedTask } from './rates.ts'
import { slicesOf, takeTurns } from './turns.ts'

const growth = 10
const puts = ['sequential put', 'batch'] as const

interface Side {
  readonly worker: Worker
  readonly options: DatabaseOptions
  entries: number
}

/** Two databases of one kind. */
interface Pair {
  readonly large: Side
  readonly small: Side
  /** How long the large one took to open. */
  readonly afterWrites: number[]
  readonly atRest: number[]
  readonly timed: TimedTask[]
}

export async function growing ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const measured = await withWorkers(4, async (...workers) => {
    const sides = workers.map((worker, index): Side => {
      return { worker, options: { engine: index < 2 ? 'replicated' : 'classic', directory: directories.next(), encoding }, entries: index % 2 === 0 ? entries * growth : entries }
    })
    const pair = (engine: Engine): Pair => {
      const [large, small] = sides.filter(({ options }) => options.engine === engine) as [Side, Side]
      return { large, small, afterWrites: [], atRest: [], timed: [] }
    }
    const [ours, theirs] = [pair('replicated'), pair('classic')]
    for (const { worker, options, entries } of sides) {
      await worker.call('open', options)
      await worker.call('load', { from: 0, count: entries })
      await worker.call('close')
    }
    const bytes = [ours, theirs].map(({ large }) => bytesIn(large.options.directory))

    const sizes = putSizes(entries)
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      for (const { large, small, afterWrites, atRest, timed } of [theirs, ours]) {
        const afterWritesMs = await large.worker.call('timeOpen', large.options)
        await large.worker.call('close')
        const atRestMs = await large.worker.call('timeOpen', large.options)
        await small.worker.call('open', small.options)
        if (round > 0) {
          afterWrites.push(afterWritesMs)
          atRest.push(atRestMs)
        }
        for (const operation of puts) {
          // Else what LevelDB still has to do of what was written before would be charged to this.
          for (const { worker } of [large, small]) await worker.call('settled')
          const tasks = slicesOf({ operation, from: 0, count: sizes[operation] }, slicesPerRound, windowSize)
          const result = await takeTurns(tasks, (task) => timeNext(large, task), (task) => timeNext(small, task))
          if (round > 0) timed.push({ operation, count: sizes[operation], ...result })
        }
        for (const { worker } of [large, small]) await worker.call('close')
      }
    }

    const checked = { entries: 0, samples: 0 }
    for (const side of sides) {
      await side.worker.call('open', side.options)
      const { entries, samples } = await side.worker.call('verify', side.entries)
      checked.entries += entries
      checked.samples += samples
    }
    return { bytes, ours, theirs, checked }
  })
  directories.clear()

  const { bytes: [ourBytes, theirBytes], ours, theirs, checked } = measured
  const before = `with ${entries} before`
  return [
    ...(['afterWrites', 'atRest'] as const).flatMap((state): Measurement[] => {
      const name = state === 'atRest' ? 'open at rest' : 'open after writes'
      return [
        { name, unit: 'ms', samples: ours[state], against: { name: 'classic-level', samples: theirs[state] }, checked },
        { name: `${name}, beyond classic-level`, unit: 'ms', samples: ours[state].map((ms, round) => Math.max(0, ms - theirs[state][round]!)), checked }
      ]
    }),
    { name: 'disk', unit: 'MB', samples: [ourBytes! / 1e6], against: { name: 'classic-level', samples: [theirBytes! / 1e6] }, checked },
    ...ratesOf(ours.timed, before, checked),
    ...ratesOf(theirs.timed, before, checked).map((measurement) => ({ ...measurement, name: `classic-level's own ${measurement.name}` }))
  ]
}

/** Does a task with the next entries of a side. */
async function timeNext (side: Side, { operation, count }: Task): Promise<Timing> {
  const timing = await side.worker.call('time', { operation, from: side.entries, count })
  side.entries += count
  return timing
}

function bytesIn (directory: string): number {
  return readdirSync(directory).reduce((bytes, name) => bytes + statSync(join(directory, name)).size, 0)
}
