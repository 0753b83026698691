/**
 * A user's snapshot: one of the inner database, which closes it when it has to be opened again after a failed write.
 *
 * LevelDB ends the process if it is closed while a snapshot of it is open, or is read at one that is gone.
 */
import { AbstractSnapshot } from 'abstract-level'
import { ReplicationError } from '../errors.ts'
import type { Engine } from './engine.ts'
import type { Pending } from './memtable.ts'

type InnerSnapshot = ReturnType<Engine['snapshot']>

/** The constructor that abstract-level's types leave out: the database `owner` closes it. */
const Base = AbstractSnapshot as unknown as new (options: object) => AbstractSnapshot

export class DataSnapshot extends Base {
  readonly #inner: InnerSnapshot
  readonly #isLive: () => boolean
  /** What the inner one may lack. */
  readonly pending: Pending
  #closed = false

  /** @param isLive whether the inner database is still the one it was when this was taken. */
  constructor (options: object, inner: InnerSnapshot, pending: Pending, isLive: () => boolean) {
    super(options)
    this.#inner = inner
    this.pending = pending
    this.#isLive = isLive
  }

  /** @throws `LEVEL_SNAPSHOT_NOT_OPEN` if it is gone */
  get inner (): InnerSnapshot {
    if (this.#closed) throw new ReplicationError('Snapshot is not open: cannot use snapshot after close()', { code: 'LEVEL_SNAPSHOT_NOT_OPEN' })
    if (!this.#isLive()) throw new ReplicationError('The database was opened again under this snapshot, after a failed write', { code: 'LEVEL_SNAPSHOT_NOT_OPEN' })
    return this.#inner
  }

  async _close (): Promise<void> {
    this.#closed = true
    await this.#inner.close()
  }
}

export interface ReadOptions {
  readonly snapshot?: unknown
  readonly valueEncoding?: string
}

/** The options of a read for the inner database. */
export function inSnapshot<T extends ReadOptions> (options: T): T {
  return options.snapshot instanceof DataSnapshot ? { ...options, snapshot: options.snapshot.inner } : options
}

/** What the inner snapshot may lack, if something is read at one. */
export function pendingAt ({ snapshot }: ReadOptions): Pending {
  return snapshot instanceof DataSnapshot ? snapshot.pending : undefined
}

/** Reads from the inner database; the snapshot stays open meanwhile, if it is read at one. */
export function readAt<T> (options: ReadOptions, read: (options: ReadOptions) => Promise<T>): Promise<T> {
  return options.snapshot instanceof DataSnapshot ? readHolding(options, options.snapshot, read) : read(options)
}

async function readHolding<T> (options: ReadOptions, { inner }: DataSnapshot, read: (options: ReadOptions) => Promise<T>): Promise<T> {
  inner.ref()
  try {
    return await read({ ...options, snapshot: inner })
  } finally {
    inner.unref()
  }
}
