/**
 * How long a single write takes from the beginning of its put until it is visible in another process.
 *
 * Beside it, in turns: a bare round trip over loopback and a put into a bare classic-level. Twice: in processes that have
 * begun just before, and once they have written some thousand times. A write that comes alone runs code once that V8
 * compiles only when it has run that often, so that the same processes take a third of the time by then.
 */
import type { Measurement } from './figures.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'
import { percentile } from './statistics.ts'
import { assertCount } from './verification.ts'

const percentiles = [['p50', 0.5], ['p99', 0.99]] as const

/** When it is measured: after so many rounds more that are not. */
const ages = [{ suffix: '', warmUpRounds: 1 }, { suffix: ' once warm', warmUpRounds: 4 }] as const

export async function latency ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const count = Math.min(500, Math.ceil(entries / 100))
  const measured = ages.map(({ suffix, warmUpRounds }) => ({ warmUpRounds, figures: percentiles.map(([name, part]) => ({ name: name + suffix, part, propagation: [] as number[], bare: [] as number[] })) }))
  let checked = { entries: 0, samples: 0 }
  await withWorkers(2, async (writer, reader) => {
    const address = await writer!.call('open', { engine: 'replicated', directory: directories.next(), encoding, port: 0 })
    await reader!.call('open', { engine: 'replicated', directory: directories.next(), encoding, peers: [address!] })
    await Promise.all([writer!.call('caughtUp'), reader!.call('caughtUp')])
    const echoPort = await reader!.call('watch')
    let written = 0
    for (const { warmUpRounds, figures } of measured) {
      for (let round = -warmUpRounds; round < rounds; round++) {
        const { started, bareMs } = await writer!.call('probe', { from: written, count, echoPort, directory: directories.next() })
        const seen = new Map(await reader!.call('arrivals', count))
        assertCount('writes seen', seen.size, count)
        written += count
        const propagationMs = started.map(([key, startMs]) => {
          const seenMs = seen.get(key)
          if (seenMs === undefined || seenMs < startMs) throw new Error(`The write of ${key} was seen ${seenMs === undefined ? 'never' : 'before it began'}`)
          return seenMs - startMs
        })
        if (round < 0) continue
        for (const figure of figures) {
          figure.propagation.push(percentile(propagationMs, figure.part))
          figure.bare.push(percentile(bareMs, figure.part))
        }
      }
    }
    checked = await reader!.call('verify', written)
  })
  directories.clear()
  return measured.flatMap(({ figures }) => figures).map(({ name, propagation, bare }) => ({ name, unit: 'ms', samples: propagation, against: { name: 'bare round trip + put', samples: bare }, checked }))
}
