/**
 * Work in the background that gives space back: when it is due, a while after the write that made it so.
 *
 * The log is swept, tombstones are collected, and the journal is trimmed when it is longer than the log is live: so each
 * costs a constant per write, amortised. LevelDB forgets removed entries when it compacts the tables that hold them, which it does where much is written.
 * What has been removed in bulk is compacted at once, so that reading does not have to step over what is gone.
 */
import { backgroundError } from '../errors.ts'
import { collectionIntervalMs, housekeepingDelayMs, housekeepingPauseMs, journalTrimMin, journalTrimmedAtOnce, runningTimeSaveMs } from '../limits.ts'
import type { ErrorListener, System, Timer } from '../types.ts'
import { compact } from './engine.ts'
import { keyspace, meta, wholeKeyspace } from './keyspaces.ts'
import { Collector, type CollectorOptions } from './collector.ts'
import { Settler } from './settling.ts'
import { Sweeper } from './sweeper.ts'

/** So many removed entries are worth a compaction of what is left. */
const compactEntriesMin = 5000

/** One range of keys. */
const journalAndLog = { gte: meta.all('J').gte, lt: wholeKeyspace(keyspace.log).lt }

export interface HousekeepingOptions extends Omit<CollectorOptions, 'yield' | 'stopped'> {
  readonly saveMembers: () => Promise<void>
  readonly transactionBytesMax: number
  readonly system: System
  readonly onError: ErrorListener
}

export class Housekeeping {
  readonly #options: HousekeepingOptions
  readonly #sweeper: Sweeper
  readonly #settler: Settler
  readonly collector: Collector
  #timer: Timer | undefined
  #tickTimer: Timer | undefined
  #running: Promise<void> | undefined
  #stopped = false
  #paused = false
  /** When tombstones were last collected. */
  #collectedMs = -Infinity

  constructor (options: HousekeepingOptions) {
    this.#options = options
    const work = { state: options.state, writer: options.writer, yield: () => options.system.yield(), stopped: () => this.#halted }
    this.#sweeper = new Sweeper(work)
    this.collector = new Collector({ ...options, ...work })
    this.#settler = new Settler({ ...options, ...work })
    this.#tick()
  }

  get #halted (): boolean {
    return this.#stopped || this.#paused
  }

  /** Something has been written or heard: there may be work. */
  changed (): void {
    this.collector.changed()
    this.#consider()
  }

  /** Time that passes is work too: it is saved, and expels members. */
  #tick (): void {
    const { system, saveMembers, onError } = this.#options
    this.#tickTimer = system.setTimer(() => {
      this.changed()
      saveMembers().catch((cause) => { onError(backgroundError('The members could not be saved; it is tried again', cause)) })
      this.#tick()
    }, runningTimeSaveMs)
  }

  #consider (): void {
    if (this.#timer !== undefined || this.#running !== undefined || this.#halted) return
    if (this.#sweeper.due || this.#trimDue || this.#options.state.versionKeys.isOutdated) this.#schedule(housekeepingDelayMs)
    else if (this.collector.due) this.#schedule(Math.max(housekeepingDelayMs, this.#collectionDueMs))
  }

  get #trimDue (): boolean {
    const { journal, tally } = this.#options.state
    return journal.length > Math.max(journalTrimMin, tally.liveMax)
  }

  /** In how long tombstones may be collected again. */
  get #collectionDueMs (): number {
    return this.#collectedMs + collectionIntervalMs - this.#options.system.monotonicMs()
  }

  #schedule (delayMs: number): void {
    this.#timer = this.#options.system.setTimer(() => {
      this.#timer = undefined
      this.run().catch((cause) => {
        if (this.#stopped) return
        this.#options.onError(backgroundError('Giving space back failed; it is tried again', cause))
        this.#schedule(housekeepingPauseMs)
      })
    }, delayMs)
  }

  /** Does what is due; resolves when it is done. */
  async run (): Promise<void> {
    await this.#running
    const running = this.#running = this.#run()
    try {
      await running
    } finally {
      this.#running = undefined
    }
    this.#consider()
  }

  async #run (): Promise<void> {
    if (this.collector.due && this.#collectionDueMs <= 0) await this.collect()
    await this.#loadVersionKeys()
    let removed = 0
    if (this.#sweeper.due) removed += await this.#sweeper.sweepIfWorth()
    if (this.#trimDue && !this.#stopped) removed += await this.#trim()
    await this.#compact(journalAndLog, removed)
  }

  /** Sweeps the log, whether that is due or not. */
  async sweep (): Promise<void> {
    await this.#compact(journalAndLog, await this.#sweeper.sweep())
  }

  /** Collects tombstones, as far as all members allow, and settles the old conflicts that hold others back. */
  async collect (): Promise<void> {
    this.#collectedMs = this.#options.system.monotonicMs()
    const collected = await this.collector.collect()
    await this.#loadVersionKeys()
    await this.#compact(wholeKeyspace(keyspace.version), collected)
    await this.#settler.settle(this.collector.held)
  }

  /** After collections of our own, or of others. */
  async #loadVersionKeys (): Promise<void> {
    const { state: { engine, versionKeys }, writer } = this.#options
    if (versionKeys.isOutdated && !this.#stopped) await versionKeys.load(engine, writer)
  }

  /** Removes the journal records that no open would need; also before a close. */
  async trim (): Promise<void> {
    if (await this.#trim() >= compactEntriesMin) await compact(this.#options.state.engine, meta.all('J'))
  }

  /** Returns how many have been removed. */
  async #trim (): Promise<number> {
    const { state: { engine, journal }, writer, system } = this.#options
    const before = journal.length
    if (journal.sinceCheckpoint > journalTrimMin) {
      await journal.take(engine)
      await writer.run(() => true)
    }
    await journal.take(engine) // with which the one before has left the write-ahead log
    for (let trimming = true; trimming;) {
      let to = 0
      await writer.run((batch) => {
        to = journal.trim(batch, journalTrimmedAtOnce)
        return true
      })
      trimming = journal.trimmed(to)
      await system.yield()
    }
    return before - journal.length
  }

  async #compact (range: { gte: Buffer, lt: Buffer }, removed: number): Promise<void> {
    if (removed >= compactEntriesMin && !this.#stopped) await compact(this.#options.state.engine, range)
  }

  /** Nothing is begun before {@link resume}; resolves when what had been begun has come to a halt. */
  async pause (): Promise<void> {
    this.#paused = true
    this.#options.system.clearTimer(this.#timer)
    this.#timer = undefined
    await this.#running?.catch(() => {})
  }

  resume (): void {
    this.#paused = false
    this.#consider()
  }

  /** Nothing is begun any more; resolves when what had been begun has come to a halt. */
  async stop (): Promise<void> {
    this.#stopped = true
    this.#options.system.clearTimer(this.#timer)
    this.#options.system.clearTimer(this.#tickTimer)
    await this.#running?.catch(() => {})
  }
}
