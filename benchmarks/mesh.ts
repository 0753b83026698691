/**
 * Ten linked replicas are written to at once, each in a process of its own, until all have what all wrote.
 *
 * Each of them could get every write from nine others. What comes over the wire for a write that a replica gets, control
 * messages included, is compared with what comes in a pair, where nobody could pass on anything: the ratio is the number
 * of copies, or more than it.
 */
import type { Measurement } from './figures.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers, type Worker } from './processes.ts'

const replicas = 10

/** How many writes of each replica it takes until control messages are a small part. */
const share = 100

export async function mesh ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const total = replicas * Math.ceil(entries / share / replicas)
  const checked = { entries: 0, samples: 0 }

  async function spread (workers: readonly Worker[]): Promise<{ ms: number, bytes: number }> {
    const addresses: string[] = []
    for (const worker of workers) {
      addresses.push((await worker.call('open', { engine: 'replicated', directory: directories.next(), encoding, port: 0, peers: addresses }))!)
    }
    for (const worker of workers) await worker.call('linked', workers.length - 1)
    const beforeBytes = await bytesOf(workers)
    const count = total / workers.length
    const moments = await Promise.all(workers.map(async (worker, index) => await worker.call('converge', { from: index * count, count, known: total })))
    const bytes = await bytesOf(workers) - beforeBytes
    for (const worker of workers) {
      const result = await worker.call('verify', total)
      checked.entries += result.entries
      checked.samples += result.samples
    }
    await Promise.all(workers.map(async (worker) => { await worker.call('close') }))
    directories.clear()
    return {
      ms: Math.max(...moments.map(({ endMs }) => endMs)) - Math.min(...moments.map(({ startMs }) => startMs)),
      bytes: bytes / (total * (workers.length - 1))
    }
  }

  const all: Array<{ ms: number, bytes: number }> = []
  const pairs: typeof all = []
  await withWorkers(replicas, async (...workers: Worker[]) => {
    // The first round warms up.
    for (let round = 0; round <= rounds; round++) {
      const pair = await spread(workers.slice(0, 2))
      const ten = await spread(workers)
      if (round === 0) continue
      pairs.push(pair)
      all.push(ten)
    }
  })
  return [
    { name: `${total} writes, time`, unit: 'ms', samples: all.map(({ ms }) => ms), checked },
    { name: 'wire, for each write and replica', unit: 'bytes', samples: all.map(({ bytes }) => bytes), against: { name: 'a pair', samples: pairs.map(({ bytes }) => bytes) }, checked }
  ]
}

/** Bytes that all of them have received. */
async function bytesOf (workers: readonly Worker[]): Promise<number> {
  const bytes = await Promise.all(workers.map(async (worker) => await worker.call('wireBytes')))
  // Each byte is counted where it leaves and where it arrives.
  return bytes.reduce((sum, each) => sum + each, 0) / 2
}
