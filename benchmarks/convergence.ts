/**
 * Two linked replicas are written to at once, until each has what both wrote.
 */
import type { Measurement } from './figures.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'

export async function convergence ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const count = Math.ceil(entries / 5)
  const samples: number[] = []
  let counted = 0
  let compared = 0
  await withWorkers(2, async (left, right) => {
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const address = await left!.call('open', { engine: 'replicated', directory: directories.next(), encoding, port: 0 })
      await right!.call('open', { engine: 'replicated', directory: directories.next(), encoding, peers: [address!] })
      await Promise.all([left!.call('caughtUp'), right!.call('caughtUp')])
      const [a, b] = await Promise.all([
        left!.call('converge', { from: 0, count, known: 2 * count }),
        right!.call('converge', { from: count, count, known: 2 * count })
      ])
      if (round > 0) samples.push(2 * count / (Math.max(a.endMs, b.endMs) - Math.min(a.startMs, b.startMs)) * 1000)
      for (const worker of [left!, right!]) {
        const result = await worker.call('verify', 2 * count)
        counted += result.entries
        compared += result.samples
      }
      await Promise.all([left!.call('close'), right!.call('close')])
      directories.clear()
    }
  })
  return [{ name: 'rate', unit: 'entries/s', samples, checked: { entries: counted, samples: compared } }]
}
