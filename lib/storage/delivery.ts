/**
 * One catch-up or state transfer on its way in.
 *
 * Chunks are kept in memory while the whole may still fit one inner batch, and go to the stage otherwise, or when the
 * source is gone before the end: then this one or another may go on with it. Whatever is wrong with a chunk is found as
 * it comes: what is in the stage can be applied.
 */
import { malformed } from '../codec/bytes.ts'
import { EntryScan } from '../codec/entry-scan.ts'
import type { Entry } from '../codec/entry.ts'
import type { DeliveryKind } from '../codec/message.ts'
import { VersionVector, type Advance, type Context } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { chunkBytes, innerBatchBytesMax } from '../limits.ts'

export interface Progress {
  readonly received: number
  readonly total: number
}

/** What a delivery brings: the state of its source at one moment. */
export interface Delivered {
  readonly kind: DeliveryKind
  readonly vector: readonly Advance[]
  readonly collected: readonly Advance[]
}

/** A chunk with its first and its last key. */
export interface StageableChunk {
  readonly chunk: Buffer
  readonly first: Buffer
  readonly last: Buffer
}

/** What is done with a delivery; calls follow each other. */
export interface DeliveryTarget {
  /** What this replica covers: what a delivery need not bring. */
  readonly vector: Context
  /** Whether something is staged. */
  readonly holdsStage: boolean
  /** Makes room for a stage. */
  beginStage (): Promise<void>
  /** Adds a chunk to the stage: behind what is there, or in place of a part of it. */
  stage (chunk: StageableChunk, delivered: Delivered): Promise<void>
  /** Begins the apply phase. Resolves when everything is part of the state. */
  applyStage (delivered: Delivered): Promise<void>
  /** Takes in a delivery that fits one inner batch. */
  applyAtOnce (delivered: Delivered, chunks: readonly Buffer[]): Promise<void>
  dropStage (): Promise<void>
  /** Whether a state transfer could delete anything here: something that both vectors cover. */
  mayDelete (delivered: Delivered): boolean
  /** Whether what was collected is too much to go with the end of a delivery. */
  collectsMuch (delivered: Delivered): Promise<boolean>
}

/** One catch-up or state transfer. Its calls have to follow each other. */
export class Delivery {
  readonly #target: DeliveryTarget
  readonly #delivered: Delivered
  readonly #context: VersionVector
  readonly #total: number
  /** Where what has been staged before ends, if this delivery goes on with it. */
  readonly #position: Buffer | undefined
  /** Chunks as they came, while they may still fit one inner batch. */
  #collected: StageableChunk[] = []
  #bytes = 0
  #received = 0
  #staged: boolean
  #applying = false
  #failed = false
  #over = false
  #lastKey: Buffer | undefined

  constructor (target: DeliveryTarget, delivered: Delivered, total: number, position?: Buffer) {
    this.#target = target
    this.#delivered = delivered
    this.#context = new VersionVector(delivered.vector)
    this.#total = total
    this.#position = position
    this.#staged = position !== undefined
  }

  get progress (): Progress {
    return { received: this.#received, total: Math.max(this.#total, this.#received) }
  }

  /** Whether it has ended, in one way or the other. */
  get over (): boolean {
    return this.#over
  }

  async add (chunk: Buffer): Promise<void> {
    await this.#orFail(async () => {
      const { entries, first, last } = checkChunk(chunk, this.#context, this.#target.vector, this.#lastKey)
      if (this.#position !== undefined && Buffer.compare(first, this.#position) <= 0 && Buffer.compare(last, this.#position) > 0) throw malformed('A chunk across the key behind which a delivery was to go on')
      this.#received += entries
      this.#lastKey = last
      this.#bytes += chunk.length
      if (this.#staged) {
        await this.#target.stage({ chunk, first, last }, this.#delivered)
      } else {
        this.#collected.push({ chunk, first, last })
        if (this.#bytes > innerBatchBytesMax) await this.#spill()
      }
    })
  }

  async #spill (): Promise<void> {
    this.#staged = true
    const collected = this.#collected
    this.#collected = []
    await this.#target.beginStage()
    for (const chunk of collected) await this.#target.stage(chunk, this.#delivered)
  }

  /** Everything is here. Resolves when it is part of the state. */
  async end (entries: number): Promise<void> {
    await this.#orFail(async () => {
      if (entries !== this.#received) throw new ReplicationError(`${this.#received} entries of ${entries} have come`, { code: 'REPLICATION_PROTOCOL' })
      if (!this.#staged && (this.#target.mayDelete(this.#delivered) || await this.#target.collectsMuch(this.#delivered))) await this.#spill()
      this.#applying = true
      if (this.#staged) await this.#target.applyStage(this.#delivered)
      else await this.#target.applyAtOnce(this.#delivered, this.#collected.map(({ chunk }) => chunk))
      this.#over = true
    })
  }

  async #orFail (act: () => Promise<void>): Promise<void> {
    try {
      await act()
    } catch (error) {
      this.#failed = true
      throw error
    }
  }

  /**
   * The source is gone before the end. What came waits for it or another, unless something was wrong with it, or with
   * the disk. An apply phase that has begun needs no source any more, and must not be given up.
   */
  async abandon (): Promise<void> {
    this.#over = true
    if (this.#applying) return
    try {
      if (!this.#failed && this.#collected.length > 0 && !this.#target.holdsStage) await this.#spill()
    } catch {
      this.#failed = true
    }
    if (this.#failed && this.#staged) await this.#target.dropStage()
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
    if (scan.start >= chunkBytes) throw malformed(`An entry at ${scan.start} of a chunk, which is full from ${chunkBytes} on`)
    if ((entries > 0 || lastKey !== undefined) && scan.compareKey(lastBytes, lastStart, lastEnd) <= 0) throw malformed('A key that is not after the one before it')
    if (entries++ === 0) first = scan.key
    assertScanned(scan, context, known)
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
export function assertMergeable (entry: Entry | EntryScan, context: Context, known: Context): void {
  if (entry instanceof EntryScan) return assertScanned(entry, context, known)
  const { siblings, values } = entry
  for (let index = 0; index < siblings.length; index++) {
    const { type, log, sequence } = siblings[index]!
    if (!context.covers(log, sequence)) throw notKnown()
    if (type === 'put' && values[index] === undefined && !known.covers(log, sequence)) throw notThere()
  }
}

function assertScanned (scan: EntryScan, context: Context, known: Context): void {
  if (scan.entry !== undefined) return assertMergeable(scan.entry, context, known)
  const { log, sequence } = scan
  if (!context.covers(log, sequence)) throw notKnown()
  if (scan.put && scan.valueStart === -1 && !known.covers(log, sequence)) throw notThere()
}

function notKnown (): ReplicationError {
  return malformed('A version that its sender does not know')
}

function notThere (): ReplicationError {
  return malformed('A version without the value that this replica lacks')
}
