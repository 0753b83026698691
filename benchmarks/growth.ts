/**
 * What a replica costs that holds ten times as much: beside classic-level with the same entries, and beside a replica
 * that holds a tenth.
 *
 * All three are loaded once, and grow with each round by what is written into them. Who is opened has been closed
 * before, so that what was written is in tables, and the cache is empty.
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseOptions } from './databases.ts'
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

export async function growing ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const measured = await withWorkers(3, async (...workers) => {
    const sides = workers.map((worker, index): Side => {
      return { worker, options: { engine: index === 1 ? 'classic' : 'replicated', directory: directories.next(), encoding }, entries: index === 2 ? entries : entries * growth }
    })
    const [large, classic, small] = sides as [Side, Side, Side]
    for (const { worker, options, entries } of sides) {
      await worker.call('open', options)
      await worker.call('load', { from: 0, count: entries })
      await worker.call('close')
    }
    const bytes = [large, classic].map(({ options }) => bytesIn(options.directory))

    const openings = { ours: [] as number[], theirs: [] as number[] }
    const timed: TimedTask[] = []
    const sizes = putSizes(entries)
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const theirs = await classic.worker.call('timeOpen', classic.options)
      const ours = await large.worker.call('timeOpen', large.options)
      await small.worker.call('open', small.options)
      for (const operation of puts) {
        const tasks = slicesOf({ operation, from: 0, count: sizes[operation] }, slicesPerRound, windowSize)
        const result = await takeTurns(tasks, (task) => timeNext(large, task), (task) => timeNext(small, task))
        if (round > 0) timed.push({ operation, count: sizes[operation], ...result })
      }
      for (const { worker } of sides) await worker.call('close')
      if (round > 0) {
        openings.ours.push(ours)
        openings.theirs.push(theirs)
      }
    }

    const checked = { entries: 0, samples: 0 }
    for (const side of sides) {
      await side.worker.call('open', side.options)
      const { entries, samples } = await side.worker.call('verify', side.entries)
      checked.entries += entries
      checked.samples += samples
    }
    return { bytes, openings, timed, checked }
  })
  directories.clear()

  const { bytes: [ours, theirs], openings, timed, checked } = measured
  return [
    { name: 'open', unit: 'ms', samples: openings.ours, against: { name: 'classic-level', samples: openings.theirs }, checked },
    { name: 'open, beyond classic-level', unit: 'ms', samples: openings.ours.map((ms, round) => Math.max(0, ms - openings.theirs[round]!)), checked },
    { name: 'disk', unit: 'MB', samples: [ours! / 1e6], against: { name: 'classic-level', samples: [theirs! / 1e6] }, checked },
    ...ratesOf(timed, `with ${entries} before`, checked)
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
