/**
 * Hands inner batches to the engine, one at a time, and opens the engine again after one has failed: nothing is written
 * before that, and before it is known whether the batch is there.
 */
import { ReplicationError, toReplicationError } from '../errors.ts'
import { innerBatchBytesMax } from '../limits.ts'
import type { ErrorListener } from '../types.ts'
import { openBatch, type EngineBatch } from './engine.ts'
import { InnerBatch } from './inner-batch.ts'
import type { Memtable } from './memtable.ts'
import type { RedoLog } from './redo-log.ts'
import type { ReplicaState } from './state.ts'
import type { Unit } from './unit.ts'

/** Opens the engine again, until `look` succeeds. */
export type Reopen = (look: () => Promise<void>) => Promise<void>

export interface CommitterOptions {
  /** Whether the unit of a batch has to be encoded, since somebody will send it on; `remote` if a peer sent what it holds. */
  readonly recordsUnits: (remote: boolean) => boolean
  readonly onCommit: (unit: Unit, local: boolean) => void
  /** Closes and opens an engine that cannot be trusted after a failed write, when there is hope. */
  readonly reopen: Reopen | undefined
  /** It is open again. */
  readonly onReopened: () => void
  readonly onError: ErrorListener
}

export class Committer {
  readonly #state: ReplicaState
  readonly #options: CommitterOptions
  /** Empty ones, to be used again. */
  #engineBatches: EngineBatch[] = []
  /** While the engine is being opened again: why. */
  #broken: unknown
  #reopening: Promise<void> | undefined
  readonly #onBroken: () => void

  /** @param onBroken is called when the engine takes no more writes for now */
  constructor (state: ReplicaState, options: CommitterOptions, onBroken: () => void) {
    this.#state = state
    this.#options = options
    this.#onBroken = onBroken
  }

  get broken (): boolean {
    return this.#broken !== undefined
  }

  /** While the engine is being opened again. */
  get reopening (): Promise<void> | undefined {
    return this.#reopening
  }

  /** @param redo and memtable as for {@link InnerBatch} */
  newBatch (remote: boolean, redo?: RedoLog, memtable?: Memtable): InnerBatch {
    this.assertWritable()
    return new InnerBatch(this.#state, this.#engineBatches.pop() ?? openBatch(this.#state.engine), this.#options.recordsUnits(remote), redo, memtable)
  }

  /** LevelDB's own batch would not ask, and end the process. */
  assertWritable (): void {
    if (this.#broken !== undefined) throw this.refusal()
    if (this.#state.engine.status !== 'open') throw new ReplicationError('The database is not open', { code: 'LEVEL_DATABASE_NOT_OPEN' })
  }

  refusal (message = 'The disk takes no writes'): ReplicationError {
    if (isCorrupt(this.#broken)) return this.#broken
    return new ReplicationError(message, { code: 'LEVEL_IO_ERROR', cause: this.#broken })
  }

  /** Empties the engine's batch for the next one, unless its memory is worth giving back. */
  recycle (batch: InnerBatch | undefined): void {
    if (batch === undefined) return
    const { engineBatch, bytes } = batch
    engineBatch.clear()
    if (bytes <= 2 * innerBatchBytesMax) this.#engineBatches.push(engineBatch)
    else engineBatch.close()
  }

  /** Tells of what is committed, `committed` before links. It is, whatever those do who hear of it. */
  tell (unit: Unit, local: boolean, committed?: () => void): void {
    if (committed !== undefined) this.#call(committed)
    this.#call(() => { this.#options.onCommit(unit, local) })
  }

  #call (listener: () => void): void {
    try {
      listener()
    } catch (error) {
      this.#options.onError(toReplicationError(error))
    }
  }

  /**
   * Returns what to say of a write that the engine has failed; before anything else is written it is opened again.
   *
   * @param committed is called if the batch is there all the same, after it has become a part of the state
   */
  failed (batch: InnerBatch, cause: unknown, committed?: () => void): unknown {
    let isThere: boolean
    return this.mend(cause, async () => { isThere = await this.holdsNext() }, () => {
      if (isThere) this.tell(batch.committed(), false, committed)
    })
  }

  /**
   * The same, of anything that has failed.
   *
   * @param look finds out what is there, when the engine is open again; the engine is not trusted before that succeeds
   * @param found is called after that, before anything is written
   */
  mend (cause: unknown, look: () => Promise<void>, found: () => void): unknown {
    const { reopen } = this.#options
    if (reopen === undefined) return cause
    this.#broken = cause
    this.#reopening = this.#mend(reopen, look, found).finally(() => { this.#reopening = undefined })
    this.#onBroken()
    return indeterminate(cause, '; the database is opened again as soon as the disk takes writes')
  }

  /** Whether the batch after the last one is there. */
  async holdsNext (): Promise<boolean> {
    const isThere = await this.#state.journal.holdsNext(this.#state.engine)
    if (isThere === undefined) throw corrupt()
    return isThere
  }

  async #mend (reopen: Reopen, look: () => Promise<void>, found: () => void): Promise<void> {
    let corrupt: ReplicationError | undefined
    try {
      await reopen(async () => {
        try {
          await look()
        } catch (error) {
          if (!isCorrupt(error)) throw error
          corrupt = error
        }
      })
      this.#engineBatches = []
      if (corrupt !== undefined) throw corrupt
      this.#broken = undefined
      found()
      this.#options.onReopened()
    } catch (error) {
      this.#broken = error
      if (isCorrupt(error)) this.#options.onError(error)
    }
  }
}

/** What is said of a write that has failed, and that the next open may find. */
export function indeterminate (cause: unknown, whatFollows = ''): ReplicationError {
  return new ReplicationError(`The write failed, and may be there all the same${whatFollows}`, { code: 'REPLICATION_WRITE_INDETERMINATE', cause })
}

export function corrupt (): ReplicationError {
  return new ReplicationError('The disk lacks acknowledged writes since the database was opened again: close it and open it, and peers bring back what they have', { code: 'REPLICATION_CORRUPT' })
}

/** What only another open can find out about. */
function isCorrupt (error: unknown): error is ReplicationError {
  return error instanceof ReplicationError && error.code === 'REPLICATION_CORRUPT'
}
