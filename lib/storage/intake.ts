/**
 * Taking in what another replica sends: live units, and catch-ups or state transfers.
 *
 * A unit is applied as a whole when its turn comes. A catch-up is collected in memory, and applied as one inner batch
 * if its end comes before `innerBatchBytesMax`; otherwise it goes to the stage keyspace, which is no part of the
 * state. Once complete, a meta record begins the *apply phase*: the staged sets are merged in key order, in bounded
 * batches behind a cursor, and the last batch advances the vector. The vector never advances earlier: a garbage dot
 * that the source skipped may have its successor still to come, and a vector that claims too much loses data for
 * good. An apply phase that a crash interrupts goes on when the database is opened again; a delivery that is cut short
 * before its end stays in the stage, for its source or another to go on with it.
 */
import { EntryScan } from '../codec/entry-scan.ts'
import { EncodedEntries, type Entry } from '../codec/entry.ts'
import type { DeliveryKind, ResumePoint } from '../codec/message.ts'
import { observe } from '../core/hlc.ts'
import { VersionVector, type Advance, type Context } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { deliveredPartsMax, fewEntriesMax, innerBatchBytesMax, operationBytes, resumeAdvancesMax, resumeKeyBytesMax, stageKeptMs } from '../limits.ts'
import { ApplyPhase } from './apply-phase.ts'
import type { Collector } from './collector.ts'
import { assertMergeable, Delivery, type Delivered, type DeliveryTarget, type StageableChunk } from './delivery.ts'
import type { Derivation } from './derive.ts'
import { buffers } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { keyspace, meta, wholeKeyspace } from './keyspaces.ts'
import type { Members } from './members.ts'
import { Merger, type MergeReport } from './merge.ts'
import { mayResume } from './resumed-source.ts'
import { chunkKey, decodeStageRecord, encodeStageRecord, replacementKey, StageReader, type ApplyingRecord, type StagingRecord } from './stage.ts'
import type { ReplicaState } from './state.ts'
import { entriesOf, withEntries, type RemoteUnit } from './unit.ts'
import type { Step, Writer } from './writer.ts'

export interface IntakeOptions {
  readonly state: ReplicaState
  readonly writer: Writer
  readonly derivation: Derivation
  readonly members: Members
  readonly collector: Collector
  /** Whether anybody wants to know what became visible. */
  readonly reports: () => boolean
  readonly onReport: (report: MergeReport) => void
  readonly onApplying: (applying: boolean) => void
  /** Keys that a unit may change. */
  readonly unitEntriesMax: number
  /** Lets other work of the process have its turn. */
  readonly yield: () => Promise<void>
}

/** Chunks, or entries in their place, that are removed in one batch. */
const stagedAtOnce = 1000

interface QueuedUnit {
  unit: RemoteUnit
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class Intake implements DeliveryTarget {
  readonly #options: IntakeOptions
  readonly #units: QueuedUnit[] = []
  /** What of a stream was handed on last: what follows depends on it, and does not name it again. */
  readonly #handedOn = new WeakMap<VersionVector, readonly Advance[]>()
  #unitsQueued = false
  /** The last units that were queued. */
  #merging: Promise<void> | undefined
  #applying = false
  #stopped = false
  /** What is staged and not complete. */
  #staged: StagingRecord | undefined
  /** Where a delivery can go on with it. */
  #resumePoint: ResumePoint | undefined
  /** The delivery under way, or the last one. */
  #delivery: Delivery | undefined
  /** The apply phase under way, or the last one; it may have failed. */
  #phase: Promise<void> = Promise.resolve()
  /** Resolves when what an earlier stage left behind is gone. */
  #swept: Promise<void> = Promise.resolve()

  constructor (options: IntakeOptions) {
    this.#options = options
  }

  /** Resolves when no apply phase is being worked on; one that has failed is still to be gone on with. */
  async settled (): Promise<void> {
    await this.#phase.catch(() => {})
  }

  /** An apply phase that is under way halts; it goes on at the next open. */
  stop (): void {
    this.#stopped = true
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
      if (!this.#unitsQueued) this.#merging = this.#applyUnits()
    })
  }

  /** Several units that wait go into one inner batch. */
  async #applyUnits (): Promise<void> {
    this.#unitsQueued = true
    let taken: QueuedUnit[] = []
    try {
      await this.#prepareUnits()
      await this.#run((merger, batch) => {
        this.#unitsQueued = false
        taken = this.#units.splice(0, this.#unitsAtOnce())
        return this.#mergeUnits(merger, batch, taken)
      }, () => this.#units.reduce((bytes, { unit }) => bytes + unit.bytes, 0))
      for (const { resolve } of taken) resolve()
    } catch (error) {
      if (taken.length === 0) {
        this.#unitsQueued = false
        taken = this.#units.splice(0)
      }
      for (const { reject } of taken) reject(error)
    }
  }

  /** What is taken, up to one that is refused: what follows that waits again. Returns whether there is anything to be written. */
  async #mergeUnits (merger: Merger, batch: InnerBatch, taken: QueuedUnit[]): Promise<boolean> {
    try {
      for (const [index, { unit, reject }] of taken.entries()) {
        const refusal = this.#refusalOf(batch, unit)
        if (refusal === undefined) {
          const merging = this.#mergeUnit(merger, batch, unit)
          if (merging !== undefined) await merging
          if (merger.needsRest) await merger.rest()
        } else {
          // That is between its sender and us: what came of others goes on.
          this.#handOnNothingAfter(unit)
          reject(refusal)
          this.#units.unshift(...taken.splice(index).slice(1))
        }
      }
      await merger.writeLog()
    } catch (error) {
      for (const { unit } of taken) this.#handOnNothingAfter(unit)
      throw error
    } finally {
      if (this.#units.length > 0 && !this.#unitsQueued) this.#merging = this.#applyUnits()
    }
    return !batch.untouched
  }

  /** How many of the units that wait fit one batch. What was collected goes alone: its drops are read from disk; and so does what is long, or comes alone. */
  #unitsAtOnce (): number {
    let count = 0
    for (let bytes = 0; count < this.#units.length && (count === 0 || bytes < innerBatchBytesMax); count++) {
      const queued = this.#units[count]!
      const unit = queued.unit = this.#units.length > 1 ? withEntries(queued.unit) : queued.unit
      const entries = entriesOf(unit)
      if (unit.collected.length > 0 || entries === undefined) return Math.max(1, count)
      bytes += unit.bytes + entries.length * operationBytes
    }
    return count
  }

  /** Too much for one batch goes before it: everything before the unit is known here. */
  async #prepareUnits (): Promise<void> {
    const { collected } = this.#units[0]!.unit
    const { collector } = this.#options
    if (collected.length > 0 && await collector.isMuch(collected)) await collector.adoptInSteps(collected, this.#run)
  }

  /** Why a unit is not taken, as far as that can be said before it is merged. */
  #refusalOf (batch: InnerBatch, unit: RemoteUnit): unknown {
    const { stream, before, changes } = unit
    try {
      for (const { log, sequence } of this.#handedOn.get(stream) ?? []) {
        if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit before this one could not be applied', { code: 'REPLICATION_DISCONNECTED' })
      }
      for (const { log, sequence } of before) {
        if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit came before what it depends on', { code: 'REPLICATION_PROTOCOL' })
      }
      stream.join(before)
      stream.join(changes)
      for (const entry of entriesOf(unit) ?? []) assertMergeable(entry, stream, batch)
      return undefined
    } catch (error) {
      return error
    }
  }

  #handOnNothingAfter ({ stream, changes }: RemoteUnit): void {
    this.#handedOn.set(stream, [...this.#handedOn.get(stream) ?? [], ...changes])
  }

  /** Merges a unit: at once, without a promise, if it is one of the many that are short. */
  #mergeUnit (merger: Merger, batch: InnerBatch, unit: RemoteUnit): Promise<void> | undefined {
    const { stream, changes, collected } = unit
    const entries = entriesOf(unit)
    if (entries === undefined || entries.length > fewEntriesMax || collected.length > 0) return this.#mergeLongUnit(merger, batch, unit)
    merger.mergeFew(entries, stream)
    this.#learn(batch, changes)
    this.#handedOn.set(stream, changes)
    return undefined
  }

  async #mergeLongUnit (merger: Merger, batch: InnerBatch, unit: RemoteUnit): Promise<void> {
    const { stream, changes, collected, entries } = unit
    const isChecked = entriesOf(unit) !== undefined
    let count = 0
    const check = (entry: Entry | EntryScan): void => {
      if (++count > this.#options.unitEntriesMax) throw new ReplicationError(`A unit of more than ${this.#options.unitEntriesMax} keys`, { code: 'REPLICATION_FRAME_TOO_LARGE' })
      if (!isChecked) assertMergeable(entry, stream, batch)
    }
    // What is not decoded has the batch to itself.
    const scan = entries instanceof EncodedEntries && collected.length === 0 && merger.coversAll(stream) ? new EntryScan(entries.bytes) : undefined
    if (scan === undefined) await merger.merge(entries, stream, check)
    else if (scan.next()) await merger.mergeChunk(scan, stream, check)
    this.#learn(batch, changes)
    if (collected.length > 0) await this.#options.collector.adopt(batch, merger, collected)
    this.#handedOn.set(stream, changes)
  }

  /** A writer's job with a merger whose effects are told when it is committed. */
  #step (fill: (merger: Merger, batch: InnerBatch) => Promise<boolean>): Step {
    const { state, derivation, members } = this.#options
    const report: MergeReport | undefined = this.#options.reports() ? { changed: [], conflicts: [] } : undefined
    let merger: Merger | undefined
    let saved = (): void => {}
    return {
      fill: (batch) => {
        if (members.hasNew) saved = members.save(batch)
        merger = new Merger(state, batch, derivation, this.#options.yield, report)
        return fill(merger, batch)
      },
      committed: () => {
        saved()
        merger?.committed()
        if (report !== undefined) this.#options.onReport(report)
      }
    }
  }

  readonly #run = async (fill: (merger: Merger, batch: InnerBatch) => Promise<boolean>, recordedBytes?: () => number): Promise<void> => {
    const step = this.#step(fill)
    await this.#options.writer.run(step.fill, { remote: true, recordedBytes, committed: step.committed })
  }

  /** Where a delivery that was cut short can go on, the same object as long as it is the same place. */
  get resumePoint (): ResumePoint | undefined {
    return this.#isNeedless ? undefined : this.#resumePoint
  }

  get holdsStage (): boolean {
    return this.#staged !== undefined
  }

  /** Whether what is staged has come another way. */
  get #isNeedless (): boolean {
    return this.#staged !== undefined && this.#options.state.vector.dominates(new VersionVector(this.#staged.parts[0]!.vector))
  }

  /**
   * Begins to take in a catch-up or state transfer. One at a time.
   *
   * @param resumes whether it goes on from {@link resumePoint}.
   * @throws `REPLICATION_PROTOCOL` if it cannot
   */
  begin (kind: DeliveryKind, vector: readonly Advance[], collected: readonly Advance[], entries: number, resumes = false): Delivery {
    const point = resumes ? this.#resumePoint : undefined
    if (resumes && (point?.kind !== kind || !mayResume(point, new VersionVector(vector), new VersionVector(collected)))) {
      throw new ReplicationError('The peer goes on with a delivery that it cannot go on with', { code: 'REPLICATION_PROTOCOL' })
    }
    return (this.#delivery = new Delivery(this, { kind, vector, collected }, entries, point?.parts.at(-1)!.upTo))
  }

  /** Whether a state transfer could delete anything here: something that both vectors cover, or that has survived a hole. */
  mayDelete ({ kind, vector }: Delivered): boolean {
    const { state } = this.#options
    return kind === 'transfer' && (!state.survivors.empty || vector.some(({ log }) => state.vector.sequenceOf(log) > 0))
  }

  /** Applies a delivery that fits one inner batch. */
  async applyAtOnce (delivered: Delivered, chunks: readonly Buffer[]): Promise<void> {
    await this.#run(async (merger, batch) => {
      const { state, collector } = this.#options
      const context = new VersionVector(delivered.vector)
      const collected = new VersionVector(delivered.collected)
      // What was collected and never known here, others may not know either: they need the whole state too.
      batch.gap = !state.vector.dominates(collected)
      const adopts = !state.collected.dominates(collected)
      for (const chunk of chunks) {
        const scan = new EntryScan(chunk)
        if (adopts) await merger.merge(new EncodedEntries(chunk), context) // which keeps what is to be looked at again
        else if (scan.next()) await merger.mergeChunk(scan, context)
      }
      await merger.writeLog()
      this.#learn(batch, delivered.vector)
      if (this.#staged === undefined) batch.delRaw(meta.stage)
      if (adopts) await collector.adopt(batch, merger, delivered.collected)
      return true
    })
  }

  async collectsMuch ({ collected }: Delivered): Promise<boolean> {
    return await this.#options.collector.isMuch(collected)
  }

  async beginStage (): Promise<void> {
    await this.#swept.catch(() => {})
    // Also what a write that failed has left all the same.
    const [left] = await this.#options.state.engine.keys({ ...wholeKeyspace(keyspace.stage), limit: 1, keyEncoding: 'buffer' }).all()
    if (this.#staged !== undefined || left !== undefined) await this.dropStage()
  }

  async stage ({ chunk, first, last }: StageableChunk, { kind, vector, collected }: Delivered): Promise<void> {
    const earlier = this.#staged
    const position = earlier?.parts.at(-1)!.upTo
    const parts = [{ upTo: last, vector }, ...(earlier?.parts ?? []).filter(({ upTo }) => Buffer.compare(upTo, last) > 0)]
    // A part that is left out counts as one of the next one, whose vector covers less: that is true too.
    parts.splice(1, Math.max(0, parts.length - deliveredPartsMax))
    const record: StagingRecord = {
      phase: 'staging',
      kind,
      collected: joined(earlier?.collected, collected),
      parts,
      bytes: (earlier?.bytes ?? 0) + chunk.length,
      runningSeconds: this.#runningSeconds
    }
    await this.#options.writer.run((batch) => {
      if (position === undefined || Buffer.compare(first, position) > 0) batch.putRaw(chunkKey(first), chunk)
      else for (const scan = new EntryScan(chunk); scan.next();) batch.putRaw(replacementKey(scan.key), chunk.subarray(scan.start, scan.end))
      batch.putRaw(meta.stage, encodeStageRecord(record))
      return true
    })
    this.#setStaged(record)
  }

  #setStaged (staged: StagingRecord | undefined): void {
    this.#staged = staged
    const canGoOn = staged !== undefined && staged.parts.every(({ upTo }) => upTo.length <= resumeKeyBytesMax) && staged.parts.reduce((sum, { vector }) => sum + vector.length, 0) <= resumeAdvancesMax
    this.#resumePoint = canGoOn ? { kind: staged.kind, parts: staged.parts } : undefined
  }

  get #runningSeconds (): number {
    return Math.floor(this.#options.members.runningMs / 1000)
  }

  async applyStage ({ kind, vector, collected }: Delivered): Promise<void> {
    const staged = this.#staged
    this.#setStaged(undefined)
    const record: ApplyingRecord = { phase: 'applying', kind, vector, collected: joined(staged?.collected, collected), cursor: undefined }
    if (staged !== undefined && staged.bytes <= innerBatchBytesMax && !this.mayDelete(record) && !await this.collectsMuch(record)) await this.#applyStageAtOnce(record)
    else await this.#goOnApplying(record)
  }

  /** What was cut short and fits one inner batch after all becomes visible as a whole. */
  async #applyStageAtOnce (record: ApplyingRecord): Promise<void> {
    try {
      const chunks: Buffer[] = []
      const reader = await StageReader.open(this.#options.state.engine, undefined)
      try {
        for (let chunk = await reader.next(); chunk !== undefined; chunk = await reader.next()) chunks.push(chunk.scan.bytes.subarray(chunk.scan.start))
      } finally {
        await reader.close()
      }
      await this.applyAtOnce(record, chunks)
      await (this.#swept = this.#sweepStage())
    } catch (error) {
      this.dropStage().catch(() => {}) // thrown where it is awaited
      throw error
    }
  }

  async #goOnApplying (record: ApplyingRecord): Promise<void> {
    const { state } = this.#options
    // Some of it can be read before its end, what was deleted and is forgotten too: what is written from now on comes after it.
    for (const { hlc } of record.vector) state.hlc = observe(state.hlc, hlc)
    // If it fails the phase is not over: half of a delivery is in the state. It goes on at the next open.
    this.#setApplying(true)
    await (this.#phase = this.#applyAfterUnits(record))
    this.#swept = this.#sweepStage()
    this.#setApplying(false)
    await this.#swept
  }

  /** What was handed in before comes before: nothing but the stage is merged into keys of which more is known than of others. */
  async #applyAfterUnits (record: ApplyingRecord): Promise<void> {
    for (let merging: Promise<void> | undefined; merging !== this.#merging;) await (merging = this.#merging)
    await this.#applyStage(record)
  }

  async #applyStage (record: ApplyingRecord): Promise<void> {
    const { state, writer } = this.#options
    await writer.run((batch) => {
      batch.putRaw(meta.stage, encodeStageRecord(record))
      return true
    })
    const phase = await ApplyPhase.open(state.engine, record, this.mayDelete(record))
    try {
      await writer.runSeries(() => this.#step(async (merger, batch) => {
        if (this.#stopped) throw new ReplicationError('The database was closed in an apply phase, which goes on when it is opened', { code: 'REPLICATION_DISCONNECTED' })
        const more = await phase.step(merger, batch)
        if (more) batch.putRaw(meta.stage, encodeStageRecord({ ...record, cursor: phase.cursor }))
        return more
      }))
      await this.#options.collector.dropAhead(record.collected, this.#run)
      await this.#run(async (_merger, batch) => {
        this.#learn(batch, record.vector)
        batch.delRaw(meta.stage)
        for (const advance of new VersionVector(record.collected).beyond(state.collected)) batch.collect(advance)
        return true
      })
    } finally {
      await phase.close()
    }
  }

  #setApplying (applying: boolean): void {
    this.#applying = applying
    this.#options.onApplying(applying)
  }

  /** Advances the vector. What is written from now on is later than all of it, also than deletes that nobody remembers. */
  #learn (batch: InnerBatch, advances: readonly Advance[]): void {
    const { state } = this.#options
    for (const advance of advances) {
      batch.advance(advance)
      state.hlc = observe(state.hlc, advance.hlc)
    }
  }

  /** Removes what is staged, when the disk says that nothing is: in batches with numbers, so that it is found out if LevelDB loses one, or the one before. */
  async #sweepStage (): Promise<void> {
    const { state: { engine }, writer } = this.#options
    let { gte }: { gte: Buffer } = wholeKeyspace(keyspace.stage)
    for (let more = true; more && !this.#stopped;) {
      const keys = await engine.keys<Buffer>({ ...wholeKeyspace(keyspace.stage), gte, limit: stagedAtOnce, keyEncoding: 'buffer' }).all()
      if (keys.length === 0) return
      await writer.run((batch) => {
        for (const key of keys) batch.delRaw(key)
        return true
      })
      more = keys.length === stagedAtOnce
      gte = keys.at(-1)!
    }
  }

  /** Drops a stage that was not complete. */
  dropStage (): Promise<void> {
    this.#setStaged(undefined)
    this.#swept = this.#options.writer.run((batch) => {
      batch.delRaw(meta.stage)
      return true
    }).then(async () => { await this.#sweepStage() })
    return this.#swept
  }

  /** Drops what is staged if it is not needed any more, or if nobody has gone on with it for so long. */
  async dropStageInTime (): Promise<void> {
    if (this.#staged === undefined || this.#delivery?.over === false) return
    if (this.#isNeedless || (this.#runningSeconds - this.#staged.runningSeconds) * 1000 > stageKeptMs) await this.dropStage()
  }

  /**
   * Looks at what an earlier run left: an apply phase goes on, a stage waits for a source to go on with it. From when this resolves,
   * {@link applying} is right and a new delivery waits for the old one to be gone; `done` is when it is.
   */
  async recover (): Promise<{ done: Promise<void> }> {
    const { state } = this.#options
    const bytes = await state.engine.get(meta.stage, buffers)
    const record = bytes === undefined ? undefined : decodeStageRecord(bytes)
    if (record?.phase === 'applying') return { done: this.#goOnApplying(record) }
    if (this.#applying) this.#setApplying(false)
    this.#setStaged(record)
    if (record === undefined) this.#swept = this.#sweepStage()
    else if (this.resumePoint === undefined) void this.dropStage()
    return { done: this.#swept }
  }
}

function joined (some: readonly Advance[] = [], others: readonly Advance[]): Advance[] {
  const vector = new VersionVector(some)
  vector.join(others)
  return [...vector]
}
