/**
 * Writes of a replica that has a live peer in another process, against one that has none.
 *
 * The clock stops when the writes are committed here; that the peer gets them meanwhile is what it costs. Before the
 * other side has its turn, the peer has everything.
 */
import type { Measurement } from './figures.ts'
import { windowSize, writeNames } from './operations.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'
import { putSizes, ratesOf, slicesPerRound, type TimedTask } from './rates.ts'
import { slicesOf, takeTurns } from './turns.ts'

export async function connected ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  return await withWorkers(3, async (linked, alone, peer) => {
    const sizes = putSizes(entries)
    const timed: TimedTask[] = []
    const checked = { entries: 0, samples: 0 }
    for (let round = 0; round <= rounds; round++) {
      await alone!.call('open', { engine: 'replicated', directory: directories.next(), encoding })
      const address = await linked!.call('open', { engine: 'replicated', directory: directories.next(), encoding, port: 0 })
      await peer!.call('open', { engine: 'replicated', directory: directories.next(), encoding, peers: [address!] })
      await Promise.all([linked!.call('caughtUp'), peer!.call('caughtUp')])
      let written = 0
      for (const operation of writeNames) {
        const count = sizes[operation]
        const tasks = slicesOf({ operation, from: written, count }, slicesPerRound, windowSize)
        const result = await takeTurns(tasks, async (task) => {
          const timing = await linked!.call('time', task)
          await peer!.call('untilKnown', task.from + task.count)
          return timing
        }, (task) => alone!.call('time', task))
        written += count
        if (round > 0) timed.push({ operation, count, ...result })
      }
      for (const worker of [peer!, linked!, alone!]) {
        const { entries, samples } = await worker.call('verify', written)
        checked.entries += entries
        checked.samples += samples
        await worker.call('close')
      }
      directories.clear()
    }
    return ratesOf(timed, 'no peer', checked)
  })
}
