/**
 * The sweep of the log: operations that have been superseded leave it, so that it grows with what is live and not
 * with history.
 *
 * An operation is garbage when this replica's vector covers it and it is in no sibling set. It stays garbage for
 * ever, since a merge adds no version that the vector covers: so what was found to be garbage may be removed later,
 * in a batch of its own, whatever has been written in between. What the vector does not cover (an apply phase is
 * under way) is left alone. A record without live operations goes; one at least half garbage is written anew without
 * it. A sweep is due when more has been written since the last one than that one found live, so that its cost is
 * constant per write, amortised; it holds no iterator across its steps.
 */
import { decodeLogRecord, encodeLogRecord, type LogOperation, type LogRecord } from '../codec/log-record.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { LogId } from '../core/ids.ts'
import { indexOfDot } from '../core/siblings.ts'
import { sweepOperationsMin } from '../limits.ts'
import type { Engine } from './engine.ts'
import { inKeyspace, keyspace, logKey, readSequence } from './keyspaces.ts'
import type { Operations } from './log-tally.ts'
import type { ReplicaState } from './state.ts'
import type { Writer } from './writer.ts'

/** A record as it stands on disk. */
export interface StoredLogRecord extends LogRecord {
  readonly key: Buffer
}

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
const recordsPerStep = 500
const lookUpsAtOnce = 512

export interface SweeperOptions {
  readonly state: ReplicaState
  readonly writer: Writer
  /** Lets others have their turn. */
  readonly yield: () => Promise<void>
  /** Whether to stop at the next opportunity. */
  readonly stopped: () => boolean
}

interface Change {
  readonly key: Buffer
  /** What remains of the record; nothing if it goes. */
  readonly kept: LogRecord | undefined
}

export class Sweeper {
  readonly #options: SweeperOptions

  constructor (options: SweeperOptions) {
    this.#options = options
  }

  get due (): boolean {
    const { live, written } = this.#options.state.tally
    return written.all > Math.max(live.all, sweepOperationsMin)
  }

  /** Walks the whole log. Returns how many records have been removed. */
  async sweep (): Promise<number> {
    const { state, writer, stopped } = this.#options
    const before = { ...state.tally.written }
    const live: Operations = { all: 0, deletes: 0 }
    let removed = 0
    for (const { log, sequence } of [...state.vector]) {
      for (let from = 1; from <= sequence;) {
        if (stopped()) return removed
        const records = await readLogRecords(state.engine, log, from, sequence, recordsPerStep)
        const last = records.at(-1)
        if (last === undefined) break
        from = readSequence(last.key, 9) + 1
        removed += await this.#sweepRecords(log, records, live)
        await this.#options.yield()
      }
    }
    await writer.run((batch) => {
      state.tally.swept(live, before)
      batch.last = true
      return true
    })
    return removed
  }

  async #sweepRecords (log: LogId, records: readonly StoredLogRecord[], live: Operations): Promise<number> {
    const { state, writer } = this.#options
    const garbage = await garbageOf(state, log, records.flatMap(({ operations }) => operations))
    const changes: Change[] = []
    let removed = 0
    for (const { key, hlc, operations } of records) {
      const kept = operations.filter((operation) => !garbage.has(operation))
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

/** The next records of a log that begin in a range of sequences. */
export async function readLogRecords (engine: Engine, log: LogId, from: number, to: number, limit: number): Promise<StoredLogRecord[]> {
  const entries = await engine.iterator<Buffer, Buffer>({ gte: logKey(log, from), lte: logKey(log, to), limit, ...buffers, fillCache: false } as object).all()
  return entries.map(([key, value]) => ({ key, ...decodeLogRecord(readSequence(key, 9), value) }))
}

/** Those operations of a log that are in no sibling set, and that the vector covers. */
async function garbageOf ({ engine, vector }: ReplicaState, log: LogId, operations: readonly LogOperation[]): Promise<Set<LogOperation>> {
  const garbage = new Set<LogOperation>()
  const covered = operations.filter(({ sequence }) => vector.covers(log, sequence))
  for (let start = 0; start < covered.length; start += lookUpsAtOnce) {
    const slice = covered.slice(start, start + lookUpsAtOnce)
    const records = await engine.getMany(slice.map(({ key }) => inKeyspace(keyspace.version, key)), buffers) as Array<Buffer | undefined>
    for (let index = 0; index < slice.length; index++) {
      const record = records[index]
      if (record === undefined || indexOfDot(decodeSiblings(record), { log, sequence: slice[index]!.sequence }) === -1) garbage.add(slice[index]!)
    }
  }
  return garbage
}
