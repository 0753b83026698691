/**
 * Writes of a replica that has a live peer in another process, against one that has none.
 *
 * The clock stops when the writes are committed here; that the peer gets them meanwhile is what it costs. Before the
 * other side has its turn, the peer has everything.
 */
import type { Measurement } from './figures.ts'
import { writeNames } from './operations.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'
import { putSizes, ratesOf, type TimedTask } from './rates.ts'

export async function connected ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  return await withWorkers(3, async (linked, alone, peer) => {
    const sizes = putSizes(entries)
    const timed: TimedTask[] = []
    let checked = 0
    let samples = 0
    for (let round = 0; round <= rounds; round++) {
      await alone!.call('open', { engine: 'replicated', directory: directories.next(), encoding })
      const address = await linked!.call('open', { engine: 'replicated', directory: directories.next(), encoding, port: 0 })
      await peer!.call('open', { engine: 'replicated', directory: directories.next(), encoding, peers: [address!] })
      await Promise.all([linked!.call('caughtUp'), peer!.call('caughtUp')])
      let written = 0
      for (const operation of writeNames) {
        const task = { operation, from: written, count: sizes[operation] }
        written += task.count
        const timeLinked = async (): Promise<Awaited<ReturnType<typeof timeAlone>>> => {
          const timing = await linked!.call('time', task)
          await peer!.call('untilKnown', written)
          return timing
        }
        const timeAlone = async () => await alone!.call('time', task)
        const first = round % 2 === 0 ? await timeLinked() : await timeAlone()
        const second = round % 2 === 0 ? await timeAlone() : await timeLinked()
        const [ours, theirs] = round % 2 === 0 ? [first, second] : [second, first]
        if (round > 0) timed.push({ operation, count: task.count, ours, theirs })
      }
      for (const worker of [peer!, linked!, alone!]) {
        const result = await worker.call('verify', written)
        checked += result.entries
        samples += result.samples
        await worker.call('close')
      }
      directories.clear()
    }
    return ratesOf(timed, 'no peer', { entries: checked, samples })
  })
}
