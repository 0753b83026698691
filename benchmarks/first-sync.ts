/**
 * An empty replica gets everything from a full one in another process.
 *
 * Timed from the moment the second is made until it has all, twice in each round: in two new processes, so that their peaks
 * of memory are of this transfer, and then in the same ones, which are warm. Beside it, in each round, a new process writes
 * the same to a bare classic-level in batches, twice.
 */
import type { Measurement } from './figures.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'

export async function firstSync ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const full = directories.next()
  await withWorkers(1, async (writer) => {
    await writer!.call('open', { engine: 'replicated', directory: full, encoding })
    await writer!.call('load', { from: 0, count: entries })
  })
  const samples = { rate: [] as number[], warmRate: [] as number[], wire: [] as number[], sender: [] as number[], senderOwn: [] as number[], receiver: [] as number[], receiverOwn: [] as number[] }
  const bare = { rate: [] as number[], warmRate: [] as number[] }
  let counted = 0
  let compared = 0
  for (let round = 0; round < rounds; round++) {
    await withWorkers(1, async (writer) => {
      for (const rates of [bare.rate, bare.warmRate]) {
        await writer!.call('open', { engine: 'classic', directory: directories.next(), encoding })
        const { ms } = await writer!.call('time', { operation: 'batch', from: 0, count: entries })
        rates.push(entries / ms * 1000)
        await writer!.call('close')
      }
    })
    await withWorkers(2, async (sender, receiver) => {
      const address = await sender!.call('open', { engine: 'replicated', directory: full, encoding, port: 0 })
      await sender!.call('watchMemory')
      const { ms, wireBytes, memory } = await receiver!.call('firstSync', { engine: 'replicated', directory: directories.next(), encoding, peers: [address!] })
      samples.rate.push(entries / ms * 1000)
      samples.wire.push(wireBytes / entries)
      const memoryOfSender = await sender!.call('memory')
      samples.sender.push(memoryOfSender.peakBytes / 1e6)
      samples.receiver.push(memory.peakBytes / 1e6)
      if (memoryOfSender.ownPeakBytes !== undefined) samples.senderOwn.push(memoryOfSender.ownPeakBytes / 1e6)
      if (memory.ownPeakBytes !== undefined) samples.receiverOwn.push(memory.ownPeakBytes / 1e6)
      const verify = async (): Promise<void> => {
        const result = await receiver!.call('verify', entries)
        counted += result.entries
        compared += result.samples
      }
      await verify()
      await receiver!.call('close')
      const again = await receiver!.call('firstSync', { engine: 'replicated', directory: directories.next(), encoding, peers: [address!] })
      samples.warmRate.push(entries / again.ms * 1000)
      await verify()
    })
  }
  directories.clear()
  const checked = { entries: counted, samples: compared }
  return [
    { name: 'rate', unit: 'entries/s', samples: samples.rate, against: { name: 'classic-level, batch', samples: bare.rate }, checked },
    { name: 'rate once warm', unit: 'entries/s', samples: samples.warmRate, against: { name: 'classic-level, batch', samples: bare.warmRate }, checked },
    { name: 'wire', unit: 'bytes/entry', samples: samples.wire, checked },
    { name: 'peak memory of sender', unit: 'MB', samples: samples.sender, checked },
    { name: 'peak memory of sender, mapped files aside', unit: 'MB', samples: samples.senderOwn, checked },
    { name: 'peak memory of receiver', unit: 'MB', samples: samples.receiver, checked },
    { name: 'peak memory of receiver, mapped files aside', unit: 'MB', samples: samples.receiverOwn, checked }
  ].filter(({ samples }) => samples.length > 0)
}
