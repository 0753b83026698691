/**
 * The journal: under the running number of each inner batch, what it advanced; and the checkpoints of the vector from
 * which it is read.
 *
 * LevelDB may lose batches from the middle of its write-ahead log and open as if nothing had happened. What has left
 * that log for a table is safe. So a checkpoint says only what has: the memory of LevelDB is written out first, and a
 * later batch then names the vector of that moment. Whichever batches are lost, the checkpoint that is found is true,
 * and every batch since has a journal record of its own, whose absence is a gap. Once a checkpoint has left the log
 * itself, no open begins before it, and the records below its number may go. That of its number stays: it shows that the
 * tables are there which the checkpoint speaks of, and not those of an earlier copy.
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { readAdvances, writeAdvances } from '../codec/advances.ts'
import { logIdFrom, type LogId } from '../core/ids.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { checkpointInterval, journalSlots, keyBytesMax } from '../limits.ts'
import { buffers, writeOut, type Changes, type Engine, type EngineBatch } from './engine.ts'
import { meta } from './keyspaces.ts'

/** Bytes on their way into the engine's batch, which copies them. */
const scratch = new ByteWriter(64)
const scratchKey = meta.journal(0)
const none: readonly Buffer[] = []
/** So much of it is read at a time. */
const journalReadBytes = 64 * 1024

interface Checkpoint {
  readonly number: number
  readonly advances: readonly Advance[]
}

export class Journal {
  /** Number of the last inner batch. */
  number: number
  /** Number of the checkpoint on disk. */
  #checkpoint: number
  /** Of the last one that is known to have left the write-ahead log. */
  #settled: number
  /** The lowest number of which there may be a record. */
  #first: number
  /** How far the logs are that have advanced since the last checkpoint was taken. */
  #changed = new Map<LogId, Advance>()
  /** Taken, and to be written with the next batch. */
  #ready: Checkpoint | undefined
  /** What the batch in flight writes of it: one that became ready meanwhile is for the batch after. */
  #written: Checkpoint | undefined
  #taking: Promise<void> | undefined

  /**
   * @param number that of the last batch, which has left the write-ahead log, as everything does at an open
   * @param first the lowest number of which there is a record
   * @param changes what the journal advances since the checkpoint on disk
   */
  constructor ({ number, first, checkpoint, changes }: Pick<LoadedJournal, 'number' | 'first' | 'checkpoint' | 'changes'>) {
    this.number = number
    this.#first = first
    this.#checkpoint = this.#settled = checkpoint
    this.#ready = { number, advances: changes }
  }

  /**
   * Adds the record of the next batch. A batch that fails leaves the number to the next one.
   *
   * @param keys those that it changes without a log record
   */
  add (batch: EngineBatch, changes: readonly Advance[], keys: readonly Buffer[] = none): void {
    putRecord(batch, this.number + 1, changes, keys)
    this.#written = this.#ready
    if (this.#written !== undefined) this.#addCheckpoint(batch, this.#written)
  }

  #addCheckpoint (batch: EngineBatch, { number, advances }: Checkpoint): void {
    for (const advance of advances) batch.put(meta.vector(advance.log), writeStoredAdvance(scratch.reset(), advance).view())
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
    for (const advance of changes) this.#changed.set(advance.log, advance)
  }

  /** The same, of a batch that the engine has got from the redo log, which holds no checkpoint: a later batch writes it. */
  redone (changes: readonly Advance[]): void {
    this.#written = undefined
    this.committed(changes)
  }

  /**
   * Whether the batch to which {@link add} added is there, though its write failed. For an engine that was opened again;
   * undefined if the batch before it is not.
   */
  async holdsNext (engine: Engine): Promise<boolean | undefined> {
    const [last, next] = await Promise.all([this.holds(engine, this.number), this.holds(engine, this.number + 1)])
    return last ? next : undefined
  }

  /** Whether the batch with this number is there. */
  async holds (engine: Engine, number: number): Promise<boolean> {
    const bytes = await engine.get(meta.journal(number % journalSlots), buffers)
    return bytes !== undefined && readRecord(bytes).number === number
  }

  /** How many batches have followed the one that the checkpoint on disk was taken after. */
  get sinceCheckpoint (): number {
    return this.number - this.#checkpoint
  }

  /** Whether it is time for {@link take}. */
  get due (): boolean {
    return this.sinceCheckpoint >= checkpointInterval && this.#ready === undefined && this.#taking === undefined
  }

  /** Whether the next batches, of which there are two before this is asked again, have to wait for a checkpoint, lest records that may be needed are overwritten. */
  get full (): boolean {
    return this.sinceCheckpoint >= journalSlots - 2 && this.#ready === undefined
  }

  /** While a checkpoint is being taken. */
  get taking (): Promise<void> | undefined {
    return this.#taking
  }

  /** Takes a checkpoint, which the next batch writes: everything so far is brought out of the write-ahead log. */
  async take (engine: Engine): Promise<void> {
    const before = this.#taking
    const taking = this.#taking = (async () => {
      await before?.catch(() => {})
      await this.#take(engine)
    })()
    try {
      await taking
    } finally {
      if (this.#taking === taking) this.#taking = undefined
    }
  }

  async #take (engine: Engine): Promise<void> {
    const { number } = this
    const settling = this.#checkpoint
    const changed = this.#changed
    this.#changed = new Map()
    const earlier = this.#ready?.advances ?? []
    try {
      await writeOut(engine)
    } catch (error) {
      this.#changed = new Map([...changed, ...this.#changed])
      throw error
    }
    this.#settled = settling
    this.#ready = { number, advances: [...earlier, ...changed.values()] }
  }

  /**
   * Takes a checkpoint that goes back in one log, for the next batch, which must follow before anything else is written.
   * Everything so far is brought out of the write-ahead log, so that no record of the journal is read any more that says
   * otherwise.
   */
  async rewind (engine: Engine, vector: ReadonlyVersionVector, entry: Advance): Promise<void> {
    await this.#taking?.catch(() => {})
    await writeOut(engine)
    const logs = new Set([...this.#changed.keys(), ...(this.#ready?.advances ?? []).map(({ log }) => log)])
    logs.delete(entry.log)
    this.#changed.clear()
    this.#ready = { number: this.number, advances: [...[...logs].map((log) => vector.get(log)!), entry] }
  }

  /** How many records there are, at most. */
  get length (): number {
    return Math.min(this.number + 1 - this.#first, journalSlots)
  }

  /**
   * Removes records that no open needs, with the next batch: the oldest ones, so many at most. Returns up to which number
   * none is left then; {@link trimmed} is to follow when that is committed.
   */
  trim (batch: { delRaw (key: Buffer): void }, recordsMax: number): number {
    // The slots of what is older have been taken, the last one of them by this batch.
    const from = Math.max(this.#first, this.number + 2 - journalSlots)
    const to = Math.min(this.#settled - 1, from + recordsMax - 1)
    for (let number = from; number <= to; number++) batch.delRaw(meta.journal(number % journalSlots))
    return to
  }

  /** Returns whether more can be removed. */
  trimmed (to: number): boolean {
    this.#first = Math.max(this.#first, to + 1)
    return to < this.#settled - 1
  }
}

export interface LoadedJournal {
  /** Numbers of the last batch, of the checkpoint, and the lowest one of which there is a record. */
  readonly number: number
  readonly checkpoint: number
  readonly first: number
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
 * Reads the last checkpoint, and what the journal has advanced since: a few records after a clean close, at most 65,536.
 *
 * @throws `REPLICATION_CORRUPT` if what the checkpoint relies on is not there.
 */
export async function loadJournal (engine: Engine): Promise<LoadedJournal> {
  const [vector, found, stored] = await Promise.all([readVector(engine), readRecords(engine), engine.get(meta.checkpoint, buffers)])
  const checkpoint = stored === undefined ? 0 : new ByteReader(stored).varint()
  let number = checkpoint
  let first = Infinity
  let isWhole = checkpoint === 0
  const records = new Map<number, JournalRecord>()
  const keys: Buffer[] = []
  for (const record of found) {
    first = Math.min(first, record.number)
    isWhole ||= record.number === checkpoint
    if (record.number <= checkpoint) continue
    number = Math.max(number, record.number)
    records.set(record.number, record)
    keys.push(...record.keys)
  }
  if (!isWhole) throw new ReplicationError(`The write-ahead log says that batch ${checkpoint} is on disk, and it is not: these are files of different moments`, { code: 'REPLICATION_CORRUPT' })
  const changes = new VersionVector()
  for (let next = checkpoint + 1; records.has(next); next++) changes.join(records.get(next)!.advances)
  const operations = changes.operationsBeyond(vector)
  vector.join(changes)
  return { number, checkpoint, first: Math.min(first, number + 1), vector, changes: [...changes], operations, lost: number - checkpoint - records.size, keys }
}

async function readVector (engine: Engine): Promise<VersionVector> {
  const vector = new VersionVector()
  for (const [key, value] of await engine.iterator<Buffer, Buffer>({ ...meta.all('V'), ...buffers }).all()) vector.advance(readStoredAdvance(key, value))
  return vector
}

/** All there are, in the order of their slots. */
async function readRecords (engine: Engine): Promise<JournalRecord[]> {
  const values = await engine.values<Buffer, Buffer>({ ...meta.all('J'), ...buffers, highWaterMarkBytes: journalReadBytes } as object).all()
  return values.map(readRecord)
}

interface JournalRecord {
  readonly number: number
  readonly advances: readonly Advance[]
  readonly keys: readonly Buffer[]
}

function readRecord (bytes: Buffer): JournalRecord {
  const reader = new ByteReader(bytes)
  const number = reader.varint()
  const advances = readAdvances(reader)
  const keys: Buffer[] = []
  while (reader.remaining > 0) keys.push(reader.bytes(keyBytesMax))
  return { number, advances, keys }
}

/** Puts the record of a batch where it stands in the journal. */
export function putRecord (batch: Pick<Changes, 'put'>, number: number, changes: readonly Advance[], keys: readonly Buffer[] = none): void {
  writeAdvances(scratch.reset().varint(number), changes)
  for (const key of keys) scratch.bytes(key)
  scratchKey.writeUInt16BE(number % journalSlots, scratchKey.length - 2)
  batch.put(scratchKey, scratch.view())
}

/** An entry of a vector as it is stored, under a key that names its log. */
export function writeStoredAdvance (writer: ByteWriter, { hlc, sequence }: Advance): ByteWriter {
  return writer.hlc(hlc).varint(sequence)
}

export function readStoredAdvance (key: Buffer, value: Buffer): Advance {
  const reader = new ByteReader(value)
  const hlc = reader.hlc()
  return { log: logIdFrom(key.subarray(2)), hlc, sequence: reader.varint() }
}
