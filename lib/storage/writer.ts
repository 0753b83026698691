/**
 * The one writer: every change of the store goes through here, one inner batch at a time.
 *
 * While a batch is in flight, later transactions collect and go out together (group commit); of many, the next batch is
 * filled meanwhile. One batch is in flight at a time, so that the order of sequences is the order of commits and the
 * vector never passes what is not committed. Remote units and internal
 * jobs take turns with local transactions. A failed batch rejects what was in it; its sequences are not used
 * again. Nothing is written after it before the engine has been opened again, and it is known whether it is there.
 *
 * Source: group commit, as in DeWitt et al., "Implementation Techniques for Main Memory Database Systems",
 * SIGMOD 1984.
 */
import { ReplicationError } from '../errors.ts'
import { groupBytes, innerBatchBytesMax, keyBytesMax, operationBytes } from '../limits.ts'
import { openBatch, type EngineBatch } from './engine.ts'
import { Fifo } from './fifo.ts'
import { InnerBatch } from './inner-batch.ts'
import type { Unit } from './unit.ts'
import type { ErrorListener } from '../types.ts'
import { addTransaction, copyOperation, newGroup, type LocalGroup, type Operation } from './local.ts'
import type { ReplicaState } from './state.ts'

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

interface Transaction {
  readonly operations: readonly Operation[]
  readonly sync: boolean
}

interface QueuedTransaction extends Transaction {
  /** A rough count. */
  readonly bytes: number
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** A batch with what a group of transactions writes. */
interface FilledBatch {
  readonly batch: InnerBatch
  readonly settled: LocalGroup['settled']
}

interface QueuedJob {
  readonly job: Job
  readonly remote: boolean
  readonly committed: () => void
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface QueuedSeries {
  readonly next: () => Step
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** Opens the engine again, until `look` succeeds. */
export type Reopen = (look: () => Promise<void>) => Promise<void>

export interface WriterOptions {
  readonly nowMs: () => number
  /** Whether the unit of a batch has to be encoded, since somebody will send it on; `remote` if a peer sent what it holds. */
  readonly recordsUnits: (remote: boolean) => boolean
  readonly onCommit: (unit: Unit, local: boolean) => void
  /** Closes and opens an engine that cannot be trusted after a failed write, when there is hope. */
  readonly reopen: Reopen | undefined
  /** It is open again. */
  readonly onReopened: () => void
  readonly onError: ErrorListener
}

export class Writer {
  readonly #state: ReplicaState
  readonly #options: WriterOptions
  /** What has to keep the order in which it was handed in. */
  readonly #ordered = new Fifo<QueuedTransaction | QueuedJob>()
  readonly #jobs: Array<QueuedJob | QueuedSeries> = []
  /** Empty ones, to be used again. */
  #engineBatches: EngineBatch[] = []
  #running = false
  /** While the engine is being opened again: why. */
  #broken: unknown
  #reopening: Promise<void> | undefined
  #idle: Array<() => void> = []

  constructor (state: ReplicaState, options: WriterOptions) {
    this.#state = state
    this.#options = options
  }

  /**
   * Commits one transaction. The caller's bytes are copied before this returns.
   *
   * @param bytes a rough count, to bound the batch that it joins.
   */
  commit (operations: readonly Operation[], sync: boolean, bytes: number): Promise<void> {
    if (this.#broken !== undefined) return Promise.reject(this.#refusal())
    if (!this.#running && !this.#state.journal.full && this.#state.unsaved === undefined) {
      this.#running = true
      return this.#commit([{ operations, sync }])
    }
    return new Promise((resolve, reject) => {
      this.#ordered.push({ operations: operations.map(copyOperation), sync, bytes, resolve, reject })
      this.#start()
    })
  }

  /**
   * Runs a job when its turn comes; resolves when what it wrote is committed.
   *
   * @param remote whether all that it writes came from peers
   * @param committed is called when what it wrote is committed, also if that shows only after its write has failed
   */
  run (job: Job, { remote = false, committed = () => {} }: { remote?: boolean, committed?: () => void } = {}): Promise<void> {
    return this.#enqueue(this.#jobs, job, remote, committed)
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

  /** The same as {@link run}, after the transactions handed in before it, and before those that come later. */
  runInOrder (job: Job): Promise<void> {
    return this.#enqueue(this.#ordered, job, false, () => {})
  }

  #enqueue (queue: { push (queued: QueuedJob): unknown }, job: Job, remote: boolean, committed: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      queue.push({ job, remote, committed, resolve, reject })
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
  }

  async #drain (): Promise<void> {
    while (this.#othersWait) {
      if (this.#reopening !== undefined) {
        for (let queued = this.#ordered.shift(); queued !== undefined; queued = this.#ordered.shift()) queued.reject(this.#refusal())
        await this.#reopening
      }
      if (this.#state.journal.full) await this.#takeCheckpoint()
      // What a failed batch was to say of who this replica is comes before anything that is written as such.
      if (this.#state.unsaved !== undefined) await this.#runJob({ job: () => true, remote: false, committed: () => {}, resolve: () => {}, reject: () => {} })
      const head = this.#ordered.first
      if (head !== undefined && 'job' in head) {
        this.#ordered.shift()
        await this.#runJob(head)
      } else if (head !== undefined) {
        await this.#commitGroups()
      }
      const queued = this.#jobs.shift()
      if (queued !== undefined) await ('job' in queued ? this.#runJob(queued) : this.#runSeries(queued))
    }
    this.#rest()
  }

  get #othersWait (): boolean {
    return this.#ordered.length > 0 || this.#jobs.length > 0
  }

  async #takeCheckpoint (): Promise<void> {
    const { engine, journal, vector } = this.#state
    await (journal.taking ?? journal.take(engine, vector)).catch(() => {}) // what hinders it fails the batch too
  }

  #rest (): void {
    this.#running = false
    if (this.#idle.length === 0) return
    const idle = this.#idle
    this.#idle = []
    for (const resolve of idle) resolve()
  }

  /** Commits what is at the head of the queue group by group: while one is written, the next is filled. */
  async #commitGroups (): Promise<void> {
    let group = this.#nextGroup()
    let filled = this.#fillGroup(group)
    while (filled !== undefined) {
      const committing = this.#commitGroup(group, filled)
      group = this.#jobs.length > 0 ? [] : this.#nextGroup()
      // A delete looks at what is there, and has to see what is being written.
      const isAhead = !group.some(hasDel)
      if (isAhead) filled = this.#fillGroup(group)
      await committing
      if (this.#broken === undefined && this.#state.journal.full) await this.#takeCheckpoint()
      if (!isAhead) filled = this.#fillGroup(group)
    }
  }

  /** The transactions at the head of the queue that one inner batch takes: few, so that filling and writing overlap, but all that wait if one waits for the disk. */
  #nextGroup (): QueuedTransaction[] {
    const group: QueuedTransaction[] = []
    let bytes = 0
    let bytesMax = groupBytes
    for (let head = this.#ordered.first; head !== undefined && !('job' in head); head = this.#ordered.first) {
      bytes += head.bytes
      if (head.sync) bytesMax = innerBatchBytesMax
      if (group.length > 0 && bytes > bytesMax) break
      group.push(head)
      this.#ordered.shift()
    }
    return group
  }

  /** Returns undefined, and has rejected them, if that fails; also if there are none. */
  #fillGroup (transactions: readonly QueuedTransaction[]): FilledBatch | undefined {
    if (transactions.length === 0) return undefined
    try {
      return this.#fill(transactions)
    } catch (error) {
      for (const { reject } of transactions) reject(error)
      return undefined
    }
  }

  async #commitGroup (transactions: readonly QueuedTransaction[], filled: FilledBatch): Promise<void> {
    try {
      await this.#commit(transactions, filled)
    } catch (error) {
      for (const { reject } of transactions) reject(error)
      return
    }
    for (const { resolve } of transactions) resolve()
  }

  /** The bytes of the transactions are copied when this returns. */
  #fill (transactions: readonly Transaction[]): FilledBatch {
    const batch = this.#newBatch(false)
    try {
      const group = newGroup(transactions.some(hasDel))
      const nowMs = this.#options.nowMs()
      for (const { operations, sync } of transactions) {
        addTransaction(this.#state, batch, group, operations, nowMs)
        batch.sync ||= sync
      }
      return { batch, settled: group.settled }
    } catch (error) {
      this.#recycle(batch)
      throw error
    }
  }

  /**
   * Commits transactions in one inner batch, which is with the engine when this returns.
   *
   * @param filled if left out, nobody but this call goes on with what has come meanwhile: a write that meets no other
   * takes one promise, and no queue.
   */
  async #commit (transactions: readonly Transaction[], filled?: FilledBatch): Promise<void> {
    const isAlone = filled === undefined
    let batch: InnerBatch | undefined
    let writing = false
    try {
      filled ??= this.#fill(transactions)
      batch = filled.batch
      this.#assertWritable() // The write before it may have failed since the batch was filled.
      if (!batch.empty || batch.sync) {
        writing = true
        await batch.write()
        writing = false
        for (const key of filled.settled) this.#state.siblingKeys.delete(key)
        this.#options.onCommit(batch.committed(), true)
      }
    } catch (error) {
      throw writing ? this.#writeFailed(batch!, error) : error
    } finally {
      this.#recycle(batch)
      if (isAlone) {
        if (this.#othersWait) void this.#drain()
        else this.#rest()
      }
    }
  }

  /** What to say of a write that the engine failed; before anything else is written it is opened again. */
  #writeFailed (batch: InnerBatch, cause: unknown, committed = (): void => {}): unknown {
    if (this.#options.reopen === undefined) return cause
    this.#broken = cause
    this.#reopening = this.#reopen(this.#options.reopen, batch, committed).finally(() => { this.#reopening = undefined })
    return new ReplicationError('The write failed, and may be there all the same; the database is opened again as soon as the disk takes writes', { code: 'REPLICATION_WRITE_INDETERMINATE', cause })
  }

  /** Once this resolves, the last batch is a part of the state, or it is not and never will be. */
  async #reopen (reopen: Reopen, batch: InnerBatch, committed: () => void): Promise<void> {
    const { engine, journal } = this.#state
    let isThere = undefined as boolean | undefined
    try {
      await reopen(async () => { isThere = await journal.holdsNext(engine) })
      this.#engineBatches = []
      if (isThere === undefined) throw new ReplicationError('The disk lacks acknowledged writes since the database was opened again: close it and open it, and peers bring back what they have', { code: 'REPLICATION_CORRUPT' })
      this.#broken = undefined
      if (isThere) {
        this.#options.onCommit(batch.committed(), false)
        committed()
      }
      this.#options.onReopened()
    } catch (error) {
      this.#broken = error
      if (isCorrupt(error)) this.#options.onError(error)
    }
  }

  #refusal (): ReplicationError {
    if (isCorrupt(this.#broken)) return this.#broken
    return new ReplicationError('The disk takes no writes', { code: 'LEVEL_IO_ERROR', cause: this.#broken })
  }

  #newBatch (remote: boolean): InnerBatch {
    this.#assertWritable()
    return new InnerBatch(this.#state, this.#engineBatches.pop() ?? openBatch(this.#state.engine), this.#options.recordsUnits(remote))
  }

  /** LevelDB's own batch would not ask, and end the process. */
  #assertWritable (): void {
    if (this.#broken !== undefined) throw this.#refusal()
    if (this.#state.engine.status !== 'open') throw new ReplicationError('The database is not open', { code: 'LEVEL_DATABASE_NOT_OPEN' })
  }

  /** Empties the engine's batch for the next one, unless its memory is worth giving back. */
  #recycle (batch: InnerBatch | undefined): void {
    if (batch === undefined) return
    const { engineBatch, bytes } = batch
    engineBatch.clear()
    if (bytes <= 2 * innerBatchBytesMax) this.#engineBatches.push(engineBatch)
    else engineBatch.close()
  }

  async #runJob ({ job, remote, committed, resolve, reject }: QueuedJob): Promise<void> {
    let batch: InnerBatch | undefined
    let writing = false
    try {
      batch = this.#newBatch(remote)
      const filled = job(batch)
      if (filled === true || (filled !== false && await filled)) {
        this.#assertWritable() // It may have been closed while the job was at work.
        writing = true
        await batch.write()
        writing = false
        this.#options.onCommit(batch.committed(), false)
        committed()
      }
    } catch (error) {
      reject(writing ? this.#writeFailed(batch!, error, committed) : error)
      return
    } finally {
      this.#recycle(batch)
    }
    resolve()
  }

  async #runSeries (series: QueuedSeries): Promise<void> {
    let batch: InnerBatch | undefined
    let following: InnerBatch | undefined
    let filling: Promise<boolean> | undefined
    let writing = false
    let step: Step | undefined
    try {
      step = series.next()
      batch = this.#newBatch(true)
      filling = step.fill(batch)
      while (await filling) {
        if (this.#state.journal.full) await this.#takeCheckpoint()
        this.#assertWritable()
        writing = true
        const written = batch.write()
        written.catch(() => {}) // thrown where it is awaited
        const next = this.#othersWait ? undefined : series.next()
        if (next !== undefined) {
          following = this.#newBatch(true)
          filling = next.fill(following)
          filling.catch(() => {}) // likewise
        }
        await written
        writing = false
        this.#options.onCommit(batch.committed(), false)
        step.committed()
        if (next === undefined) {
          this.#jobs.push(series)
          return
        }
        this.#recycle(batch)
        batch = following!
        following = undefined
        step = next
      }
      series.resolve()
    } catch (error) {
      await filling?.catch(() => {})
      series.reject(writing ? this.#writeFailed(batch!, error, step!.committed) : error)
    } finally {
      this.#recycle(batch)
      this.#recycle(following)
    }
  }
}

/** What only another open can find out about. */
function isCorrupt (error: unknown): error is ReplicationError {
  return error instanceof ReplicationError && error.code === 'REPLICATION_CORRUPT'
}

function hasDel ({ operations }: Transaction): boolean {
  return operations.some((operation) => operation.type === 'del')
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
