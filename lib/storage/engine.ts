/**
 * The underlying store: classic-level, or memory-level in tests and simulations.
 *
 * Appending to classic-level's chained batch through its private `_put` costs about half of the public array form,
 * and copies the caller's bytes at once, so that a later change to the caller's buffer cannot reach the disk. Other
 * stores get an adapter with the same two properties.
 */
import { AbstractChainedBatch, type AbstractLevel } from 'abstract-level'

export type Bytes = Buffer | Uint8Array | string

const nothing = Buffer.alloc(0)

/**
 * The bytes of a view: an encoding may hand over one of any kind, such as of numbers that take several. Text as it stands;
 * what is neither counts as empty, as in classic-level: JSON has no text for undefined or a function.
 */
export function bytesOf (view: Bytes): Bytes {
  if (typeof view === 'string' || view instanceof Uint8Array) return view
  if (!ArrayBuffer.isView(view)) return nothing
  const { buffer, byteOffset, byteLength } = view as ArrayBufferView
  return Buffer.from(buffer, byteOffset, byteLength)
}

/** A store whose keys and values are Buffers by default. */
export type Engine = AbstractLevel<Bytes, Buffer, Buffer>

/** To read and write it as such, whatever the encodings are that it was opened with. */
export const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

/** What takes changes. Keys and values are copied when added. */
export interface Changes {
  put (key: Buffer, value: Uint8Array | string): void
  del (key: Buffer): void
}

/** An atomic write in the making, to be filled, written, and filled again. */
export interface EngineBatch extends Changes {
  /** Resolves when LevelDB has it; with `sync`, when the disk has it. Has to be cleared before it is used again. */
  write (sync: boolean): Promise<void>
  clear (): void
  /** Lets the engine forget it, so that its memory can be collected. */
  close (): void
}

interface NativeBatch {
  _put (key: Buffer, value: Uint8Array | string): void
  _del (key: Buffer): void
  _write (options: { sync: boolean }): Promise<void>
  _clear (): void
  close (): Promise<void>
}

const buffered = { sync: false }
const synced = { sync: true }

/** A batch of this engine. LevelDB frees the memory of a batch when the garbage collector comes: use one again. */
export function openBatch (engine: Engine): EngineBatch {
  const batch = engine.batch() as unknown as NativeBatch
  if (batch._put === (AbstractChainedBatch.prototype as unknown as NativeBatch)._put) {
    batch.close().catch(() => {})
    return new ArrayBatch(engine)
  }
  return new LevelBatch(batch)
}

/** Gives the space of entries that are gone from a range back to the file system, where the engine keeps any. */
export async function compact (engine: Engine, { gte, lt }: { gte: Buffer, lt: Buffer }): Promise<void> {
  const { compactRange } = engine as { compactRange?: (start: Buffer, end: Buffer, options: object) => Promise<void> }
  await compactRange?.call(engine, gte, lt, { keyEncoding: 'buffer' })
}

/**
 * Writes what the engine holds in memory to its tables: no damage to a write-ahead log can take it away any more.
 *
 * LevelDB does that before it compacts a range, and there is nothing to compact in this one.
 */
export async function writeOut (engine: Engine): Promise<void> {
  const { compactRange } = engine as { compactRange?: (start: Buffer, end: Buffer, options: object) => Promise<void> }
  await compactRange?.call(engine, Buffer.of(0), Buffer.of(0), { keyEncoding: 'buffer' })
}

class LevelBatch implements EngineBatch {
  readonly #batch: NativeBatch

  constructor (batch: NativeBatch) {
    this.#batch = batch
  }

  put (key: Buffer, value: Uint8Array | string): void {
    this.#batch._put(key, value)
  }

  del (key: Buffer): void {
    this.#batch._del(key)
  }

  write (sync: boolean): Promise<void> {
    return this.#batch._write(sync ? synced : buffered)
  }

  clear (): void {
    this.#batch._clear()
  }

  close (): void {
    this.#batch.close().catch(() => {})
  }
}

class ArrayBatch implements EngineBatch {
  readonly #engine: Engine
  #operations: Array<{ type: 'put', key: Buffer, value: Buffer } | { type: 'del', key: Buffer }> = []

  constructor (engine: Engine) {
    this.#engine = engine
  }

  put (key: Buffer, value: Uint8Array | string): void {
    this.#operations.push({ type: 'put', key: Buffer.from(key), value: typeof value === 'string' ? Buffer.from(value) : Buffer.from(value) })
  }

  del (key: Buffer): void {
    this.#operations.push({ type: 'del', key: Buffer.from(key) })
  }

  async write (sync: boolean): Promise<void> {
    await this.#engine.batch(this.#operations, { ...buffers, sync } as object)
  }

  clear (): void {
    this.#operations = []
  }

  close (): void {}
}
