/**
 * Settling the conflicts that hold back the collection of tombstones.
 *
 * A delete with a value beside it is not forgotten, nor is what its log has deleted since. The next write to the key
 * decides it. Where none comes for `conflictKeptMs`, an ordinary write of what the key reads as does: all that is
 * concurrent with the delete is known by then, since everybody who counts has it.
 *
 * Of those that count the first by id does it, the next one if it has not been done after as long again, and so on; if
 * two do, they write the same. They wait until all that count are there: who is away may have written the key meanwhile,
 * and that write would lose to one that says nothing new and is later.
 */
import { toMs } from '../core/hlc.ts'
import { holdsPut, indexOfDot } from '../core/siblings.ts'
import { conflictKeptMs } from '../limits.ts'
import type { System } from '../types.ts'
import type { HeldTombstone } from './collector.ts'
import { valueOf } from './data-record.ts'
import { buffers } from './engine.ts'
import { inKeyspace, keyspace } from './keyspaces.ts'
import { addTransaction, newGroup, nextTime, type Operation } from './local.ts'
import type { Members } from './members.ts'
import type { ReplicaState } from './state.ts'
import { readSet } from './stored-sets.ts'
import { transactionBytes, type Writer } from './writer.ts'

export interface SettlerOptions {
  readonly state: ReplicaState
  readonly writer: Writer
  readonly members: Members
  readonly transactionBytesMax: number
  readonly system: System
  /** Whether an apply phase is under way, in which nothing is settled. */
  readonly applying: () => boolean
  /** Whether to stop at the next opportunity. */
  readonly stopped: () => boolean
}

export class Settler {
  readonly #options: SettlerOptions
  /** When each of those that hold others back was first met in this run, by its dot. */
  #metMs = new Map<string, number>()

  constructor (options: SettlerOptions) {
    this.#options = options
  }

  /** Writes what the keys of these deletes read as, where it is time for us to. */
  async settle (held: readonly HeldTombstone[]): Promise<void> {
    const { state, members, system, stopped } = this.#options
    const nowMs = system.monotonicMs()
    this.#metMs = new Map(held.map(({ log, sequence }) => [log + sequence, this.#metMs.get(log + sequence) ?? nowMs]))
    if (held.length === 0 || !members.allPresent) return
    const waitMs = conflictKeptMs * (1 + members.countedIds.indexOf(state.replica))
    for (const tombstone of held) if (this.#ageMs(tombstone) >= waitMs && !stopped()) await this.#settle(tombstone)
  }

  /** By the time of its versions, since a run may be short; or by that of this run, since clocks may be wrong. */
  #ageMs ({ log, sequence, siblings }: HeldTombstone): number {
    const { system } = this.#options
    const newestMs = toMs(Math.max(...siblings.map(({ hlc }) => hlc)))
    return Math.max(system.nowMs() - newestMs, system.monotonicMs() - this.#metMs.get(log + sequence)!)
  }

  async #settle (tombstone: HeldTombstone): Promise<void> {
    const { state, writer, transactionBytesMax, system, applying } = this.#options
    const { key } = tombstone
    const group = newGroup()
    await writer.runInOrder(async (batch) => {
      const siblings = await readSet(state, key)
      const value = valueOf(await state.engine.get(inKeyspace(keyspace.data, key), buffers))
      if (applying() || indexOfDot(siblings, tombstone) === -1 || !holdsPut(siblings)) return false // somebody has decided it
      const operation: Operation = value === undefined ? { type: 'del', key } : { type: 'put', key, value }
      if (transactionBytes([operation]) > transactionBytesMax) return false // what was merged may be more than anybody would take
      addTransaction(state, batch, group, [operation], nextTime(state, system.nowMs()))
      return true
    })
    for (const settled of group.settled) state.siblingKeys.delete(settled)
  }
}
