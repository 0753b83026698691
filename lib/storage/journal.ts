/**
 * The journal: under the running number of each inner batch, what it advanced; and the checkpoints of the vector from
 * which it is read.
 *
 * LevelDB may lose batches from the middle of its write-ahead log and open as if nothing had happened. What has left
 * that log for a table is safe. So a checkpoint says only what has: the memory of LevelDB is written out first, and a
 * later batch then names the vector of that moment. Whichever batches are lost, the checkpoint that is found is true,
 * and every batch since has a journal record of its own, whose absence is a gap.
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { readAdvances, writeAdvances } from '../codec/advances.ts'
import { logIdFrom, type LogId } from '../core/ids.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { checkpointInterval, journalSlots, keyBytesMax } from '../limits.ts'
import { writeOut, type Engine, type EngineBatch } from './engine.ts'
import { meta } from './keyspaces.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
/** Bytes on their way into the engine's batch, which copies them. */
const scratch = new ByteWriter(64)
const scratchKey = meta.journal(0)
const none: readonly Buffer[] = []

interface Checkpoint {
  readonly number: number
  readonly advances: readonly Advance[]
}

export class Journal {
  /** Number of the last inner batch. */
  number: number
  /** Number of the checkpoint on disk. */
  #checkpoint: number
  /** Logs that have advanced since the last checkpoint was taken. */
  #changed = new Set<LogId>()
  /** Taken, and to be written with the next batch. */
  #ready: Checkpoint | undefined
  /** What the batch in flight writes of it: one that became ready meanwhile is for the batch after. */
  #written: Checkpoint | undefined
  #taking: Promise<void> | undefined

  /**
   * @param number that of the last batch, which has left the write-ahead log, as everything does at an open
   * @param changes what the journal advances since the checkpoint on disk
   */
  constructor (number: number, checkpoint: number, changes: readonly Advance[]) {
    this.number = number
    this.#checkpoint = checkpoint
    this.#ready = { number, advances: changes }
  }

  /**
   * Adds the record of the next batch. A batch that fails leaves the number to the next one.
   *
   * @param keys those that it changes without a log record
   */
  add (batch: EngineBatch, changes: readonly Advance[], keys: readonly Buffer[] = none): void {
    const number = this.number + 1
    writeAdvances(scratch.reset().varint(number), changes)
    for (const key of keys) scratch.bytes(key)
    scratchKey.writeUInt16BE(number % journalSlots, scratchKey.length - 2)
    batch.put(scratchKey, scratch.view())
    this.#written = this.#ready
    if (this.#written !== undefined) this.#addCheckpoint(batch, this.#written)
  }

  #addCheckpoint (batch: EngineBatch, { number, advances }: Checkpoint): void {
    for (const { log, hlc, sequence } of advances) batch.put(meta.vector(log), scratch.reset().hlc(hlc).varint(sequence).view())
    batch.put(meta.checkpoint, scratch.reset().varint(number).view())
  }

  /** Whether the next batch writes a checkpoint. */
  get writesCheckpoint (): boolean {
    return this.#ready !== undefined
  }

  /** The batch to which {@link add} added is committed. */
  committed (changes: readonly Advance[]): void {
    this.number++
    if (this.#written !== undefined) {
      this.#checkpoint = this.#written.number
      if (this.#ready === this.#written) this.#ready = undefined
    }
    for (const { log } of changes) this.#changed.add(log)
  }

  /**
   * Whether the batch to which {@link add} added is there, though its write failed. For an engine that was opened again.
   *
   * @throws `REPLICATION_CORRUPT` if the batch before it is not.
   */
  async holdsNext (engine: Engine): Promise<boolean> {
    const numbers = await Promise.all([this.number, this.number + 1].map(async (number) => {
      const bytes = await engine.get(meta.journal(number % journalSlots), buffers) as Buffer | undefined
      return bytes === undefined ? undefined : readRecord(bytes).number
    }))
    if (numbers[0] !== this.number) throw new ReplicationError('LevelDB has lost acknowledged writes: close and open the database', { code: 'REPLICATION_CORRUPT' })
    return numbers[1] === this.number + 1
  }

  /** Whether it is time for {@link take}. */
  get due (): boolean {
    return this.number - this.#checkpoint >= checkpointInterval && this.#ready === undefined && this.#taking === undefined
  }

  /** Whether the next batch has to wait for a checkpoint, lest records that may be needed are overwritten. */
  get full (): boolean {
    return this.number - this.#checkpoint >= journalSlots - 1 && this.#ready === undefined
  }

  /** Takes a checkpoint, which the next batch writes: everything so far is brought out of the write-ahead log. */
  take (engine: Engine, vector: ReadonlyVersionVector): Promise<void> {
    this.#taking ??= this.#take(engine, vector).finally(() => { this.#taking = undefined })
    return this.#taking
  }

  async #take (engine: Engine, vector: ReadonlyVersionVector): Promise<void> {
    const { number } = this
    const changed = this.#changed
    this.#changed = new Set()
    const earlier = this.#ready?.advances ?? []
    const advances = [...changed].map((log) => vector.get(log)!)
    try {
      await writeOut(engine)
    } catch (error) {
      for (const log of changed) this.#changed.add(log)
      throw error
    }
    this.#ready = { number, advances: [...earlier, ...advances] }
  }
}

export interface LoadedJournal {
  /** Numbers of the last batch, and of the checkpoint. */
  readonly number: number
  readonly checkpoint: number
  /** Everything up to the first gap; what of it is later than the checkpoint. */
  readonly vector: VersionVector
  readonly changes: readonly Advance[]
  readonly operations: number
  /** How many batches since the checkpoint are missing. */
  readonly lost: number
  /** What those that are there changed without a log record. */
  readonly keys: readonly Buffer[]
}

/**
 * Reads the last checkpoint, and what the journal has advanced since.
 *
 * @param thoroughly whether to look behind the first missing record, as has to be done after an unclean close: at most
 * 65,536 small records, whatever the number of keys
 */
export async function loadJournal (engine: Engine, thoroughly: boolean): Promise<LoadedJournal> {
  const vector = new VersionVector()
  for await (const [key, value] of engine.iterator({ ...meta.all('V'), ...buffers })) vector.advance(readStoredAdvance(key as Buffer, value as Buffer))
  const stored = await engine.get(meta.checkpoint, buffers) as Buffer | undefined
  const checkpoint = stored === undefined ? 0 : new ByteReader(stored).varint()
  const records = thoroughly ? await allRecords(engine, checkpoint) : await nextRecords(engine, checkpoint)
  let number = checkpoint
  const keys: Buffer[] = []
  for (const record of records.values()) {
    number = Math.max(number, record.number)
    keys.push(...record.keys)
  }
  const changes = new VersionVector()
  for (let next = checkpoint + 1; records.has(next); next++) changes.join(records.get(next)!.advances)
  const operations = changes.operationsBeyond(vector)
  vector.join(changes)
  return { number, checkpoint, vector, changes: [...changes], operations, lost: number - checkpoint - records.size, keys }
}

interface JournalRecord {
  readonly number: number
  readonly advances: readonly Advance[]
  readonly keys: readonly Buffer[]
}

/** The records that follow a checkpoint without a gap. */
async function nextRecords (engine: Engine, checkpoint: number): Promise<Map<number, JournalRecord>> {
  const records = new Map<number, JournalRecord>()
  for (let number = checkpoint + 1; ; number++) {
    const bytes = await engine.get(meta.journal(number % journalSlots), buffers) as Buffer | undefined
    const record = bytes === undefined ? undefined : readRecord(bytes)
    if (record?.number !== number) return records
    records.set(number, record)
  }
}

/** All records that are later than a checkpoint. */
async function allRecords (engine: Engine, checkpoint: number): Promise<Map<number, JournalRecord>> {
  const records = new Map<number, JournalRecord>()
  for await (const value of engine.values({ ...meta.all('J'), ...buffers })) {
    const record = readRecord(value as unknown as Buffer)
    if (record.number > checkpoint) records.set(record.number, record)
  }
  return records
}

function readRecord (bytes: Buffer): JournalRecord {
  const reader = new ByteReader(bytes)
  const number = reader.varint()
  const advances = readAdvances(reader)
  const keys: Buffer[] = []
  while (reader.remaining > 0) keys.push(reader.bytes(keyBytesMax))
  return { number, advances, keys }
}

export function readStoredAdvance (key: Buffer, value: Buffer): Advance {
  const reader = new ByteReader(value)
  const hlc = reader.hlc()
  return { log: logIdFrom(key.subarray(2)), hlc, sequence: reader.varint() }
}
