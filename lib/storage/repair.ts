/**
 * Making up for a hole: until all that survived above the vector is covered by it again, this replica only receives.
 *
 * Its peers bring what was lost, and with it the vector rises over the survivors. What nobody can bring in time is
 * written again in a log of our own, in place of the old dots and with their times; what is left of the old ones is
 * forgotten, so that whoever still has them brings them as concurrent versions. To know them any longer would let two
 * replicas differ for good: that we drop a dot reaches others only with a vector that covers it, or with a new dot.
 */
import { compareSiblings, indexOfDot, type Sibling, type SiblingSet } from '../core/siblings.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { Derivation } from './derive.ts'
import { writeOut } from './engine.ts'
import { survivorsAbove, type Survivor } from './holes.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace, meta, siblingKey } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'
import type { Writer } from './writer.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

export class Repair {
  readonly #state: ReplicaState
  readonly #writer: Writer
  readonly #derivation: Derivation
  #ending: Promise<void> | undefined
  /** What {@link end} has written may still be lost. */
  #unsettled = false

  constructor (state: ReplicaState, writer: Writer, derivation: Derivation) {
    this.#state = state
    this.#writer = writer
    this.#derivation = derivation
  }

  /** Whether it is under way. Nothing may be sent. */
  get active (): boolean {
    return this.#unsettled || !this.#state.survivors.empty
  }

  /** Whether everything has been brought. */
  get complete (): boolean {
    return this.#state.survivors.isWithin(this.#state.vector)
  }

  /**
   * Ends it. What has not been brought is written again. Nothing is sent before that has left the write-ahead log: if
   * another loss took it back, dots that others have been told are not known here would be known again.
   */
  end (): Promise<void> {
    this.#ending ??= this.#end().finally(() => { this.#ending = undefined })
    return this.#ending
  }

  async #end (): Promise<void> {
    await this.#writer.run(async (batch) => {
      if (this.#state.survivors.empty) return false
      if (!this.complete) {
        // Lest LevelDB should lose, from its write-ahead log, what superseded a survivor whose log record goes.
        await writeOut(this.#state.engine)
        await this.#writeAgain(batch)
      }
      batch.delRaw(meta.hole)
      this.#unsettled = true
      return true
    })
    this.#state.survivors.clear()
    if (this.#unsettled) await writeOut(this.#state.engine)
    this.#unsettled = false
  }

  async #writeAgain (batch: InnerBatch): Promise<void> {
    const state = this.#state
    const survivors: Survivor[] = []
    for await (const survivor of survivorsAbove(state.engine, state.vector)) {
      survivors.push(survivor)
      batch.delRaw(survivor.record)
    }
    survivors.sort((a, b) => a.hlc - b.hlc || (a.log === b.log ? a.sequence - b.sequence : a.log < b.log ? -1 : 1))
    const sets = new Map<string, { key: Buffer, before: SiblingSet, now: Sibling[], written: Map<Sibling, Sibling> }>()
    let transaction: Survivor | undefined
    let first = 0
    for (const survivor of survivors) {
      const text = survivor.key.toString('latin1')
      let set = sets.get(text)
      if (set === undefined) {
        const before = await this.#siblings(survivor.key)
        sets.set(text, set = { key: survivor.key, before, now: [...before], written: new Map() })
      }
      const index = indexOfDot(set.now, survivor)
      if (index === -1) continue
      if (transaction?.log !== survivor.log || transaction.hlc !== survivor.hlc) {
        if (transaction !== undefined) batch.endLog()
        transaction = survivor
        first = state.ownSequence + 1
        batch.beginLog(state.ownLog, first, survivor.hlc)
      }
      const old = set.now[index]!
      const written = { ...old, log: state.ownLog, sequence: ++state.ownSequence }
      set.now[index] = written
      set.written.set(written, old)
      batch.setKey(survivor.key)
      batch.addToLog(written.sequence - first, written.type)
      batch.advance(written)
    }
    if (transaction !== undefined) batch.endLog()
    for (const { key, before, now, written } of sets.values()) {
      if (written.size > 0) await this.#writeSet(batch, key, before, now, written)
    }
  }

  async #writeSet (batch: InnerBatch, key: Buffer, before: SiblingSet, now: Sibling[], written: Map<Sibling, Sibling>): Promise<void> {
    now.sort(compareSiblings)
    if (before.length === 1) {
      batch.setKey(key)
      batch.putVersion(now)
      return
    }
    const values = await Promise.all(now.map(async (sibling) => {
      const { type, log, sequence } = written.get(sibling) ?? sibling
      return type === 'put' ? await this.#state.engine.get(siblingKey(key, log, sequence), buffers) as Buffer : undefined
    }))
    const outcome = this.#derivation.outcome(key, now, values)
    batch.setKey(key)
    batch.putVersion(now)
    if (outcome.type === 'put') batch.putData(outcome.version.valueBytes!)
    else batch.delData()
    for (let index = 0; index < now.length; index++) {
      const old = written.get(now[index]!)
      if (old?.type !== 'put') continue
      batch.delSiblingValue(old.log, old.sequence)
      batch.putSiblingValue(now[index]!.log, now[index]!.sequence, values[index]!)
    }
  }

  async #siblings (key: Buffer): Promise<SiblingSet> {
    const record = await this.#state.engine.get(inKeyspace(keyspace.version, key), buffers) as Buffer | undefined
    return record === undefined ? [] : decodeSiblings(record)
  }
}
