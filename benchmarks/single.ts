/**
 * Writes and reads of one process, with nobody to replicate to: a replica against classic-level.
 *
 * Each has a process of its own, so that neither inherits the other's heap and compiled code. The first round warms up
 * and is left out.
 */
import type { Measurement } from './figures.ts'
import { readNames, settleName, writeNames, windowSize, type OperationName, type Task } from './operations.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'
import { putSizes, ratesOf, slicesPerRound, type TimedTask } from './rates.ts'
import { slicesOf, takeTurns } from './turns.ts'

const writes: ReadonlySet<string> = new Set(writeNames)
const wholes: ReadonlySet<string> = new Set([settleName, 'iterator.all', 'for await'])

export async function single ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  return await withWorkers(2, async (replica, classic) => {
    const sizes = putSizes(entries)
    const total = writeNames.reduce((sum, name) => sum + sizes[name], 0)
    const sizeOf = (operation: OperationName): number => {
      if (wholes.has(operation)) return total
      return operation === 'get' ? sizes['sequential put'] : sizes[operation as 'batch'] ?? sizes.batch
    }
    const timed: TimedTask[] = []
    const checked = { entries: 0, samples: 0 }
    for (let round = 0; round <= rounds; round++) {
      await replica!.call('open', { engine: 'replicated', directory: directories.next(), encoding })
      await classic!.call('open', { engine: 'classic', directory: directories.next(), encoding })
      let written = 0
      for (const operation of [...writeNames, settleName, ...readNames] as const) {
        const task = { operation, from: writes.has(operation) ? written : 0, count: sizeOf(operation) }
        if (writes.has(operation)) written += task.count
        const tasks = slicesFor(operation, task)
        const result = await takeTurns(tasks, (task) => replica!.call('time', task), (task) => classic!.call('time', task))
        checked.samples += result.ours.compared + result.theirs.compared
        if (round > 0) timed.push({ operation, count: tasks.reduce((sum, { count }) => sum + count, 0), ...result })
      }
      for (const worker of [replica!, classic!]) {
        const { entries, samples } = await worker.call('verify', total)
        checked.entries += entries
        checked.samples += samples
        await worker.call('close')
      }
      directories.clear()
    }
    return ratesOf(timed, 'classic-level', checked)
  })
}

/** Iterators take all entries at a time, or none. */
function slicesFor (operation: OperationName, task: Task): Task[] {
  if (operation === settleName) return [task]
  return wholes.has(operation) ? [task, task] : slicesOf(task, slicesPerRound, windowSize)
}
