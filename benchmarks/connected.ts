/**
 * Writes of a replica that has a live peer in another process, against one that is alone; and, for what another process
 * that writes as much costs on this machine by itself, of one beside a replica that it is not linked with.
 *
 * Each time a new database is filled without a pause, as the work that LevelDB puts off is a part of what two cost each
 * other. The clock stops when the writes are committed here; that the peer gets them meanwhile is what it costs.
 */
import type { Measurement } from './figures.ts'
import { writeNames, type OperationName, type Timing } from './operations.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'
import { ratesOf, type TimedTask } from './rates.ts'

const companies = ['alone', 'live peer', 'not linked'] as const

type Company = typeof companies[number]

export async function connected ({ rounds, entries, encoding, directory }: Options): Promise<Measurement[]> {
  const count = Math.ceil(entries / 2)
  const directories = new Directories(directory)
  return await withWorkers(2, async (writer, other) => {
    const checked = { entries: 0, samples: 0 }
    const write = async (operation: OperationName, company: Company): Promise<Timing> => {
      const task = { operation, from: 0, count }
      const open = { engine: 'replicated', encoding } as const
      const address = await writer!.call('open', { ...open, directory: directories.next(), port: 0 })
      if (company !== 'alone') await other!.call('open', { ...open, directory: directories.next(), peers: company === 'live peer' ? [address!] : [] })
      if (company === 'live peer') await Promise.all([writer, other].map(async (worker) => await worker!.call('caughtUp')))
      const [timing] = await Promise.all([writer!.call('time', task), company === 'not linked' ? other!.call('time', task) : undefined])
      for (const worker of company === 'alone' ? [writer] : [writer, other]) {
        await worker!.call('untilKnown', count)
        const { samples } = await worker!.call('verify', count)
        checked.entries += count
        checked.samples += samples
        await worker!.call('close')
      }
      directories.clear()
      return timing
    }
    const timed: Record<Exclude<Company, 'alone'>, TimedTask[]> = { 'live peer': [], 'not linked': [] }
    for (let round = 0; round <= rounds; round++) {
      for (const operation of writeNames) {
        const timings = new Map<Company, Timing>()
        for (const turn of companies.keys()) {
          const company = companies[(turn + round) % companies.length]!
          timings.set(company, await write(operation, company))
        }
        if (round === 0) continue // which loads code
        for (const company of ['live peer', 'not linked'] as const) {
          timed[company].push({ operation, count, ours: timings.get(company)!, theirs: timings.get('alone')! })
        }
      }
    }
    return [
      ...ratesOf(timed['live peer'], 'alone', checked),
      ...ratesOf(timed['not linked'], 'alone', checked).map((measurement) => ({ ...measurement, name: `${measurement.name}, not linked` }))
    ]
  })
}
