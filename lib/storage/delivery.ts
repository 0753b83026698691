/**
 * One catch-up or state transfer on its way in.
 *
 * Chunks are kept in memory while the whole may still fit one inner batch, and go to the stage otherwise. Whatever is
 * wrong with one is found as it comes: what is in the stage can be applied.
 */
import { malformed } from '../codec/bytes.ts'
import { EntryScan } from '../codec/entry-scan.ts'
import type { Entry } from '../codec/entry.ts'
import { VersionVector, type Context } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { innerBatchBytesMax } from '../limits.ts'
import type { StageRecord } from './stage.ts'

export interface Progress {
  readonly received: number
  readonly total: number
}

/** What is done with a delivery; calls follow each other. */
export interface DeliveryTarget {
  /** What this replica covers: what a delivery need not bring. */
  readonly vector: Context
  /** Begins a stage, in place of any that was there. */
  beginStage (record: StageRecord): Promise<void>
  /** Adds a chunk, which begins with this key, to the stage. */
  stage (key: Buffer, chunk: Buffer): Promise<void>
  /** Begins the apply phase. Resolves when everything is part of the state. */
  applyStage (record: StageRecord): Promise<void>
  /** Takes in a delivery that fits one inner batch. */
  applyAtOnce (record: StageRecord, chunks: readonly Buffer[]): Promise<void>
  dropStage (): Promise<void>
  /** Whether a state transfer could delete anything here: something that both vectors cover. */
  mayDelete (record: StageRecord): boolean
  /** Whether what was collected is too much to go with the end of a delivery. */
  collectsMuch (record: StageRecord): Promise<boolean>
}

/** One catch-up or state transfer. Its calls have to follow each other. */
export class Delivery {
  readonly #target: DeliveryTarget
  readonly #record: StageRecord
  readonly #context: VersionVector
  readonly #total: number
  /** Chunks as they came, while they may still fit one inner batch. */
  #collected: Array<{ key: Buffer, chunk: Buffer }> = []
  #bytes = 0
  #received = 0
  #staged = false
  #applying = false
  #lastKey: Buffer | undefined

  constructor (target: DeliveryTarget, record: StageRecord, total: number) {
    this.#target = target
    this.#record = record
    this.#context = new VersionVector(record.vector)
    this.#total = total
  }

  get progress (): Progress {
    return { received: this.#received, total: Math.max(this.#total, this.#received) }
  }

  async add (chunk: Buffer): Promise<void> {
    const { entries, first, last } = checkChunk(chunk, this.#context, this.#target.vector, this.#lastKey)
    this.#received += entries
    this.#lastKey = last
    this.#bytes += chunk.length
    if (this.#staged) {
      await this.#target.stage(first, chunk)
    } else {
      this.#collected.push({ key: first, chunk })
      if (this.#bytes > innerBatchBytesMax) await this.#spill()
    }
  }

  async #spill (): Promise<void> {
    this.#staged = true
    const collected = this.#collected
    this.#collected = []
    await this.#target.beginStage(this.#record)
    for (const { key, chunk } of collected) await this.#target.stage(key, chunk)
  }

  /** Everything is here. Resolves when it is part of the state. */
  async end (entries: number): Promise<void> {
    if (entries !== this.#received) throw new ReplicationError(`${this.#received} entries of ${entries} have come`, { code: 'REPLICATION_PROTOCOL' })
    if (!this.#staged && (this.#target.mayDelete(this.#record) || await this.#target.collectsMuch(this.#record))) await this.#spill()
    this.#applying = true
    if (this.#staged) await this.#target.applyStage(this.#record)
    else await this.#target.applyAtOnce(this.#record, this.#collected.map(({ chunk }) => chunk))
  }

  /** The source is gone before the end. An apply phase that has begun needs it no more, and must not be given up. */
  async abandon (): Promise<void> {
    if (this.#staged && !this.#applying) await this.#target.dropStage()
  }
}

/** @throws `REPLICATION_PROTOCOL` if a chunk is not what may follow, or could not be merged */
function checkChunk (chunk: Buffer, context: Context, known: Context, lastKey: Buffer | undefined): { entries: number, first: Buffer, last: Buffer } {
  const scan = new EntryScan(chunk)
  let entries = 0
  let first = chunk
  let lastBytes = lastKey ?? chunk
  let lastStart = 0
  let lastEnd = lastKey?.length ?? 0
  while (scan.next()) {
    if ((entries > 0 || lastKey !== undefined) && scan.compareKey(lastBytes, lastStart, lastEnd) <= 0) throw malformed('A key that is not after the one before it')
    if (entries++ === 0) first = scan.key
    if (scan.entry !== undefined) {
      assertMergeable(scan.entry, context, known)
    } else {
      const { log, sequence } = scan
      if (!context.covers(log, sequence)) throw notKnown()
      if (scan.put && scan.valueStart === -1 && !known.covers(log, sequence)) throw notThere()
    }
    lastBytes = chunk
    lastStart = scan.keyStart
    lastEnd = scan.keyEnd
  }
  if (entries === 0) throw malformed('A chunk without entries')
  return { entries, first, last: Buffer.from(chunk.subarray(lastStart, lastEnd)) }
}

/**
 * Refuses what cannot be merged before any of it is in the state, since an apply phase must not fail half-way: a
 * version that its sender's own vector does not cover, or one without the value that this replica lacks.
 */
export function assertMergeable ({ siblings, values }: Entry, context: Context, known: Context): void {
  for (let index = 0; index < siblings.length; index++) {
    const { type, log, sequence } = siblings[index]!
    if (!context.covers(log, sequence)) throw notKnown()
    if (type === 'put' && values[index] === undefined && !known.covers(log, sequence)) throw notThere()
  }
}

function notKnown (): ReplicationError {
  return malformed('A version that its sender does not know')
}

function notThere (): ReplicationError {
  return malformed('A version without the value that this replica lacks')
}
