/**
 * The collection of tombstones: what every member holds durably may be forgotten.
 *
 * The *frontier* is what all that count hold. The collected vector C moves up in it, transaction by transaction, and
 * the tombstones it passes go in the same batch: state is a function of (V, C). It moves no further than to the last
 * tombstone that goes, since whoever it is ahead of has to be sent the whole state. It does not pass a tombstone with
 * a value beside it: that conflict is not decided yet, and the next write to the key decides it (see `settling`).
 *
 * What one replica has collected is a fact of the group. It reaches the others in the order of its commits, so that
 * whoever takes it over knows all that the collector knew: a version that stands in conflict with a tombstone here,
 * and was superseded there, is superseded here too by then.
 */
import { decodeSiblings } from '../codec/sibling-set.ts'
import { holdsPut, indexOfDot, type SiblingSet } from '../core/siblings.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { tombstonesAtOnce, tombstonesPerUnitMax } from '../limits.ts'
import type { Derivation } from './derive.ts'
import { buffers, writeOut } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace } from './keyspaces.ts'
import type { Members } from './members.ts'
import { Merger } from './merge.ts'
import type { ReplicaState } from './state.ts'
import { transactions, type LoggedTransaction, type Tombstone } from './tombstones.ts'
import type { Writer } from './writer.ts'

export interface CollectorOptions {
  readonly state: ReplicaState
  readonly writer: Writer
  readonly derivation: Derivation
  readonly members: Members
  readonly durable: ReadonlyVersionVector
  /** Makes everything durable. */
  readonly flush: () => Promise<unknown>
  /** Whether an apply phase is under way, in which nothing is collected. */
  readonly applying: () => boolean
  /** Lets others have their turn. */
  readonly yield: () => Promise<void>
  /** Whether to stop at the next opportunity. */
  readonly stopped: () => boolean
}

/** Runs a job of the writer with a merger, and tells what became visible by it. */
export type RunMerger = (fill: (merger: Merger, batch: InnerBatch) => Promise<boolean>) => Promise<void>

/** A delete with a value beside it. */
export interface HeldTombstone extends Tombstone {
  readonly siblings: SiblingSet
}

export class Collector {
  readonly #options: CollectorOptions
  /** Up to here, all tombstones that C does not cover have been superseded. */
  readonly #walked = new VersionVector()
  #changed = true
  /** Those that the last collection came upon, first of all the one in each log that holds C back. */
  held: HeldTombstone[] = []

  constructor (options: CollectorOptions) {
    this.#options = options
  }

  /** Something has been written or heard. */
  changed (): void {
    this.#changed = true
  }

  /** What stands in a log beyond this is something else from now on. */
  forget (entry: Advance): void {
    this.#walked.rewind(entry)
  }

  get due (): boolean {
    return this.#changed && this.#options.state.tally.tombstonesMax > 0 && !this.#options.applying()
  }

  /** What all that count hold. */
  get frontier (): VersionVector {
    const { state, members, durable } = this.#options
    return members.frontier(durable, state.vector)
  }

  /** Collects what can be collected. Returns how many tombstones have gone. */
  async collect (): Promise<number> {
    const { state, members, durable, stopped } = this.#options
    this.#changed = false
    if (members.countedIds.length < 2 && !durable.dominates(state.vector)) await this.#options.flush()
    const held: HeldTombstone[] = []
    let collected = 0
    /** Keys of which something has been forgotten since LevelDB's memory was written out, and of which deletes are left. */
    let partly: Set<string> | undefined
    for (const { log, sequence, hlc } of this.frontier) {
      const after = Math.max(this.#walked.sequenceOf(log), state.collected.sequenceOf(log))
      if (after >= sequence) continue
      let whole = true
      for await (const step of steps(transactions(state.engine, log, after, sequence))) {
        whole = !stopped() && this.#passSuperseded(step, held)
        if (!whole) break
        if (step.length > 0) {
          // If LevelDB lost from its write-ahead log what is forgotten here, it could not be found out, nor sent again.
          if (partly === undefined || hasAny(step, partly)) {
            await writeOut(state.engine)
            partly = new Set()
          }
          const dropped = stopped() ? undefined : await this.#collectStep(step, held, partly)
          whole = dropped !== undefined
          if (!whole) break
          collected += dropped!
        }
        await this.#options.yield()
      }
      if (whole) this.#walked.advance({ log, sequence, hlc })
    }
    this.held = held
    return collected
  }

  /**
   * Passes the transactions at the beginning of a step of which no tombstone is left: that stays so. Returns false if what
   * comes then is held.
   */
  #passSuperseded (step: LoggedTransaction[], held: HeldTombstone[]): boolean {
    let alive: HeldTombstone[] = []
    while (step.length > 0 && (alive = this.#aliveOf(step[0]!)).length === 0) this.#advance(step.shift()!)
    if (!alive.some(({ siblings }) => holdsPut(siblings))) return true
    held.push(...step.flatMap((transaction) => this.#aliveOf(transaction)).filter(({ siblings }) => holdsPut(siblings)))
    return false
  }

  #advance ({ log, sequence, hlc }: LoggedTransaction): void {
    this.#walked.advance({ log, sequence, hlc })
  }

  /**
   * Returns how many tombstones have gone; undefined if this log can be walked no further for now.
   *
   * @param partly takes the keys of which others are left.
   */
  async #collectStep (step: readonly LoggedTransaction[], held: HeldTombstone[], partly: Set<string>): Promise<number | undefined> {
    const { writer, applying } = this.#options
    let walked: LoggedTransaction | undefined
    let dropped = 0
    /** What is left of keys: two deletes of one key may stand in one log, after a hole. */
    const left = new Map<string, SiblingSet>()
    await writer.run((batch) => {
      if (applying()) return false
      let collected: Advance | undefined
      const holding = held.length
      for (const transaction of step) {
        const alive = this.#aliveOf(transaction)
        for (const tombstone of alive) if (holdsPut(tombstone.siblings)) held.push(tombstone)
        if (held.length > holding) continue
        walked = transaction
        if (alive.length > 0) collected = { log: transaction.log, sequence: transaction.sequence, hlc: transaction.hlc }
        for (const { key, siblings, log, sequence } of alive) {
          batch.setKey(key)
          const kept = (left.get(batch.keyText) ?? siblings).filter((sibling) => sibling.log !== log || sibling.sequence !== sequence)
          left.set(batch.keyText, kept)
          if (kept.length === 0) {
            batch.putTombstones(kept)
            continue
          }
          partly.add(batch.keyText)
          batch.putSet(kept, undefined) // there is no value, unless LevelDB loses the batch that removed it
          batch.changeUnlogged()
        }
        dropped += alive.length
      }
      batch.dropped = dropped
      if (collected !== undefined) batch.collect(collected)
      return collected !== undefined
    })
    if (walked !== undefined) this.#advance(walked)
    return walked === step.at(-1) ? dropped : undefined
  }

  /** The tombstones of a transaction that have not been superseded, with what stands beside them. */
  #aliveOf ({ deletes }: LoggedTransaction): HeldTombstone[] {
    const { engine } = this.#options.state
    const alive: HeldTombstone[] = []
    for (const tombstone of deletes) {
      const siblings = decodeSiblings(engine.getSync(inKeyspace(keyspace.version, tombstone.key), buffers))
      if (indexOfDot(siblings, tombstone) !== -1) alive.push({ ...tombstone, siblings })
    }
    return alive
  }

  /**
   * Takes over what a peer has collected, in the batch that brings what the peer knew then.
   *
   * @throws `REPLICATION_PROTOCOL` if that is more than it knew
   */
  async adopt (batch: InnerBatch, merger: Merger, collected: readonly Advance[]): Promise<void> {
    const { state } = this.#options
    const target = new VersionVector(collected)
    for (const advance of target.beyond(state.collected)) {
      const { log, sequence } = advance
      assertKnown(batch.covers(log, sequence), advance)
      for await (const { deletes } of transactions(state.engine, log, state.collected.sequenceOf(log), sequence)) {
        for (const { key } of deletes) batch.dropped += merger.drop(key, target)
      }
      batch.collect(advance)
    }
    // A delivery that was cut short, and gone on with, may bring tombstones that its last source has collected.
    batch.dropped += merger.dropMerged(target)
    if (batch.dropped > 0) await this.#beforeForgetting()
  }

  /**
   * To be called before a batch goes in which something is forgotten: if LevelDB lost from its write-ahead log how a key
   * came to hold but deletes, and not that they were forgotten, nobody would see that the key has still got a value.
   */
  async #beforeForgetting (): Promise<void> {
    await writeOut(this.#options.state.engine)
  }

  /** Whether {@link adopt} would have more to do than one batch should. */
  async isMuch (collected: readonly Advance[]): Promise<boolean> {
    const { state } = this.#options
    let count = 0
    for (const { log, sequence } of new VersionVector(collected).beyond(state.collected)) {
      for await (const { deletes } of transactions(state.engine, log, state.collected.sequenceOf(log), sequence)) {
        if ((count += deletes.length) > tombstonesPerUnitMax) return true
      }
    }
    return false
  }

  /** Takes over what a peer has collected, in steps, each a batch of its own. */
  async adoptInSteps (collected: readonly Advance[], run: RunMerger): Promise<void> {
    const target = new VersionVector(collected)
    await this.#dropInSteps(target, this.#options.state.collected, run, (batch, { log, sequence, hlc }) => {
      if (target.covers(log, sequence) && !this.#options.state.collected.covers(log, sequence)) batch.collect({ log, sequence, hlc })
      return true
    })
  }

  /** Drops what a delivery says has been collected: in its apply phase, whose last batch will move C on. */
  async dropAhead (collected: readonly Advance[], run: RunMerger): Promise<void> {
    await this.#dropInSteps(new VersionVector(collected), this.#options.state.collected, run, () => false)
  }

  /** After a hole: tombstones are there again whose collection has been lost, if a later one has not. */
  async dropAgain (): Promise<void> {
    const { state, writer, derivation } = this.#options
    await this.#dropInSteps(state.collected, new VersionVector(), async (fill) => {
      let merger: Merger | undefined
      await writer.run((batch) => {
        merger = new Merger(state, batch, derivation, () => this.#options.yield())
        return fill(merger, batch)
      })
      merger?.committed()
    }, () => false)
  }

  /** @param after returns whether it has added anything to the batch */
  async #dropInSteps (target: VersionVector, since: ReadonlyVersionVector, run: RunMerger, after: (batch: InnerBatch, last: LoggedTransaction) => boolean): Promise<void> {
    const { state } = this.#options
    for (const { log, sequence } of target.beyond(since)) {
      for await (const step of steps(transactions(state.engine, log, since.sequenceOf(log), sequence))) {
        await run(async (merger, batch) => {
          for (const { deletes } of step) for (const { key } of deletes) batch.dropped += merger.drop(key, target)
          const adds = after(batch, step.at(-1)!)
          if (batch.dropped > 0) await this.#beforeForgetting()
          return adds || batch.dropped > 0
        })
        await this.#options.yield()
      }
    }
  }
}

function assertKnown (known: boolean, { sequence }: Advance): void {
  if (!known) throw new ReplicationError(`A peer has collected tombstones up to ${sequence} of a log that it does not know so far`, { code: 'REPLICATION_PROTOCOL' })
}

/** Whether a step deletes one of these keys, given as binary strings. */
function hasAny (step: readonly LoggedTransaction[], keys: ReadonlySet<string>): boolean {
  return keys.size > 0 && step.some(({ deletes }) => deletes.some(({ key }) => keys.has(key.latin1Slice())))
}

/** Transactions with deletes, as many as one turn of the writer takes. */
async function * steps (transactions: AsyncIterable<LoggedTransaction>): AsyncGenerator<LoggedTransaction[]> {
  let step: LoggedTransaction[] = []
  let deletes = 0
  for await (const transaction of transactions) {
    if (transaction.deletes.length === 0) continue
    step.push(transaction)
    deletes += transaction.deletes.length
    if (deletes < tombstonesAtOnce) continue
    yield step
    step = []
    deletes = 0
  }
  if (step.length > 0) yield step
}
