/**
 * Local transactions, and the few units of peers that come at a time, on their way into the engine: while one batch is
 * written, the next one is filled.
 *
 * With a redo log, all that has been added in one turn of the event loop is written there together, and counts from then
 * on: it is a part of the replica's state, its callers go on, links are told, and the engine gets it behind that, when it is
 * enough, when somebody waits for that, or after a while. Without one, and what is too long for it, counts when the
 * engine has it. What is to be synced waits for the disk besides. What the engine does not take, it gets from the redo log
 * when it is open again.
 */
import { backgroundError } from '../errors.ts'
import { changesPace, groupBytes, innerBatchBytesMax, recordedUnitsBytesMax, redoAreaBytes, redoPace } from '../limits.ts'
import type { ErrorListener, System, Timer } from '../types.ts'
import { corrupt, indeterminate, type Committer } from './committer.ts'
import { addTransaction, nextTime } from './local.ts'
import { LocalBatch, type Transaction } from './local-batch.ts'
import { Memtable, type MemtableEntry, type Pending } from './memtable.ts'
import { within, type RangeOptions } from './range.ts'
import { AreaFull, type RedoLog } from './redo-log.ts'
import type { ReplicaState } from './state.ts'

/** A call to be made when the engine has what counted when it was handed in. */
interface Moment {
  readonly take: () => void
  readonly reject: (error: unknown) => void
}

/** Of a transaction so many bytes, as they are counted roughly, get into the redo log for each one at most. */
const redoFactor = 2

const lacking = 'The disk takes no writes, and LevelDB lacks what has resolved just before: make room, then try again'

export interface LocalWriterOptions {
  readonly redo: RedoLog | undefined
  readonly system: System
  /** A transaction that could not be added may be now. */
  readonly onRoom: () => void
  readonly onError: ErrorListener
}

export class LocalWriter {
  readonly #state: ReplicaState
  readonly #committer: Committer
  readonly #options: LocalWriterOptions
  /** Is being filled, and is written after the other one. */
  #open: LocalBatch | undefined
  /** Is being written. */
  #flying: LocalBatch | undefined
  /** Whether others are to have their turn before what is added counts. */
  #waitsForTurn = false
  /** When something last came to count, when links were told last, and when they will be. */
  #countedMs = -Infinity
  #toldMs = -Infinity
  #tellTimer: Timer | undefined
  #timer: Timer | undefined
  /** The redo log is not used before that. */
  #restsUntilMs = -Infinity
  /** When all slow writes to it will have been made up for by time without any. */
  #evenMs = -Infinity
  /** What waits for the batch that is being written, for the next one, and for both. */
  #afterFlying: Moment[] = []
  #afterOpen: Moment[] = []
  #idle: Array<() => void> = []

  constructor (state: ReplicaState, committer: Committer, options: LocalWriterOptions) {
    this.#state = state
    this.#committer = committer
    this.#options = options
  }

  /** Whether a transaction can be added now, of so many bytes about. */
  takes (bytes: number): boolean {
    const open = this.#open
    if (open === undefined) return !this.#state.journal.full
    if (open.isClosed) return false
    return open.isRecorded ? this.#options.redo!.takes(this.#number, bytes * redoFactor) : open.inner.bytes + bytes <= innerBatchBytesMax
  }

  /** What the journal will call the batch that is filled. */
  get #number (): number {
    return this.#state.journal.number + (this.#flying === undefined ? 1 : 2)
  }

  /** Adds a transaction, whose bytes are copied when this returns. It is resolved when it counts, after those that were added before it. */
  add (transaction: Transaction): void {
    const { operations, sync, bytes, reject } = transaction
    let batch: LocalBatch | undefined
    try {
      const hlc = nextTime(this.#state, this.#options.system.nowMs())
      batch = this.#open ??= this.#begin(bytes)
      addTransaction(this.#state, batch.inner, batch, operations, hlc)
    } catch (error) {
      if (batch !== undefined) this.#spoil(batch, error)
      reject(error)
      return
    }
    batch.inner.sync ||= sync
    if (sync) batch.waitingForSync.push(transaction)
    else batch.waiting.push(transaction)
    if (sync) batch.isWanted = true
    if (batch.isRecorded) this.#proceedSoon()
    else this.#proceed()
  }

  #begin (bytes: number): LocalBatch {
    const { redo, system } = this.#options
    const isRecorded = redo !== undefined && bytes * redoFactor <= redoAreaBytes && system.monotonicMs() >= this.#restsUntilMs
    const inner = this.#committer.newBatch(false, isRecorded ? redo : undefined)
    return new LocalBatch({ inner, isLocal: true, isRecorded, before: this.#flying?.memtable })
  }

  /** Begins a batch of what peers have sent, so many bytes about; undefined if the redo log does not take it. Nothing may be under way until it is handed in or given up. */
  beginRemote (bytes: number): LocalBatch | undefined {
    const { redo, system } = this.#options
    if (redo === undefined || bytes > recordedUnitsBytesMax || system.monotonicMs() < this.#restsUntilMs) return undefined
    const memtable = new Memtable()
    return new LocalBatch({ inner: this.#committer.newBatch(true, redo, memtable), memtable, isLocal: false, isRecorded: true })
  }

  /** Hands in such a batch when it has been filled: it counts from now on, as `counted` hears before links do. Returns false if it has to be written otherwise. */
  addRemote (batch: LocalBatch, counted?: () => void): boolean {
    if (!batch.inner.isPlain || !batch.inner.hasNews || !this.#append(batch)) return false // what advances nothing would never get to the engine
    batch.inner.reveal()
    this.#count(batch)
    this.#takeOff(batch, counted)
    process.nextTick(() => { void this.#write(batch) }) // once all have heard of it: this takes longer
    return true
  }

  /** A transaction has failed that may be in the batch in part. */
  #spoil (batch: LocalBatch, error: unknown): void {
    batch.rejectUncounted(batch.isDoubtful ? indeterminate(error) : error)
    if (batch.counts || batch.isDoubtful) { // Else nothing is lost with it, nor missed where records are counted.
      batch.isClosed = batch.isSpoiled = true
      this.#tell(batch)
      batch.memtable.discard()
      this.hurry()
      return
    }
    this.#open = undefined
    this.#committer.recycle(batch.inner)
  }

  /**
   * When all that is at hand has been done, and so once in a turn of the event loop; after that, when others have had their turn: what is
   * added meanwhile goes together, and nobody who writes again and again keeps the event loop.
   */
  #proceedSoon (): void {
    if (this.#waitsForTurn) return
    this.#waitsForTurn = true
    process.nextTick(() => { this.#proceed() })
    void this.#options.system.yield().then(() => {
      this.#waitsForTurn = false
      this.#proceed()
    })
  }

  #proceed (): void {
    const batch = this.#open
    if (batch === undefined || this.#committer.broken) return
    // A synced batch that changes nothing has a number, and no record: none that follows would be found.
    if (this.#flying === undefined || (this.#flying.isWhole && this.#flying.counts)) this.#acknowledge(batch)
    if (this.#flying !== undefined) return
    if (batch.isWanted || !batch.isWhole || batch.inner.bytes >= groupBytes) {
      this.#takeOff(batch)
      void this.#write(batch)
    } else {
      this.#timer ??= this.#options.system.setTimer(() => {
        this.#timer = undefined
        this.hurry()
      }, redoPace.keptMs)
    }
  }

  /** What is in the redo log is to get to the engine without delay. */
  hurry (): void {
    if (this.#open !== undefined) this.#open.isWanted = true
    this.#proceed()
  }

  /** What has been added since the last time counts, if it gets into the redo log. */
  #acknowledge (batch: LocalBatch): void {
    if (!batch.isWhole || batch.isSpoiled) return
    if (batch.inner.hasNews) {
      batch.isWhole = this.#append(batch)
      if (!batch.isWhole) return
      batch.inner.reveal()
      this.#count(batch)
      this.#tellSoon(batch)
    }
    batch.resolve()
  }

  /** Links are told at once of what comes alone; of what comes fast all of a moment together, which costs them little more than one. */
  #tellSoon (batch: LocalBatch): void {
    const { system } = this.#options
    const nowMs = system.monotonicMs()
    const isAlone = nowMs - this.#countedMs >= changesPace.restMs
    this.#countedMs = nowMs
    if (isAlone || nowMs - this.#toldMs >= changesPace.pauseMs) return this.#tell(batch)
    this.#tellTimer ??= system.setTimer(() => {
      this.#tellTimer = undefined
      if (this.#open?.inner.hasNews === false) this.#tell(this.#open) // else it is about to count, and is told with what does already
    }, changesPace.pauseMs)
  }

  #tell ({ inner, isLocal, isSpoiled }: LocalBatch, counted?: () => void): void {
    if (inner.isTold) return
    const { system } = this.#options
    system.clearTimer(this.#tellTimer)
    this.#tellTimer = undefined
    this.#toldMs = system.monotonicMs()
    this.#committer.tell(inner.hasNews || isSpoiled ? inner.unitWithoutBody() : inner.unit(), isLocal, counted)
  }

  #append ({ inner }: LocalBatch): boolean {
    const { redo, system } = this.#options
    const begunMs = system.monotonicMs()
    let isThere = false
    let isFull = false
    try {
      inner.append(redo!, this.#number)
      isThere = true
    } catch (error) {
      isFull = error instanceof AreaFull // else the engine finds out what is wrong with the disk
    }
    const endedMs = system.monotonicMs()
    const tookMs = endedMs - begunMs
    if (!isThere && !isFull) this.#restsUntilMs = endedMs + redoPace.restMs
    else if (tookMs > redoPace.slowMs) {
      this.#evenMs = Math.max(this.#evenMs, endedMs) + tookMs * redoPace.restFactor
      this.#restsUntilMs = this.#evenMs - redoPace.burstMs * redoPace.restFactor
    }
    return isThere
  }

  #count (batch: LocalBatch): void {
    for (const key of batch.settled) this.#state.siblingKeys.delete(key)
    if (batch.settled.length > 0) batch.settled.length = 0 // which V8 does slowly
    batch.memtable.acknowledge()
    batch.counts = true
    batch.syncCounted = batch.waitingForSync.length
  }

  /** A batch is to be written now; {@link #write} is to follow. */
  #takeOff (batch: LocalBatch, counted?: () => void): void {
    this.#options.system.clearTimer(this.#timer)
    this.#timer = undefined
    this.#open = undefined
    this.#flying = batch
    batch.memtable.acknowledge() // If some of it counts, that is not read without the rest, which the engine has with it, before that is known.
    this.#afterFlying = this.#afterOpen
    this.#afterOpen = []
    if (!batch.inner.hasNews) this.#tell(batch, counted)
    this.#options.onRoom()
  }

  async #write (batch: LocalBatch): Promise<void> {
    const { inner } = batch
    const isNothing = batch.isSpoiled ? !batch.counts : inner.empty && !inner.sync
    try {
      this.#committer.assertWritable()
      if (batch.isSpoiled) await this.#redo(0, isNothing ? 0 : 1, inner.sync)
      else if (!isNothing) await inner.write()
    } catch (error) {
      this.#failed(batch, error)
      return
    }
    if (!isNothing) this.#follow(batch)
    this.#landed(batch)
  }

  /** The engine has it, and nothing that comes after it. */
  #landed (batch: LocalBatch): void {
    this.#flying = undefined
    this.#committer.recycle(batch.inner)
    batch.resolve()
    for (const { resolve } of batch.waitingForSync) resolve()
    const moments = this.#afterFlying
    this.#afterFlying = []
    for (const { take } of moments) take()
    this.#proceed()
    this.#rest()
  }

  #rest (): void {
    if (this.isIdle) {
      const idle = this.#idle
      this.#idle = []
      for (const resolve of idle) resolve()
    }
    this.#options.onRoom()
  }

  /** Whether nothing is under way; what is left when the engine takes no more writes is not. */
  get isIdle (): boolean {
    return (this.#open === undefined && this.#flying === undefined) || this.#isDead
  }

  get #isDead (): boolean {
    return this.#committer.broken && this.#committer.reopening === undefined
  }

  /** The engine has a batch: so does the replica's state. */
  #follow (batch: LocalBatch): void {
    if (batch.isSpoiled) batch.inner.redone()
    else if (batch.inner.hasNews) this.#commit(batch)
    else batch.inner.landed()
  }

  /** The engine has what counts of a batch. */
  #redone (batch: LocalBatch): void {
    this.#tell(batch)
    batch.inner.redone()
  }

  #commit (batch: LocalBatch): void {
    const unit = batch.inner.committed()
    this.#count(batch)
    this.#committer.tell(unit, batch.isLocal)
  }

  /** What counts is given to the engine when it is open again; what does not is rejected. */
  #failed (batch: LocalBatch, cause: unknown): void {
    const next = this.#open
    let isThere: boolean | undefined
    const error = this.#committer.mend(cause, async () => {
      const has = await this.#committer.holdsNext()
      isThere ??= has // what is there the next time has come from the redo log, which may hold less
      await this.#redo(has ? 1 : 0, (has || batch.counts ? 1 : 0) + (next?.counts === true ? 1 : 0))
    }, () => {
      if (isThere === true) this.#follow(batch)
      else if (batch.counts) this.#redone(batch)
      if (next?.counts === true) this.#redone(next)
      this.#flying = this.#open = undefined
      this.#rest()
    })
    batch.rejectUncounted(error)
    batch.rejectCounted(error)
    if (!this.#committer.broken) { // There is nothing to be mended.
      this.#landed(batch)
      return
    }
    next?.rejectUncounted(next.isDoubtful ? error : this.#committer.refusal())
    next?.rejectCounted(error)
    if (batch.counts) this.#options.onError(backgroundError('What was written is kept in the redo log until the disk takes it', cause))
    for (const { reject } of [...this.#afterFlying, ...this.#afterOpen]) reject(this.#committer.refusal(lacking))
    this.#afterFlying = []
    this.#afterOpen = []
    void this.#committer.reopening!.then(() => { if (this.#isDead) this.#rest() })
  }

  /** Gives the engine what it lacks: it has so many batches more than the journal knows of, and is to have that many. */
  async #redo (has: number, wanted: number, sync = false): Promise<void> {
    const { engine, journal } = this.#state
    if (has === wanted) return
    await this.#options.redo!.redo(engine, journal.number + has, journal.number + wanted, sync)
    if (!await journal.holds(engine, journal.number + wanted)) throw corrupt()
  }

  /** Resolves when the engine has all that has been added, or takes nothing any more. */
  async settled (): Promise<void> {
    if (this.isIdle) return
    await new Promise<void>((resolve) => {
      this.#idle.push(resolve)
      this.hurry()
    })
  }

  /** Whether the engine has all that counts. */
  get isLanded (): boolean {
    return this.#open?.counts !== true && this.#flying?.counts !== true
  }

  /** The last operation on a user's key, as a binary string, that counts and that the engine may not have yet. */
  find (key: string): MemtableEntry | undefined {
    return this.#open?.memtable.acknowledged.get(key) ?? this.#flying?.memtable.acknowledged.get(key)
  }

  /** All that {@link find} finds now, for later; undefined if that is nothing. */
  pending (range: RangeOptions): Pending {
    if (this.isLanded) return undefined
    const isIn = within(range)
    const found = new Map<string, MemtableEntry>()
    for (const batch of [this.#flying, this.#open]) {
      if (batch !== undefined) for (const [key, entry] of batch.memtable.acknowledged) if (isIn(key)) found.set(key, entry)
    }
    return found.size === 0 ? undefined : found
  }

  /** Returns what `take` returns, called when the engine has all that counts now, and nothing that comes later. Rejects if the disk takes no more writes. */
  async atMoment<T> (take: () => T): Promise<T> {
    if (this.isLanded) return take()
    if (this.#committer.broken) throw this.#committer.refusal(lacking)
    return await new Promise<T>((resolve, reject) => {
      const moment = {
        take: () => {
          try {
            resolve(take())
          } catch (error) {
            reject(error)
          }
        },
        reject
      }
      if (this.#open?.counts === true) {
        this.#open.isClosed = true
        this.#afterOpen.push(moment)
      } else {
        this.#afterFlying.push(moment)
      }
      this.hurry()
    })
  }
}
