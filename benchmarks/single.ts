/**
 * Writes and reads of one process, with nobody to replicate to: a replica against classic-level.
 *
 * Each has a process of its own, so that neither inherits the other's heap and compiled code. They take turns at each
 * operation, and who begins alternates, so that both meet the same machine. The first round warms up and is left out.
 */
import { putSizes, ratesOf, type TimedTask } from './rates.ts'
import type { Measurement } from './figures.ts'
import { readNames, writeNames } from './operations.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'

export async function single ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  return await withWorkers(2, async (replica, classic) => {
    const sizes = putSizes(entries)
    const total = writeNames.reduce((sum, name) => sum + sizes[name], 0)
    const timed: TimedTask[] = []
    let checked = 0
    let samples = 0
    for (let round = 0; round <= rounds; round++) {
      await replica!.call('open', { engine: 'replicated', directory: directories.next(), encoding })
      await classic!.call('open', { engine: 'classic', directory: directories.next(), encoding })
      let from = 0
      for (const operation of [...writeNames, ...readNames]) {
        const isWrite = operation in sizes
        const iterates = operation === 'iterator.all' || operation === 'for await'
        const count = isWrite ? sizes[operation as 'batch'] : iterates ? total : operation === 'get' ? sizes['sequential put'] : sizes.batch
        const task = { operation, from: isWrite ? from : 0, count }
        if (isWrite) from += count
        const first = round % 2 === 0 ? replica! : classic!
        const second = first === replica ? classic! : replica!
        const a = await first.call('time', task)
        const b = await second.call('time', task)
        const [ours, theirs] = first === replica ? [a, b] : [b, a]
        samples += ours.compared + theirs.compared
        if (round > 0) timed.push({ operation, count, ours, theirs })
      }
      for (const worker of [replica!, classic!]) {
        const result = await worker.call('verify', total)
        checked += result.entries
        samples += result.samples
        await worker.call('close')
      }
      directories.clear()
    }
    return ratesOf(timed, 'classic-level', { entries: checked, samples })
  })
}
