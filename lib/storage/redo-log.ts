/**
 * The redo log: what has been acknowledged and LevelDB does not have yet.
 *
 * To hand a batch to LevelDB's thread and to hear of it takes longer than to write it. So a local transaction counts as
 * soon as its changes stand in a small file, written at once; LevelDB gets them behind that, those of many transactions
 * in one batch. What is in the file survives the end of the process, as what LevelDB has written does, and an open gives
 * LevelDB what it has not got: the changes are physical, so that nothing has to be decided again. It is not synced:
 * neither is a LevelDB write without `sync`, and one with it waits for LevelDB.
 *
 * A record names the inner batch that it is a part of. While one batch is on its way to LevelDB the next one is filled,
 * so there are two areas, which batches take in turn, each from the beginning. What is left of earlier ones has other
 * numbers, or another epoch: each open begins one. Records are taken in their order and without a gap, from the first
 * one of the first batch that LevelDB lacks; whatever else stands in the file is of no use to anybody.
 *
 * Source: redo logging, as in Härder and Reuter, "Principles of Transaction-Oriented Database Recovery", ACM Computing
 * Surveys 15 (1983).
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { crc32 } from '../codec/crc32.ts'
import { readUint32, writeUint32 } from '../codec/integers.ts'
import { redoAreaBytes } from '../limits.ts'
import { buffers, type Changes, type Engine } from './engine.ts'

export const redoFileName = 'REPLICA.redo'

/** Where it stands: a file in the directory of the database, or a simulator's stand-in. */
export interface RedoFile {
  /** All that stands there; empty if nothing does. */
  read (): Promise<Buffer>
  /** Writes at once: when this returns, what is written survives the end of the process. */
  write (bytes: Buffer, position: number): void
  /** Nothing in it is needed any more, and nothing is written any more. */
  remove (): Promise<void>
  /** Lets go of it, as it stands: what is written next is written to what is in its place then. */
  close (): void
}

/** A record is longer than it was thought to be. */
export class AreaFull extends Error {}

/** Of a record: length and checksum of what follows. */
const headBytes = 8

export class RedoLog implements Changes {
  readonly #file: RedoFile
  /** The record in the making: the changes. */
  readonly #changes = new ByteWriter(4096)
  readonly #record = new ByteWriter(4096)
  #seed = 0
  /** The batch that the last record is a part of, and where its next one begins in its area. */
  #batch = 0
  #position = 0
  /** Records of this epoch. */
  #records = 0
  /** The last of them whose write has failed, and may stand there all the same. */
  #failed: number | undefined

  constructor (file: RedoFile) {
    this.#file = file
  }

  /** From now on all records are of this epoch, which the database names: no other ones are read after the next open. */
  begin (epoch: string): void {
    this.#seed = seedOf(epoch)
  }

  /** Takes changes to the batch and to the record in the making, which begins: of what another batch has left of one, nothing counts. */
  recording (batch: Changes): Changes {
    this.#changes.reset()
    return new Recording(batch, this)
  }

  /** Adds a change to the record in the making only. */
  put (key: Buffer, value: Uint8Array | string): void {
    this.#changes.varint(key.length * 2 + 1).raw(key)
    if (typeof value === 'string') this.#changes.text(value)
    else this.#changes.bytes(value)
  }

  /** The same, of a key that goes. */
  del (key: Buffer): void {
    this.#changes.varint(key.length * 2).raw(key)
  }

  /** Whether a batch can take so many bytes more, about. */
  takes (number: number, bytes: number): boolean {
    return (number === this.#batch ? this.#position : 0) + this.#changes.length + bytes <= redoAreaBytes
  }

  /**
   * Writes the record in the making, as a part of the batch with this number, and begins the next one.
   *
   * @throws {@link AreaFull}, or what the file system throws; then it does not count, nor does any that follows before LevelDB has that batch
   */
  append (number: number): void {
    try {
      if (number !== this.#batch) {
        this.#batch = number
        this.#position = 0
      }
      const head = this.#record.reset().raw(room).varint(number).varint(this.#records)
      const record = head.raw(this.#changes.view()).view()
      if (this.#position + record.length > redoAreaBytes) throw new AreaFull('The area of the batch is full')
      writeUint32(record, 0, record.length - headBytes)
      writeUint32(record, 4, crc32(record.subarray(headBytes), this.#seed))
      this.#file.write(record, areaOf(number) + this.#position)
      this.#position += record.length
    } catch (error) {
      this.#failed = this.#records
      throw error
    } finally {
      this.#records++
      this.#changes.reset()
    }
  }

  /** Gives LevelDB what it lacks of this epoch up to a batch, beyond which more may come, and nothing whose write has failed. */
  async redo (engine: Engine, last: number, upTo: number, sync: boolean): Promise<void> {
    await redo(engine, await this.#file.read(), this.#seed, last, { upTo, sync, failed: this.#failed })
  }

  /** The engine has all of it. */
  async remove (): Promise<void> {
    await this.#file.remove()
  }

  /** The directory may be in another place now. */
  close (): void {
    this.#file.close()
  }
}

/** Changes on their way to two places. */
export class Recording implements Changes {
  readonly #batch: Changes
  readonly #redo: Changes

  constructor (batch: Changes, redo: Changes) {
    this.#batch = batch
    this.#redo = redo
  }

  put (key: Buffer, value: Uint8Array | string): void {
    this.#batch.put(key, value)
    this.#redo.put(key, value)
  }

  del (key: Buffer): void {
    this.#batch.del(key)
    this.#redo.del(key)
  }
}

const room = new Uint8Array(headBytes)

/** Checksums of an epoch begin with this. */
export function seedOf (epoch: string): number {
  return crc32(epoch)
}

function areaOf (number: number): number {
  return number % 2 * redoAreaBytes
}

export type Redo = { readonly type: 'put', readonly key: Buffer, readonly value: Buffer } | { readonly type: 'del', readonly key: Buffer }

export interface RedoRecord {
  /** The inner batch that it is a part of. */
  readonly number: number
  /** Its place among all of its epoch. */
  readonly index: number
  readonly changes: readonly Redo[]
}

/**
 * Gives LevelDB the changes that it lacks, and returns whether there are any.
 *
 * @param last the number of the last inner batch that it has
 * @param options `upTo`: the number of the last one that it is to have; `failed`: the record that is not to be taken, by its place among all
 */
export async function redo (engine: Engine, file: Buffer, seed: number, last: number, { upTo = Infinity, sync = false, failed }: { upTo?: number, sync?: boolean, failed?: number | undefined } = {}): Promise<boolean> {
  let isAny = false
  for (const changes of missingChanges(file, seed, last, upTo, failed)) {
    await engine.batch([...changes], { ...buffers, sync } as object)
    isAny = true
  }
  return isAny
}

/** The changes of the batches after that with number `last`, batch by batch, as far as they are whole. */
export function * missingChanges (file: Buffer, seed: number, last: number, upTo = Infinity, failed?: number): Generator<readonly Redo[]> {
  let index: number | undefined
  for (let number = last + 1; number <= upTo; number++) {
    const changes: Redo[] = []
    for (const record of readArea(file, seed, number)) {
      if (record.index !== (index ??= record.index)) break
      if (index === failed) break
      changes.push(...record.changes)
      index++
    }
    if (changes.length === 0) return
    yield changes
  }
}

/** The records of a batch, from its first one, as far as they are whole. */
function * readArea (file: Buffer, seed: number, number: number): Generator<RedoRecord> {
  for (let position = areaOf(number); position + headBytes < file.length;) {
    const length = readUint32(file, position)
    const bytes = file.subarray(position + headBytes, position + headBytes + length)
    if (length === 0 || crc32(bytes, seed) !== readUint32(file, position + 4)) return
    const record = decodeRecord(bytes)
    if (record.number !== number) return
    yield record
    position += headBytes + length
  }
}

/** @param bytes without length and checksum */
export function decodeRecord (bytes: Buffer): RedoRecord {
  const reader = new ByteReader(bytes)
  const number = reader.varint()
  const index = reader.varint()
  const changes: Redo[] = []
  while (reader.remaining > 0) {
    const length = reader.varint()
    const key = reader.raw(Math.floor(length / 2))
    changes.push(length % 2 === 0 ? { type: 'del', key } : { type: 'put', key, value: reader.bytes(redoAreaBytes) })
  }
  return { number, index, changes }
}
