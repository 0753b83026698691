/**
 * Taking in what another replica sends: live units, and catch-ups or state transfers.
 *
 * A unit is applied as a whole when its turn comes. A catch-up is collected in memory, and applied as one inner batch
 * if its end comes before `innerBatchBytesMax`; otherwise it goes to the stage keyspace, which is no part of the
 * state. Once complete, a meta record begins the *apply phase*: the staged sets are merged in key order, in bounded
 * batches behind a cursor, and the last batch advances the vector. The vector never advances earlier: a garbage dot
 * that the source skipped may have its successor still to come, and a vector that claims too much loses data for
 * good. An apply phase that a crash interrupts goes on when the database is opened again.
 */
import { ByteReader, ByteWriter, malformed } from '../codec/bytes.ts'
import { readAdvances, writeAdvances } from '../codec/advances.ts'
import { decodeEntries, readEntryBody, type Entry } from '../codec/entry.ts'
import { observe } from '../core/hlc.ts'
import { noSiblings } from '../core/siblings.ts'
import { VersionVector, type Advance, type Context } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { applyBatchBytes, innerBatchBytesMax } from '../limits.ts'
import type { Derivation } from './derive.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace, meta, wholeKeyspace } from './keyspaces.ts'
import { Merger, type MergeReport } from './merge.ts'
import type { ReplicaState } from './state.ts'
import type { Writer } from './writer.ts'

/** A live unit as it came, and the vector of the stream that it belongs to. */
export interface RemoteUnit {
  /** The sender's vector as of the last unit executed; the intake moves it on. */
  readonly stream: VersionVector
  readonly before: readonly Advance[]
  readonly changes: readonly Advance[]
  readonly entries: readonly Entry[]
  readonly bytes: number
}

export interface Progress {
  readonly received: number
  readonly total: number
}

export interface IntakeOptions {
  readonly state: ReplicaState
  readonly writer: Writer
  readonly derivation: Derivation
  /** Whether anybody wants to know what became visible. */
  readonly reports: () => boolean
  readonly onReport: (report: MergeReport) => void
  readonly onApplying: (applying: boolean) => void
}

interface QueuedUnit {
  readonly unit: RemoteUnit
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface StageRecord {
  readonly phase: 'staging' | 'applying'
  readonly kind: 'catch-up' | 'transfer'
  readonly vector: readonly Advance[]
  readonly collected: readonly Advance[]
  readonly cursor: Buffer
}

export class Intake {
  readonly #options: IntakeOptions
  readonly #units: QueuedUnit[] = []
  #unitsQueued = false
  #applying = false
  /** Resolves when what an earlier stage left behind is gone. */
  #swept: Promise<void> = Promise.resolve()

  constructor (options: IntakeOptions) {
    this.#options = options
  }

  /** Whether an apply phase is under way. Nothing else of a peer may be taken in, and no sending begun. */
  get applying (): boolean {
    return this.#applying
  }

  /** What this replica covers: what a delivery need not bring. */
  get vector (): Context {
    return this.#options.state.vector
  }

  /** Applies a unit; resolves when it is committed. Units of one stream have to be handed in in their order. */
  apply (unit: RemoteUnit): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#units.push({ unit, resolve, reject })
      if (!this.#unitsQueued) this.#queueUnits()
    })
  }

  /** Several units that wait go into one inner batch. */
  #queueUnits (): void {
    this.#unitsQueued = true
    let taken: QueuedUnit[] = []
    this.#run(async (merger, batch) => {
      this.#unitsQueued = false
      let count = 0
      for (let bytes = 0; count < this.#units.length && (count === 0 || bytes < innerBatchBytesMax); count++) bytes += this.#units[count]!.unit.bytes
      taken = this.#units.splice(0, count)
      if (this.#units.length > 0) this.#queueUnits()
      for (const { unit } of taken) await this.#mergeUnit(merger, batch, unit)
      return true
    }).then(() => {
      for (const { resolve } of taken) resolve()
    }, (error) => {
      for (const { reject } of taken) reject(error)
    })
  }

  async #mergeUnit (merger: Merger, batch: InnerBatch, { stream, before, changes, entries }: RemoteUnit): Promise<void> {
    for (const { log, sequence } of before) {
      if (!batch.covers(log, sequence)) throw new ReplicationError('A unit came before what it depends on', { code: 'REPLICATION_PROTOCOL' })
    }
    stream.join(before)
    stream.join(changes)
    assertMergeable(entries, stream, batch)
    await merger.merge(entries, stream)
    for (const advance of changes) batch.advance(advance)
  }

  /** A writer's job with a merger whose effects are told when it is committed. */
  async #run (fill: (merger: Merger, batch: InnerBatch) => Promise<boolean>): Promise<void> {
    const { state, writer, derivation } = this.#options
    const report: MergeReport | undefined = this.#options.reports() ? { changed: [], conflicts: [] } : undefined
    let merger: Merger | undefined
    await writer.run(async (batch) => {
      merger = new Merger(state, batch, derivation, report)
      return await fill(merger, batch)
    })
    merger?.committed()
    if (report !== undefined) this.#options.onReport(report)
  }

  /** Begins to take in a catch-up or state transfer. One at a time. */
  begin (kind: 'catch-up' | 'transfer', vector: readonly Advance[], collected: readonly Advance[], entries: number): Delivery {
    return new Delivery(this, { phase: 'staging', kind, vector, collected, cursor: Buffer.alloc(0) }, entries)
  }

  /** Whether a state transfer could delete anything here: something that both vectors cover. */
  mayDelete (vector: readonly Advance[]): boolean {
    return vector.some(({ log }) => this.#options.state.vector.sequenceOf(log) > 0)
  }

  /** Applies a delivery that fits one inner batch. */
  async applyAtOnce (record: StageRecord, chunks: readonly Buffer[]): Promise<void> {
    await this.#run(async (merger, batch) => {
      const context = new VersionVector(record.vector)
      for (const chunk of chunks) await merger.merge(decodeEntries(chunk), context)
      this.#finish(batch, record)
      return true
    })
    this.#options.state.collected.join(record.collected)
  }

  async stage (record: StageRecord, entries: readonly Entry[], first: boolean): Promise<void> {
    if (first) await this.#swept
    await this.#options.writer.run((batch) => {
      if (first) batch.putRaw(meta.stage, encodeStageRecord(record))
      for (const entry of entries) batch.putRaw(inKeyspace(keyspace.stage, entry.key), entry.body!)
      return true
    })
  }

  async applyStage (record: StageRecord): Promise<void> {
    // If it fails the phase is not over: half of a delivery is in the state. It goes on at the next open.
    this.#setApplying(true)
    await this.#applyStage(record)
    this.#setApplying(false)
    this.#swept = this.#sweepStage()
    await this.#swept
  }

  async #applyStage (start: StageRecord): Promise<void> {
    let record: StageRecord = { ...start, phase: 'applying' }
    const context = new VersionVector(record.vector)
    await this.#options.writer.run((batch) => {
      batch.putRaw(meta.stage, encodeStageRecord(record))
      return true
    })
    const pages = new StagePages(this.#options.state.engine, record.cursor, record.kind === 'transfer' && this.mayDelete(record.vector))
    try {
      while (true) {
        const entries = await pages.next()
        record = { ...record, cursor: entries.at(-1)?.key ?? record.cursor }
        await this.#run(async (merger, batch) => {
          await merger.merge(entries, context)
          if (entries.length === 0) this.#finish(batch, record)
          else batch.putRaw(meta.stage, encodeStageRecord(record))
          return true
        })
        if (entries.length === 0) break
      }
    } finally {
      await pages.close()
    }
    this.#options.state.collected.join(record.collected)
  }

  #setApplying (applying: boolean): void {
    this.#applying = applying
    this.#options.onApplying(applying)
  }

  /** The end of a delivery: from here on the vector claims it. */
  #finish (batch: InnerBatch, { vector, collected }: StageRecord): void {
    for (const advance of vector) batch.advance(advance)
    for (const { log, sequence, hlc } of collected) {
      if (!this.#options.state.collected.covers(log, sequence)) batch.putRaw(meta.collected(log), new ByteWriter().hlc(hlc).varint(sequence).take())
    }
    batch.delRaw(meta.stage)
  }

  async #sweepStage (): Promise<void> {
    await this.#options.state.engine.clear({ ...wholeKeyspace(keyspace.stage), keyEncoding: 'buffer' })
  }

  /** Drops a stage that was not complete. */
  dropStage (): Promise<void> {
    this.#swept = this.#options.writer.run((batch) => {
      batch.delRaw(meta.stage)
      return true
    }).then(async () => { await this.#sweepStage() })
    return this.#swept
  }

  /**
   * Looks at what an earlier run left: an apply phase goes on, anything else is dropped. From when this resolves,
   * {@link applying} is right and a new delivery waits for the old one to be gone; `done` is when it is.
   */
  async recover (): Promise<{ done: Promise<void> }> {
    const { state } = this.#options
    const bytes = await state.engine.get(meta.stage, { keyEncoding: 'buffer', valueEncoding: 'buffer' }) as Buffer | undefined
    const record = bytes === undefined ? undefined : decodeStageRecord(bytes)
    if (record?.phase === 'applying') {
      // Some of it can be read already, so what is written from now on comes after it.
      for (const { hlc } of record.vector) state.hlc = observe(state.hlc, hlc)
      return { done: this.applyStage(record) }
    }
    if (record === undefined) this.#swept = this.#sweepStage()
    else void this.dropStage()
    return { done: this.#swept }
  }
}

/** One catch-up or state transfer on its way in. Its calls have to follow each other. */
export class Delivery {
  readonly #intake: Intake
  readonly #record: StageRecord
  readonly #context: VersionVector
  readonly #total: number
  /** Chunks as they came, while they may still fit one inner batch. */
  #collected: Buffer[] = []
  #bytes = 0
  #received = 0
  #staged = false

  constructor (intake: Intake, record: StageRecord, total: number) {
    this.#intake = intake
    this.#record = record
    this.#context = new VersionVector(record.vector)
    this.#total = total
  }

  get progress (): Progress {
    return { received: this.#received, total: Math.max(this.#total, this.#received) }
  }

  async add (chunk: Buffer): Promise<void> {
    const entries = decodeEntries(chunk)
    assertMergeable(entries, this.#context, this.#intake.vector)
    this.#received += entries.length
    this.#bytes += chunk.length
    if (!this.#staged && this.#bytes <= innerBatchBytesMax) {
      this.#collected.push(chunk)
      return
    }
    if (!this.#staged) await this.#spill()
    await this.#intake.stage(this.#record, entries, false)
  }

  async #spill (): Promise<void> {
    this.#staged = true
    const chunks = this.#collected
    this.#collected = []
    await this.#intake.stage(this.#record, [], true)
    for (const chunk of chunks) await this.#intake.stage(this.#record, decodeEntries(chunk), false)
  }

  /** Everything is here. Resolves when it is part of the state. */
  async end (entries: number): Promise<void> {
    if (entries !== this.#received) throw new ReplicationError(`${this.#received} entries of ${entries} have come`, { code: 'REPLICATION_PROTOCOL' })
    if (!this.#staged && this.#record.kind === 'transfer' && this.#intake.mayDelete(this.#record.vector)) await this.#spill()
    if (this.#staged) await this.#intake.applyStage(this.#record)
    else await this.#intake.applyAtOnce(this.#record, this.#collected)
  }

  /** The source is gone before the end. */
  async abandon (): Promise<void> {
    if (this.#staged) await this.#intake.dropStage()
  }
}

/**
 * Refuses what cannot be merged before any of it is in the state, since an apply phase must not fail half-way: a
 * version that its sender's own vector does not cover, or one without the value that this replica lacks.
 */
function assertMergeable (entries: readonly Entry[], context: Context, known: Context): void {
  for (const { siblings, values } of entries) {
    for (let index = 0; index < siblings.length; index++) {
      const { type, log, sequence } = siblings[index]!
      if (!context.covers(log, sequence)) throw malformed('A version that its sender does not know')
      if (type === 'put' && values[index] === undefined && !known.covers(log, sequence)) throw malformed('A version without the value that this replica lacks')
    }
  }
}

/** Staged entries in key order; in a state transfer also the keys that the source no longer has. */
class StagePages {
  readonly #staged
  readonly #versions
  #stagedPage: Array<[Buffer, Buffer]> = []
  #versionsPage: Buffer[] = []
  #stagedEnded = false
  #versionsEnded: boolean

  constructor (engine: ReplicaState['engine'], cursor: Buffer, withVersions: boolean) {
    const from = (space: typeof keyspace.stage | typeof keyspace.version): { gte: Buffer, lt: Buffer } | { gt: Buffer, lt: Buffer } =>
      cursor.length === 0 ? wholeKeyspace(space) : { gt: inKeyspace(space, cursor), lt: wholeKeyspace(space).lt }
    this.#staged = engine.iterator<Buffer, Buffer>({ ...from(keyspace.stage), keyEncoding: 'buffer', valueEncoding: 'buffer', fillCache: false } as object)
    this.#versions = engine.keys<Buffer>({ ...from(keyspace.version), keyEncoding: 'buffer', fillCache: false } as object)
    this.#versionsEnded = !withVersions
  }

  /** About `applyBatchBytes` of entries; none at the end. */
  async next (): Promise<Entry[]> {
    const entries: Entry[] = []
    let bytes = 0
    while (bytes < applyBatchBytes) {
      if (this.#stagedPage.length === 0 && !this.#stagedEnded) {
        this.#stagedPage = (await this.#staged.nextv(1000)).reverse()
        this.#stagedEnded = this.#stagedPage.length === 0
      }
      if (this.#versionsPage.length === 0 && !this.#versionsEnded) {
        this.#versionsPage = (await this.#versions.nextv(1000)).reverse()
        this.#versionsEnded = this.#versionsPage.length === 0
      }
      const staged = this.#stagedPage.at(-1)
      const version = this.#versionsPage.at(-1)
      if (staged === undefined && version === undefined) break
      const order = staged === undefined ? 1 : version === undefined ? -1 : Buffer.compare(staged[0].subarray(1), version.subarray(1))
      if (order >= 0) this.#versionsPage.pop()
      if (order > 0) {
        entries.push({ key: version!.subarray(1), siblings: noSiblings, values: [] })
        bytes += version!.length + 64
      } else {
        this.#stagedPage.pop()
        const reader = new ByteReader(staged![1])
        entries.push(readEntryBody(reader, staged![0].subarray(1)))
        bytes += staged![0].length + staged![1].length
      }
    }
    return entries
  }

  async close (): Promise<void> {
    await this.#staged.close()
    await this.#versions.close()
  }
}

function encodeStageRecord ({ phase, kind, vector, collected, cursor }: StageRecord): Buffer {
  const writer = new ByteWriter().byte(phase === 'applying' ? 1 : 0).byte(kind === 'transfer' ? 1 : 0)
  writeAdvances(writer, vector)
  writeAdvances(writer, collected)
  return writer.bytes(cursor).take()
}

function decodeStageRecord (bytes: Buffer): StageRecord {
  const reader = new ByteReader(bytes)
  const phase = reader.byte() === 1 ? 'applying' : 'staging'
  const kind = reader.byte() === 1 ? 'transfer' : 'catch-up'
  return { phase, kind, vector: readAdvances(reader), collected: readAdvances(reader), cursor: reader.bytes(bytes.length) }
}
