/**
 * The sweep of the log: operations that have been superseded leave it, so that it grows with what is live and not
 * with history.
 *
 * An operation is garbage when this replica's vector covers it and it is in no sibling set. It stays garbage for
 * ever, since a merge adds no version that the vector covers: so what was found to be garbage may be removed later,
 * in a batch of its own, whatever has been written in between. What the vector does not cover (an apply phase is
 * under way) is left alone. A record without live operations goes; one at least half garbage is written anew without
 * it. A sweep is due when more has been written since the last one than that one found live, so that its cost is
 * constant per write, amortised; and if a sample of the log says that there is enough to be found. It is also due when
 * so many tombstones have been collected, since their log records are garbage.
 */
import { decodeLogRecord, encodeLogRecord, type LogOperation, type LogRecord } from '../codec/log-record.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { LogId } from '../core/ids.ts'
import { indexOfDot } from '../core/siblings.ts'
import type { VersionVector } from '../core/version-vector.ts'
import { logReadBytes, sweepGarbageMin, sweepOperationsMin } from '../limits.ts'
import { buffers, type Engine } from './engine.ts'
import { logKey, meta, readSequence } from './keyspaces.ts'
import { LogSample } from './log-sample.ts'
import type { Operations } from './log-tally.ts'
import type { ReplicaState } from './state.ts'
import { readRecords } from './stored-sets.ts'
import type { Writer } from './writer.ts'

/** A record as it stands on disk. */
export interface StoredLogRecord extends LogRecord {
  readonly key: Buffer
}

const recordsPerStep = 500
/** Records that are read together at first. */
const pageRecordsMin = 8
/** After so many steps garbage is looked for as of a later moment. */
const stepsPerMoment = 200
const lookUpsAtOnce = 512

export interface SweeperOptions {
  readonly state: ReplicaState
  readonly writer: Writer
  /** Lets others have their turn. */
  readonly yield: () => Promise<void>
  /** Whether to stop at the next opportunity. */
  readonly stopped: () => boolean
}

/**
 * A moment of the store, whatever led to it out of the write-ahead log. If LevelDB lost the write that superseded an
 * operation, and not the removal of the operation's log record, nobody would ever be sent what is left.
 */
interface Moment {
  readonly vector: VersionVector
  readonly snapshot: ReturnType<Engine['snapshot']>
}

interface Change {
  readonly key: Buffer
  /** What remains of the record; nothing if it goes. */
  readonly kept: LogRecord | undefined
}

export class Sweeper {
  readonly #options: SweeperOptions
  /** Until so much is written the log is not looked at again. */
  #dueWritten = sweepOperationsMin

  constructor (options: SweeperOptions) {
    this.#options = options
  }

  /** Whether it is time for {@link sweepIfWorth}. */
  get due (): boolean {
    const { live, written } = this.#options.state.tally
    return written.all > Math.max(live.all, this.#dueWritten) || this.#forgottenDue
  }

  /** Whether collected tombstones alone have left enough garbage. */
  get #forgottenDue (): boolean {
    const { forgotten, liveMax } = this.#options.state.tally
    return forgotten > Math.max(sweepOperationsMin, liveMax / 2)
  }

  /** Sweeps, unless a sample of the log holds little garbage. Returns how many records have been removed. */
  async sweepIfWorth (): Promise<number> {
    const { state } = this.#options
    const garbage = this.#forgottenDue ? 1 : await state.tally.sample?.garbage(state) ?? 1
    if (garbage >= sweepGarbageMin) return await this.sweep()
    this.#dueWritten = state.tally.written.all + state.tally.liveMax / 2
    return 0
  }

  /** Walks the whole log. Returns how many records have been removed. */
  async sweep (): Promise<number> {
    const { state, writer, stopped } = this.#options
    state.tally.begin()
    const live: Operations = { all: 0, deletes: 0 }
    const sample = new LogSample()
    let removed = 0
    let steps = 0
    let moment = await this.#takeMoment(() => { state.tally.sample = sample })
    let finished = false
    try {
      for (const { log, sequence } of moment.vector.clone()) {
        for (let from = 1; from <= sequence;) {
          if (stopped()) return removed
          if (++steps % stepsPerMoment === 0) {
            await moment.snapshot.close()
            moment = await this.#takeMoment()
          }
          const records = await readLogRecords(state.engine, log, from, sequence, recordsPerStep)
          const last = records.at(-1)
          if (last === undefined) break
          from = readSequence(last.key, 9) + 1
          removed += await this.#sweepRecords(moment, log, records, live, sample)
          await this.#options.yield()
        }
      }
      finished = true
    } finally {
      if (!finished) state.tally.sample = undefined
      await moment.snapshot.close()
    }
    this.#dueWritten = sweepOperationsMin
    await writer.run((batch) => {
      state.tally.swept(live)
      batch.putRaw(meta.tally, state.tally.encode())
      return true
    })
    return removed
  }

  async #takeMoment (taken = (): void => {}): Promise<Moment> {
    const { state: { engine, vector, journal }, writer } = this.#options
    let moment: Moment | undefined
    await writer.run(() => {
      moment = { vector: vector.clone(), snapshot: engine.snapshot() }
      taken()
      return false
    })
    await journal.take(engine)
    return moment!
  }

  async #sweepRecords (moment: Moment, log: LogId, records: readonly StoredLogRecord[], live: Operations, sample: LogSample): Promise<number> {
    const { state, writer } = this.#options
    const garbage = await garbageOf(state, moment, log, records.flatMap(({ operations }) => operations))
    const changes: Change[] = []
    let removed = 0
    for (const { key, hlc, operations } of records) {
      const kept = operations.filter((operation) => !garbage.has(operation))
      for (const { sequence, key } of kept) sample.offer(log, sequence, key)
      live.all += kept.length
      live.deletes += kept.filter(({ type }) => type === 'del').length
      if (kept.length === 0) removed++
      if (kept.length === 0) changes.push({ key, kept: undefined })
      else if (kept.length * 2 <= operations.length) changes.push({ key, kept: { hlc, operations: kept } })
    }
    if (changes.length === 0) return 0
    await writer.run((batch) => {
      for (const { key, kept } of changes) {
        batch.delRaw(key)
        if (kept !== undefined) batch.putRaw(logKey(log, kept.operations[0]!.sequence), encodeLogRecord(kept))
      }
      return true
    })
    return removed
  }
}

/** The next records of a log that begin in a range of sequences: so many at most, and fewer of large transactions. */
export async function readLogRecords (engine: Engine, log: LogId, from: number, to: number, limit: number): Promise<StoredLogRecord[]> {
  const iterator = engine.iterator<Buffer, Buffer>({ gte: logKey(log, from), lte: logKey(log, to), limit, ...buffers, fillCache: false } as object)
  const records: StoredLogRecord[] = []
  try {
    let bytes = 0
    for (let size = pageRecordsMin; bytes < logReadBytes; size *= 2) {
      const page = await iterator.nextv(size)
      if (page.length === 0) break
      for (const [key, value] of page) {
        records.push({ key, ...decodeLogRecord(readSequence(key, 9), value) })
        bytes += value.length
      }
    }
  } finally {
    await iterator.close()
  }
  return records
}

/** Those operations of a log that are in no sibling set at a moment, and that its vector covers. */
async function garbageOf (state: ReplicaState, { vector, snapshot }: Moment, log: LogId, operations: readonly LogOperation[]): Promise<Set<LogOperation>> {
  const garbage = new Set<LogOperation>()
  const covered = operations.filter(({ sequence }) => vector.covers(log, sequence))
  for (let start = 0; start < covered.length; start += lookUpsAtOnce) {
    const slice = covered.slice(start, start + lookUpsAtOnce)
    const records = await readRecords(state, slice.map(({ key }) => key), { snapshot })
    for (let index = 0; index < slice.length; index++) {
      if (indexOfDot(decodeSiblings(records[index]), { log, sequence: slice[index]!.sequence }) === -1) garbage.add(slice[index]!)
    }
  }
  return garbage
}
