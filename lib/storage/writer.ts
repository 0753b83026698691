/**
 * The one writer: every change of the store goes through here, one inner batch at a time.
 *
 * Local transactions that come together go out together (group commit), while those that come meanwhile are collected. The order of
 * sequences is the order of commits, and the vector never passes what is not committed. Remote units and internal jobs
 * take turns with local transactions: each has the writer to itself, and finds in the engine all that came before it.
 * A failed batch rejects what was in it; its sequences are not used again.
 *
 * Source: group commit, as in DeWitt et al., "Implementation Techniques for Main Memory Database Systems",
 * SIGMOD 1984.
 */
import { Fifo } from '../core/fifo.ts'
import { ReplicationError } from '../errors.ts'
import { keyBytesMax, operationBytes, takenAtOnceBytes } from '../limits.ts'
import type { System } from '../types.ts'
import { Committer, type CommitterOptions } from './committer.ts'
import type { InnerBatch } from './inner-batch.ts'
import { copyOperation, type Operation } from './local.ts'
import type { Transaction } from './local-batch.ts'
import { LocalWriter } from './local-writer.ts'
import { keyText, type MemtableEntry, type Pending } from './memtable.ts'
import type { RangeOptions } from './range.ts'
import type { RedoLog } from './redo-log.ts'
import { shapes } from './shapes.ts'
import type { ReplicaState } from './state.ts'
import type { Bytes } from './engine.ts'

/**
 * Work that needs the writer to itself: fills the batch, or returns `false` if nothing is to be written. Whatever
 * has been committed before is visible to it, and nothing is in flight.
 */
export type Job = (batch: InnerBatch) => boolean | Promise<boolean>

/** One batch of a series of jobs. */
export interface Step {
  /** As a {@link Job}; `false` ends the series. What the batch before it wrote may not be visible yet. */
  readonly fill: (batch: InnerBatch) => Promise<boolean>
  /** It is, also if that shows only after its write has failed. */
  readonly committed: () => void
}

interface JobOptions {
  /** Whether all that it writes came from peers. */
  readonly remote?: boolean
  /** If so, and if what it writes may count as soon as the redo log has it: how many bytes that is about, asked when its turn comes. */
  readonly recordedBytes?: (() => number) | undefined
  /** Is called when what it wrote counts, also if that shows only after its write has failed. */
  readonly committed?: () => void
}

/** Made with all its properties at once: where the options were spread into it, each one had a hidden class of its own, which took a tenth of the time from a lone unit to its event. */
interface QueuedJob {
  readonly job: Job
  readonly remote: boolean
  readonly recordedBytes: (() => number) | undefined
  readonly committed: (() => void) | undefined
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface QueuedSeries {
  readonly next: () => Step
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export interface WriterOptions extends CommitterOptions {
  readonly system: System
  /** Where local transactions count before the engine has them. */
  readonly redo: RedoLog | undefined
}

export class Writer {
  /** As long as there is one. */
  readonly shapes = shapes
  readonly #state: ReplicaState
  readonly #options: WriterOptions
  readonly #committer: Committer
  readonly #local: LocalWriter
  /** What has to keep the order in which it was handed in. */
  readonly #ordered = new Fifo<Transaction | QueuedJob>()
  readonly #jobs: Array<QueuedJob | QueuedSeries> = []
  #running = false
  #idle: Array<() => void> = []
  /** Waits for {@link LocalWriter} to take the next transaction. */
  #onRoom: (() => void) | undefined

  constructor (state: ReplicaState, options: WriterOptions) {
    this.#state = state
    this.#options = options
    this.#committer = new Committer(state, options, () => { this.#rejectOrdered() })
    this.#local = new LocalWriter(state, this.#committer, {
      redo: options.redo,
      system: options.system,
      onRoom: () => { this.#onRoom?.() },
      onError: options.onError
    })
  }

  /**
   * Commits one transaction. The caller's bytes are copied before this returns.
   *
   * @param bytes a rough count, to bound the batch that it joins.
   */
  commit (operations: readonly Operation[], sync: boolean, bytes: number): Promise<void> {
    if (this.#committer.broken) return Promise.reject(this.#committer.refusal())
    return new Promise((resolve, reject) => {
      if (!this.#running && this.#local.takes(bytes)) return this.#local.add({ operations, sync, bytes, resolve, reject })
      this.#ordered.push({ operations: operations.map(copyOperation), sync, bytes, resolve, reject })
      this.#start()
    })
  }

  /** Runs a job when its turn comes; resolves when what it wrote is committed. */
  run (job: Job, options: JobOptions = {}): Promise<void> {
    return this.#enqueue(this.#jobs, job, options)
  }

  /**
   * Runs a series of jobs, whose writes all came from peers: each batch is filled while the one before it is written,
   * unless others wait, who have their turn between.
   */
  runSeries (next: () => Step): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({ next, resolve, reject })
      this.#start()
    })
  }

  /** The same as {@link run}, after the transactions handed in before it, and before those that come later; like these it is refused while the disk takes no writes. */
  runInOrder (job: Job): Promise<void> {
    if (this.#committer.broken) return Promise.reject(this.#committer.refusal())
    return this.#enqueue(this.#ordered, job, {})
  }

  #enqueue (queue: { push (queued: QueuedJob): unknown }, job: Job, { remote = false, recordedBytes, committed }: JobOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      queue.push({ job, remote, recordedBytes, committed, resolve, reject })
      this.#start()
    })
  }

  #start (): void {
    if (this.#running) return
    this.#running = true
    void this.#drain()
  }

  /** Resolves when everything handed in so far, and what follows from it, is done. */
  async drained (): Promise<void> {
    if (this.#running) await new Promise<void>((resolve) => { this.#idle.push(resolve) })
    await this.#local.settled()
  }

  /** The last operation on a user's key that counts, and that the engine may not have yet. */
  find (key: Bytes): MemtableEntry | undefined {
    return this.#local.isLanded ? undefined : this.#local.find(keyText(key))
  }

  /** All that {@link find} finds now in a range, by keys as binary strings; undefined if that is nothing. */
  pending (range: RangeOptions): Pending {
    return this.#local.pending(range)
  }

  /** Returns what `take` returns, called when the engine has all that counts now, and nothing that comes later. Rejects if the disk takes no more writes. */
  atMoment<T> (take: () => T): Promise<T> {
    return this.#local.atMoment(take)
  }

  async #drain (): Promise<void> {
    while (this.#othersWait) {
      if (this.#committer.reopening !== undefined) await this.#committer.reopening
      if (this.#state.journal.full) await this.#takeCheckpoint()
      this.#addTransactions()
      const head = this.#ordered.first
      if (head !== undefined && 'job' in head) {
        this.#ordered.shift()
        await this.#runJob(head)
      }
      const queued = this.#jobs.shift()
      if (queued !== undefined) await ('job' in queued ? this.#runJob(queued) : this.#runSeries(queued))
      else if (this.#ordered.first !== undefined) await this.#room()
    }
    this.#rest()
  }

  get #othersWait (): boolean {
    return this.#ordered.length > 0 || this.#jobs.length > 0
  }

  /** Those at the head of the queue, as many as can be added before others have their turn. */
  #addTransactions (): void {
    let bytes = 0
    // Whatever hinders it when nothing is under way hinders its write, which says so.
    for (let head = this.#ordered.first; bytes < takenAtOnceBytes && head !== undefined && !('job' in head) && (this.#local.takes(head.bytes) || this.#local.isIdle); head = this.#ordered.first) {
      this.#ordered.shift()
      bytes += head.bytes
      this.#local.add(head)
    }
  }

  /** Resolves when that is worth trying again. */
  async #room (): Promise<void> {
    const head = this.#ordered.first!
    if ('job' in head) return
    if (this.#local.takes(head.bytes) || this.#local.isIdle) return await this.#options.system.yield()
    await new Promise<void>((resolve) => {
      this.#onRoom = resolve
      this.#local.hurry()
    })
    this.#onRoom = undefined
  }

  /** The disk takes no more writes. */
  #rejectOrdered (): void {
    for (let queued = this.#ordered.shift(); queued !== undefined; queued = this.#ordered.shift()) queued.reject(this.#committer.refusal())
  }

  async #takeCheckpoint (): Promise<void> {
    await this.#local.settled()
    const { engine, journal } = this.#state
    await (journal.taking ?? journal.take(engine)).catch(() => {}) // what hinders it fails the batch too
  }

  #rest (): void {
    this.#running = false
    if (this.#idle.length === 0) return
    const idle = this.#idle
    this.#idle = []
    for (const resolve of idle) resolve()
  }

  async #runJob ({ job, remote, recordedBytes, committed, resolve, reject }: QueuedJob): Promise<void> {
    if (!this.#local.isIdle) await this.#local.settled()
    if (this.#state.journal.full) await this.#takeCheckpoint()
    let batch: InnerBatch | undefined
    let writing = false
    try {
      const recorded = recordedBytes === undefined ? undefined : this.#local.beginRemote(recordedBytes())
      batch = recorded?.inner ?? this.#committer.newBatch(remote)
      const filled = job(batch)
      if (filled === true || (filled !== false && await filled)) {
        this.#committer.assertWritable() // It may have been closed while the job was at work.
        if (recorded !== undefined && this.#local.addRemote(recorded, committed)) {
          batch = undefined // which is in other hands
        } else {
          writing = true
          await batch.write()
          writing = false
          this.#committer.tell(batch.committed(), false, committed)
        }
      }
    } catch (error) {
      reject(writing ? this.#committer.failed(batch!, error, committed) : error)
      return
    } finally {
      this.#committer.recycle(batch)
    }
    resolve()
  }

  async #runSeries (series: QueuedSeries): Promise<void> {
    await this.#local.settled()
    let batch: InnerBatch | undefined
    let following: InnerBatch | undefined
    let filling: Promise<boolean> | undefined
    let writing = false
    let step: Step | undefined
    try {
      step = series.next()
      batch = this.#committer.newBatch(true)
      filling = step.fill(batch)
      while (await filling) {
        if (this.#state.journal.full) await this.#takeCheckpoint()
        this.#committer.assertWritable()
        writing = true
        const written = batch.write()
        written.catch(() => {}) // thrown where it is awaited
        const next = this.#othersWait ? undefined : series.next()
        if (next !== undefined) {
          following = this.#committer.newBatch(true)
          filling = next.fill(following)
          filling.catch(() => {}) // likewise
        }
        await written
        writing = false
        this.#committer.tell(batch.committed(), false, step.committed)
        if (next === undefined) {
          this.#jobs.push(series)
          return
        }
        this.#committer.recycle(batch)
        batch = following!
        following = undefined
        step = next
      }
      series.resolve()
    } catch (error) {
      await filling?.catch(() => {})
      series.reject(writing ? this.#committer.failed(batch!, error, step!.committed) : error)
    } finally {
      this.#committer.recycle(batch)
      this.#committer.recycle(following)
    }
  }
}

/** A unit of UTF-16 takes at most three bytes of UTF-8. */
const bytesPerUnitMax = 3

/** Bytes of a transaction, roughly: its keys and values, of text the length, and {@link operationBytes} for each operation. */
export function transactionBytes (operations: readonly Operation[]): number {
  let bytes = operations.length * operationBytes
  for (const { key, value } of operations) bytes += key.length + (value?.length ?? 0)
  return bytes
}

/**
 * Refuses what other replicas could not hold in memory, and keys that nobody reads back.
 *
 * @param roughBytes what {@link transactionBytes} says, which will do for all but the largest.
 */
export function checkTransactionBytes (roughBytes: number, operations: readonly Operation[], bytesMax: number): void {
  if (roughBytes * bytesPerUnitMax <= Math.min(bytesMax, keyBytesMax)) return
  let bytes = operations.length * operationBytes
  for (const { key, value } of operations) {
    const keyBytes = Buffer.byteLength(key)
    if (keyBytes > keyBytesMax) throw new ReplicationError(`A key of ${keyBytes} bytes exceeds ${keyBytesMax}`, { code: 'REPLICATION_TRANSACTION_TOO_LARGE' })
    bytes += keyBytes + (value === undefined ? 0 : Buffer.byteLength(value))
  }
  if (bytes > bytesMax) {
    throw new ReplicationError(`A transaction of ${operations.length} operations and ${bytes} bytes exceeds transactionBytesMax, ${bytesMax}: split it`, { code: 'REPLICATION_TRANSACTION_TOO_LARGE' })
  }
}
