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
import { decodeEntries, type Entry } from '../codec/entry.ts'
import { observe } from '../core/hlc.ts'
import { VersionVector, type Advance, type Context } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { innerBatchBytesMax } from '../limits.ts'
import { ApplyPhase } from './apply-phase.ts'
import type { Collector } from './collector.ts'
import { assertMergeable, Delivery, type DeliveryTarget } from './delivery.ts'
import type { Derivation } from './derive.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace, meta, wholeKeyspace } from './keyspaces.ts'
import type { Members } from './members.ts'
import { Merger, type MergeReport } from './merge.ts'
import { decodeStageRecord, encodeStageRecord, type StageRecord } from './stage.ts'
import type { ReplicaState } from './state.ts'
import type { Writer } from './writer.ts'

/** A live unit as it came, and the vector of the stream that it belongs to. */
export interface RemoteUnit {
  /** The sender's vector as of the last unit executed; the intake moves it on. */
  readonly stream: VersionVector
  readonly before: readonly Advance[]
  readonly changes: readonly Advance[]
  /** What the sender has collected in it. */
  readonly collected: readonly Advance[]
  readonly entries: readonly Entry[]
  readonly bytes: number
}

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
}

interface QueuedUnit {
  readonly unit: RemoteUnit
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class Intake implements DeliveryTarget {
  readonly #options: IntakeOptions
  readonly #units: QueuedUnit[] = []
  /** What of a stream was handed on last: what follows depends on it, and does not name it again. */
  readonly #handedOn = new WeakMap<VersionVector, readonly Advance[]>()
  #unitsQueued = false
  #applying = false
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
    this.#prepareUnits().then(async () => await this.#run(async (merger, batch) => {
      this.#unitsQueued = false
      taken = this.#units.splice(0, this.#unitsAtOnce())
      if (this.#units.length > 0) this.#queueUnits()
      try {
        for (const { unit } of taken) await this.#mergeUnit(merger, batch, unit)
      } catch (error) {
        for (const { unit: { stream, changes } } of taken) this.#handedOn.set(stream, [...this.#handedOn.get(stream) ?? [], ...changes])
        throw error
      }
      return true
    })).then(() => {
      for (const { resolve } of taken) resolve()
    }, (error) => {
      if (taken.length === 0) {
        this.#unitsQueued = false
        taken = this.#units.splice(0)
      }
      for (const { reject } of taken) reject(error)
    })
  }

  /** How many of the units that wait fit one batch. What was collected goes alone: its drops are read from disk. */
  #unitsAtOnce (): number {
    let count = 0
    for (let bytes = 0; count < this.#units.length && (count === 0 || bytes < innerBatchBytesMax); count++) {
      const { unit } = this.#units[count]!
      if (unit.collected.length > 0) return Math.max(1, count)
      bytes += unit.bytes
    }
    return count
  }

  /** Too much for one batch goes before it: everything before the unit is known here. */
  async #prepareUnits (): Promise<void> {
    const { collected } = this.#units[0]!.unit
    const { collector } = this.#options
    if (collected.length > 0 && await collector.isMuch(collected)) await collector.adoptInSteps(collected)
  }

  async #mergeUnit (merger: Merger, batch: InnerBatch, { stream, before, changes, collected, entries }: RemoteUnit): Promise<void> {
    for (const { log, sequence } of this.#handedOn.get(stream) ?? []) {
      if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit before this one could not be applied', { code: 'REPLICATION_DISCONNECTED' })
    }
    for (const { log, sequence } of before) {
      if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit came before what it depends on', { code: 'REPLICATION_PROTOCOL' })
    }
    stream.join(before)
    stream.join(changes)
    for (const entry of entries) assertMergeable(entry, stream, batch)
    await merger.merge(entries, stream)
    this.#learn(batch, changes)
    await this.#options.collector.adopt(batch, merger, collected)
    this.#handedOn.set(stream, changes)
  }

  /** A writer's job with a merger whose effects are told when it is committed. */
  async #run (fill: (merger: Merger, batch: InnerBatch) => Promise<boolean>): Promise<void> {
    const { state, writer, derivation, members } = this.#options
    const report: MergeReport | undefined = this.#options.reports() ? { changed: [], conflicts: [] } : undefined
    let merger: Merger | undefined
    let saved = (): void => {}
    await writer.run(async (batch) => {
      if (members.hasNew) saved = members.save(batch)
      merger = new Merger(state, batch, derivation, report)
      return await fill(merger, batch)
    })
    saved()
    merger?.committed()
    if (report !== undefined) this.#options.onReport(report)
  }

  /** Begins to take in a catch-up or state transfer. One at a time. */
  begin (kind: 'catch-up' | 'transfer', vector: readonly Advance[], collected: readonly Advance[], entries: number): Delivery {
    return new Delivery(this, { phase: 'staging', kind, vector, collected, cursor: undefined }, entries)
  }

  /** Whether a state transfer could delete anything here: something that both vectors cover. */
  mayDelete ({ kind, vector }: StageRecord): boolean {
    return kind === 'transfer' && vector.some(({ log }) => this.#options.state.vector.sequenceOf(log) > 0)
  }

  /** Applies a delivery that fits one inner batch. */
  async applyAtOnce (record: StageRecord, chunks: readonly Buffer[]): Promise<void> {
    await this.#run(async (merger, batch) => {
      const context = new VersionVector(record.vector)
      // What was collected and never known here, others may not know either: they need the whole state too.
      batch.gap = !this.#options.state.vector.dominates(new VersionVector(record.collected))
      for (const chunk of chunks) await merger.merge(decodeEntries(chunk), context)
      this.#finish(batch, record)
      await this.#options.collector.adopt(batch, merger, record.collected)
      return true
    })
  }

  async collectsMuch ({ collected }: StageRecord): Promise<boolean> {
    return await this.#options.collector.isMuch(collected)
  }

  async beginStage (record: StageRecord): Promise<void> {
    await this.#swept
    await this.#options.writer.run((batch) => {
      batch.putRaw(meta.stage, encodeStageRecord(record))
      return true
    })
  }

  async stage (key: Buffer, chunk: Buffer): Promise<void> {
    await this.#options.writer.run((batch) => {
      batch.putRaw(inKeyspace(keyspace.stage, key), chunk)
      return true
    })
  }

  async applyStage (record: StageRecord): Promise<void> {
    // If it fails the phase is not over: half of a delivery is in the state. It goes on at the next open.
    this.#setApplying(true)
    await (this.#phase = this.#applyStage({ ...record, phase: 'applying' }))
    this.#setApplying(false)
    this.#swept = this.#sweepStage()
    await this.#swept
  }

  async #applyStage (record: StageRecord): Promise<void> {
    const { state, writer } = this.#options
    await writer.run((batch) => {
      batch.putRaw(meta.stage, encodeStageRecord(record))
      return true
    })
    const phase = await ApplyPhase.open(state.engine, record, this.mayDelete(record))
    try {
      let more = true
      while (more) {
        await this.#run(async (merger, batch) => {
          more = await phase.step(merger, batch)
          if (more) batch.putRaw(meta.stage, encodeStageRecord({ ...record, cursor: phase.cursor }))
          return more
        })
      }
      await this.#options.collector.dropAhead(record.collected)
      await this.#run(async (_merger, batch) => {
        this.#finish(batch, record)
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

  /** The end of a delivery: from here on the vector claims it. */
  #finish (batch: InnerBatch, { vector }: StageRecord): void {
    this.#learn(batch, vector)
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
    if (this.#applying) this.#setApplying(false)
    if (record === undefined) this.#swept = this.#sweepStage()
    else void this.dropStage()
    return { done: this.#swept }
  }
}
