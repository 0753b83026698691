/**
 * Work in the background that gives space back: when it is due, a while after the write that made it so.
 *
 * LevelDB forgets removed entries when it compacts the tables that hold them, which it does where much is written.
 * What has been removed in bulk from a keyspace is compacted at once, so that reading it does not have to step over
 * what is gone.
 */
import { ReplicationError } from '../errors.ts'
import { collectionIntervalMs, housekeepingDelayMs, housekeepingPauseMs, runningTimeSaveMs } from '../limits.ts'
import type { ErrorListener, System, Timer } from '../types.ts'
import { compact } from './engine.ts'
import { keyspace, wholeKeyspace, type Keyspace } from './keyspaces.ts'
import { Collector, type CollectorOptions } from './collector.ts'
import { Sweeper } from './sweeper.ts'

/** So many removed entries are worth a compaction of what is left. */
const compactEntriesMin = 5000

export interface HousekeepingOptions extends Omit<CollectorOptions, 'yield' | 'stopped'> {
  readonly saveMembers: () => Promise<void>
  readonly system: System
  readonly onError: ErrorListener
}

export class Housekeeping {
  readonly #options: HousekeepingOptions
  readonly #sweeper: Sweeper
  readonly collector: Collector
  #timer: Timer | undefined
  #tickTimer: Timer | undefined
  #running: Promise<void> | undefined
  #stopped = false
  /** When tombstones were last collected. */
  #collectedMs = -Infinity

  constructor (options: HousekeepingOptions) {
    this.#options = options
    const work = { state: options.state, writer: options.writer, yield: () => options.system.yield(), stopped: () => this.#stopped }
    this.#sweeper = new Sweeper(work)
    this.collector = new Collector({ ...options, ...work })
    this.#tick()
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
      saveMembers().catch((cause) => { onError(new ReplicationError('The members could not be saved', { code: 'REPLICATION_INTERNAL', cause })) })
      this.#tick()
    }, runningTimeSaveMs)
  }

  #consider (): void {
    if (this.#timer !== undefined || this.#running !== undefined || this.#stopped) return
    if (this.#sweeper.due) this.#schedule(housekeepingDelayMs)
    else if (this.collector.due) this.#schedule(Math.max(housekeepingDelayMs, this.#collectionDueMs))
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
        this.#options.onError(new ReplicationError('Giving space back failed; it is tried again', { code: 'REPLICATION_INTERNAL', cause }))
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
    if (this.#sweeper.due) await this.#compact(keyspace.log, await this.#sweeper.sweepIfWorth())
  }

  /** Sweeps the log, whether that is due or not. */
  async sweep (): Promise<void> {
    await this.#compact(keyspace.log, await this.#sweeper.sweep())
  }

  /** Collects tombstones, as far as all members allow. */
  async collect (): Promise<void> {
    this.#collectedMs = this.#options.system.monotonicMs()
    await this.#compact(keyspace.version, await this.collector.collect())
  }

  async #compact (space: Keyspace, removed: number): Promise<void> {
    if (removed >= compactEntriesMin && !this.#stopped) await compact(this.#options.state.engine, wholeKeyspace(space))
  }

  /** Nothing is begun any more; resolves when what had been begun has come to a halt. */
  async stop (): Promise<void> {
    this.#stopped = true
    this.#options.system.clearTimer(this.#timer)
    this.#options.system.clearTimer(this.#tickTimer)
    await this.#running?.catch(() => {})
  }
}
