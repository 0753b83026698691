/**
 * Two replicas that know each other meet again: what that takes if little has changed, and if nothing has.
 *
 * Timed from the call that connects until the `sync` event; bytes are counted when both have it.
 */
import type { Measurement } from './figures.ts'
import type { Options } from './options.ts'
import { Directories, withWorkers } from './processes.ts'

/** Entries written anew while they are apart. */
const changesMax = 100

/** V8 has compiled then most of what runs once a meeting. */
const meetingsToBeWarm = 50

interface Meeting {
  readonly ms: number
  readonly bytes: number
}

export async function reconnect (options: Options): Promise<Measurement[]> {
  const { entries } = options
  const few = Math.ceil(entries / 100)
  const changes = Math.min(changesMax, few)
  return [
    ...await meetAgain(options, few, 0),
    ...await meetAgain(options, entries, 0),
    ...await meetAgain(options, entries, changes)
  ]
}

async function meetAgain ({ rounds, encoding, directory }: Options, entries: number, changes: number): Promise<Measurement[]> {
  const directories = new Directories(directory)
  const { young, warm, checked } = await withWorkers(2, async (writer, reader) => {
    const address = (await writer!.call('open', { engine: 'replicated', directory: directories.next(), encoding, port: 0 }))!
    await writer!.call('load', { from: 0, count: entries })
    await reader!.call('open', { engine: 'replicated', directory: directories.next(), encoding, peers: [address] })
    await Promise.all([writer!.call('caughtUp'), reader!.call('caughtUp')])
    const before = await reader!.call('verify', entries)
    await Promise.all([writer!.call('settled'), reader!.call('settled')]) // else LevelDB compacts what was loaded meanwhile
    let generation = 0
    const meet = async (times: number): Promise<Meeting[]> => {
      const meetings: Meeting[] = []
      while (meetings.length < times) {
        generation++
        await reader!.call('disconnect', address)
        await writer!.call('expectSync')
        if (changes > 0) await writer!.call('load', { from: 0, count: changes, generation })
        const ms = await reader!.call('reconnect', address)
        await writer!.call('caughtUp')
        meetings.push({ ms, bytes: await reader!.call('wireBytes') })
        await reader!.call('verifyGeneration', { from: 0, count: changes, generation })
      }
      return meetings
    }
    await meet(1) // which loads code
    const young = await meet(rounds)
    if (changes > 0) await meet(meetingsToBeWarm)
    const warm = changes > 0 ? await meet(rounds) : []
    return { young, warm, checked: { entries: before.entries, samples: before.samples + generation * changes } }
  })
  directories.clear()
  const what = changes === 0 ? `nothing of ${entries} changed` : `${changes} of ${entries} changed`
  return [
    { name: `${what}, time`, unit: 'ms', samples: young.map(({ ms }) => ms), checked },
    { name: `${what}, time once warm`, unit: 'ms', samples: warm.map(({ ms }) => ms), checked },
    { name: `${what}, wire`, unit: 'bytes', samples: young.map(({ bytes }) => bytes), checked }
  ].filter(({ samples }) => samples.length > 0)
}
