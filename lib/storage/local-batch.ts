/**
 * A batch of the local writer: what is in it, and who waits for it.
 *
 * It is *recorded* if its changes get into the redo log. It is *whole* as long as every record of it could be written: then
 * what follows it may count before the engine has it. It *counts* from its first record on. It is *closed* when nothing is
 * added any more, and *spoiled* when a part of a transaction is in it that has failed: then the engine gets what counts of it
 * from the redo log.
 */
import type { Advance } from '../core/version-vector.ts'
import type { InnerBatch } from './inner-batch.ts'
import { copyOf, copyOperation, type LocalGroup, type Operation } from './local.ts'
import { Memtable } from './memtable.ts'

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export interface Transaction extends Waiting {
  readonly operations: readonly Operation[]
  readonly sync: boolean
  /** A rough count. */
  readonly bytes: number
}

export class LocalBatch implements LocalGroup {
  readonly inner: InnerBatch
  readonly memtable: Memtable
  readonly isLocal: boolean
  readonly settled: string[] = []
  readonly isRecorded: boolean
  isWhole: boolean
  /** Something of it counts already. */
  counts = false
  isClosed = false
  isSpoiled = false
  /** Somebody waits for the engine to have it. */
  isWanted = false
  /** What waits for it to count, and, though it may count already, for the disk. */
  waiting: Waiting[] = []
  waitingForSync: Waiting[] = []
  /** How many of the latter count. */
  syncCounted = 0
  readonly #before: Memtable | undefined

  constructor ({ inner, memtable = new Memtable(), isLocal, isRecorded, before }: { inner: InnerBatch, memtable?: Memtable, isLocal: boolean, isRecorded: boolean, before?: Memtable | undefined }) {
    this.inner = inner
    this.memtable = memtable
    this.isLocal = isLocal
    this.isRecorded = this.isWhole = isRecorded
    this.#before = before
  }

  /** Whether what does not count may stand in the redo log all the same, from which the next open would take it. */
  get isDoubtful (): boolean {
    return this.isRecorded && !this.isWhole
  }

  latest (key: string): Operation['type'] | undefined {
    return this.memtable.latest(key) ?? this.#before?.latest(key)
  }

  begin (first: Advance): void {
    this.memtable.begin(first)
  }

  note (operation: Operation): void {
    this.memtable.add(this.isRecorded ? copyOperation(operation) : { type: operation.type, key: copyOf(operation.key) })
  }

  resolve (): void {
    const { waiting } = this
    this.waiting = []
    for (const { resolve } of waiting) resolve()
  }

  /** What does not count never will. */
  rejectUncounted (error: unknown): void {
    const rejected = [...this.waiting, ...this.waitingForSync.splice(this.syncCounted)]
    this.waiting = []
    for (const { reject } of rejected) reject(error)
  }

  /** What counts may never be on disk. */
  rejectCounted (error: unknown): void {
    for (const { reject } of this.waitingForSync.splice(0, this.syncCounted)) reject(error)
  }
}
