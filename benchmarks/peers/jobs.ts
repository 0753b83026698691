/**
 * What is measured of one kind of peer, once: two fresh processes, an empty directory each.
 *
 * The host writes alone; an empty guest connects and gets it all; single writes travel; the two are cut apart, the host
 * overwrites a few entries, and they meet again; what both take on disk. Then, with a fresh pair, both write at once.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { diskBytes } from '../disk.ts'
import { writeNames } from '../operations.ts'
import { modulePath, withWorkers, type Worker } from '../processes.ts'
import { percentile } from '../statistics.ts'
import type { Checked } from '../verification.ts'
import type { PeerCommands } from './worker.ts'

/** What every job gives, and its unit. */
export const units = {
  'sequential put': 'entries/s',
  'concurrent put': 'entries/s',
  batch: 'entries/s',
  'first sync': 'entries/s',
  'first sync, wire': 'bytes/entry',
  'first sync, peak memory of sender': 'MB',
  'first sync, peak memory of receiver': 'MB',
  'propagation, p50': 'ms',
  'propagation, p99': 'ms',
  'reconnect, few changed, time': 'ms',
  'reconnect, few changed, wire': 'bytes/change',
  'disk of sender': 'bytes/entry',
  'disk of receiver': 'bytes/entry',
  'both write': 'entries/s'
} as const

export type JobName = keyof typeof units

export interface Outcome {
  readonly values: Partial<Record<JobName, number>>
  readonly checked: Checked
}

export interface JobOptions {
  readonly kind: string
  readonly replicates: boolean
  readonly entries: number
  readonly directory: string
  /** How long each pair of processes may take. */
  readonly limitMs: number
}

type PeerWorker = Worker<PeerCommands>

/** Cuts in a round; the first meets code that has not run yet. */
const cuts = 5
const changesMax = 100
const singleWritesMax = 500

const workerPath = modulePath('worker', import.meta.url)

/** @throws Error if a check fails, a process ends or the time is up */
export async function runJobs (options: JobOptions): Promise<Outcome> {
  const jobs = new Jobs(options)
  const withPair = async (job: (host: PeerWorker, guest: PeerWorker) => Promise<void>): Promise<void> => {
    await withWorkers<void, PeerCommands>(2, async (host, guest) => { await inTime(job(host!, guest!), options.limitMs) }, workerPath)
  }
  await withPair(async (host, guest) => { await jobs.oneWay(host, guest) })
  if (options.replicates) await withPair(async (host, guest) => { await jobs.bothWays(host, guest) })
  return jobs.outcome
}

async function inTime (work: Promise<void>, limitMs: number): Promise<void> {
  const limit = new AbortController()
  const tooLate = sleep(limitMs, undefined, { signal: limit.signal }).then(() => { throw new Error(`Not done after ${limitMs / 1000} s`) })
  try {
    await Promise.race([work, tooLate])
  } finally {
    limit.abort()
    await tooLate.catch(() => {})
  }
}

class Jobs {
  readonly #options: JobOptions
  readonly #values: Partial<Record<JobName, number>> = {}
  readonly #checked = { entries: 0, samples: 0 }

  constructor (options: JobOptions) {
    this.#options = options
  }

  get outcome (): Outcome {
    return { values: this.#values, checked: this.#checked }
  }

  async oneWay (host: PeerWorker, guest: PeerWorker): Promise<void> {
    const { kind, replicates, entries } = this.#options
    const directory = this.#directoryOf('host')
    const invitation = await host.call('open', { kind, directory, role: 'host', bothWrite: false, invitation: undefined as never }) as never
    await this.#writes(host)
    if (!replicates) {
      await this.#verify(host, entries)
    } else {
      const guestDirectory = this.#directoryOf('guest')
      await guest.call('open', { kind, directory: guestDirectory, role: 'guest', bothWrite: false, invitation })
      await this.#firstSync(host, guest, invitation)
      await this.#propagation(host, guest)
      await this.#reconnect(host, guest, invitation)
      await guest.call('close')
      this.#disk('disk of receiver', guestDirectory)
    }
    await host.call('close')
    this.#disk('disk of sender', directory)
  }

  async #writes (host: PeerWorker): Promise<void> {
    const { entries } = this.#options
    const sequential = Math.ceil(entries / 20)
    const concurrent = Math.ceil(entries / 5)
    const counts = { 'sequential put': sequential, 'concurrent put': concurrent, batch: entries - sequential - concurrent }
    let from = 0
    for (const operation of writeNames) {
      const count = counts[operation]
      const { ms } = await host.call('time', { operation, from, count })
      this.#values[operation] = count / ms * 1000
      from += count
    }
  }

  /** From the moment at which the guest begins to connect until it knows of everything. */
  async #firstSync (host: PeerWorker, guest: PeerWorker, invitation: never): Promise<void> {
    const { entries } = this.#options
    for (const worker of [host, guest]) await worker.call('resetCounts')
    const startMs = await guest.call('connect', invitation)
    const endMs = await guest.call('untilKnown', entries)
    const { wireBytes, peakMemoryBytes } = await guest.call('counts')
    this.#values['first sync'] = entries / (endMs - startMs) * 1000
    this.#values['first sync, wire'] = wireBytes / entries
    this.#values['first sync, peak memory of sender'] = (await host.call('counts')).peakMemoryBytes / 1e6
    this.#values['first sync, peak memory of receiver'] = peakMemoryBytes / 1e6
    await this.#verify(guest, entries)
  }

  /** From the beginning of a put at the host until the guest reads the value; one after another. */
  async #propagation (host: PeerWorker, guest: PeerWorker): Promise<void> {
    const { entries } = this.#options
    const count = Math.min(singleWritesMax, Math.ceil(entries / 20))
    const tookMs: number[] = []
    for (let index = entries; index < entries + count; index++) {
      await guest.call('expect', { from: index, count: 1 })
      const startMs = await host.call('put', { from: index, count: 1 })
      tookMs.push(await guest.call('seen') - startMs)
    }
    this.#values['propagation, p50'] = percentile(tookMs, 0.5)
    this.#values['propagation, p99'] = percentile(tookMs, 0.99)
    await this.#verify(guest, entries + count)
  }

  /** From the moment at which the guest begins to connect until it reads all that was overwritten meanwhile. */
  async #reconnect (host: PeerWorker, guest: PeerWorker, invitation: never): Promise<void> {
    const count = Math.min(changesMax, Math.ceil(this.#options.entries / 20))
    const tookMs: number[] = []
    const bytes: number[] = []
    for (let generation = 1; generation <= cuts; generation++) {
      await guest.call('disconnect')
      await host.call('put', { from: 0, count, generation })
      // Nothing has come meanwhile.
      await guest.call('verifyValues', { from: 0, count, generation: generation - 1 })
      await guest.call('resetCounts')
      await guest.call('expect', { from: 0, count, generation })
      const startMs = await guest.call('connect', invitation)
      tookMs.push(await guest.call('seen') - startMs)
      bytes.push((await guest.call('counts')).wireBytes / count)
      await guest.call('verifyValues', { from: 0, count, generation })
      this.#checked.samples += count
    }
    this.#values['reconnect, few changed, time'] = percentile(tookMs, 0.5)
    this.#values['reconnect, few changed, wire'] = percentile(bytes, 0.5)
  }

  /** From when both begin to write until both know of everything. */
  async bothWays (host: PeerWorker, guest: PeerWorker): Promise<void> {
    const { kind, entries } = this.#options
    const open = { kind, bothWrite: true }
    const invitation = await host.call('open', { ...open, directory: this.#directoryOf('host'), role: 'host', invitation: undefined as never }) as never
    const answer = await guest.call('open', { ...open, directory: this.#directoryOf('guest'), role: 'guest', invitation }) as never
    await host.call('welcome', answer)
    await guest.call('connect', invitation)
    const count = Math.ceil(entries / 5)
    const total = 2 * count + 2
    // The way is open when an entry of each has come across.
    for (const [index, from, to] of [[2 * count, host, guest], [2 * count + 1, guest, host]] as const) {
      await from.call('put', { from: index, count: 1 })
      await to.call('untilKnown', index - 2 * count + 1)
    }
    const sides = await Promise.all([host.call('converge', { from: 0, count, known: total }), guest.call('converge', { from: count, count, known: total })])
    const tookMs = Math.max(...sides.map(({ endMs }) => endMs)) - Math.min(...sides.map(({ startMs }) => startMs))
    this.#values['both write'] = 2 * count / tookMs * 1000
    for (const worker of [host, guest]) await this.#verify(worker, total)
  }

  async #verify (worker: PeerWorker, total: number): Promise<void> {
    const { entries, samples } = await worker.call('verify', total)
    this.#checked.entries += entries
    this.#checked.samples += samples
  }

  /** What is kept in memory only takes nothing, which is no figure. */
  #disk (name: 'disk of sender' | 'disk of receiver', directory: string): void {
    const bytes = diskBytes(directory)
    if (bytes > 0) this.#values[name] = bytes / this.#options.entries
  }

  #made = 0
  #directoryOf (side: string): string {
    return join(this.#options.directory, `${side}-${this.#made++}`)
  }
}
