/**
 * How long a single write takes from the beginning of its put until it is visible in another process.
 *
 * Beside it, in turns: a bare round trip over loopback and a put into a bare classic-level.
 */
import type { Measurement } from './figures.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'
import { percentile } from './statistics.ts'
import { assertCount } from './verification.ts'

export async function latency ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const count = Math.min(500, Math.ceil(entries / 100))
  const figures = [['p50', 0.5], ['p99', 0.99]] as const
  const samples = figures.map(() => ({ propagation: [] as number[], bare: [] as number[], put: [] as number[] }))
  let checked = { entries: 0, samples: 0 }
  await withWorkers(2, async (writer, reader) => {
    const address = await writer!.call('open', { engine: 'replicated', directory: directories.next(), encoding, port: 0 })
    await reader!.call('open', { engine: 'replicated', directory: directories.next(), encoding, peers: [address!] })
    await Promise.all([writer!.call('caughtUp'), reader!.call('caughtUp')])
    const echoPort = await reader!.call('watch')
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const { started, putMs, bareMs } = await writer!.call('probe', { from: round * count, count, echoPort, directory: directories.next() })
      const seen = new Map(await reader!.call('arrivals', count))
      assertCount('writes seen', seen.size, count)
      const propagationMs = started.map(([key, startMs]) => {
        const seenMs = seen.get(key)
        if (seenMs === undefined || seenMs < startMs) throw new Error(`The write of ${key} was seen ${seenMs === undefined ? 'never' : 'before it began'}`)
        return seenMs - startMs
      })
      if (round === 0) continue
      for (const [index, [, part]] of figures.entries()) {
        samples[index]!.propagation.push(percentile(propagationMs, part))
        samples[index]!.bare.push(percentile(bareMs, part))
        samples[index]!.put.push(percentile(putMs, part))
      }
    }
    checked = await reader!.call('verify', (rounds + 1) * count)
  })
  directories.clear()
  return figures.map(([name], index) => {
    const { propagation, bare } = samples[index]!
    return { name, unit: 'ms', samples: propagation, against: { name: 'bare round trip + put', samples: bare }, checked }
  })
}
