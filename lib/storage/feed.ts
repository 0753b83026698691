/**
 * The ring of recent units that live streams read from, bounded in bytes. Of what all readers have read some stays, as a
 * backlog, for those whose link has ended: one that comes back soon is sent what it lacks from here, not from disk.
 *
 * A reader keeps the number of the next unit it wants. One that asks for a unit which has left the ring has fallen
 * behind, and has to catch up from the store; so has one that lacks what a unit without a body has changed. The newest
 * unit always stays, however large, so that a transaction of any size can be sent as a whole.
 *
 * Source: the replication backlog and partial resynchronisation of Redis 2.8 (2013).
 */
import type { LogId } from '../core/ids.ts'
import type { Advance, ReadonlyVersionVector, VersionVector } from '../core/version-vector.ts'
import { backlogBytes, feedBytesMax, feedUnitBytes } from '../limits.ts'
import type { ReplicaState } from './state.ts'
import type { Unit } from './unit.ts'

/** Units, and what was known, and forgotten of deletes, before the first of them. */
export interface Backlog {
  readonly first: number
  readonly units: readonly Unit[]
  readonly vector: VersionVector
  readonly collected: VersionVector
}

/** A unit, and where the logs stood before it that it moves on. */
interface Recorded {
  readonly unit: Unit
  readonly changed: readonly Advance[]
  readonly collected: readonly Advance[]
}

export class Feed {
  readonly #state: Pick<ReplicaState, 'vector' | 'collected'>
  readonly #bytesMax: number
  readonly #backlogBytes: number
  /** What is known, and forgotten, after all units; undefined while nothing is recorded. */
  #end: Omit<Backlog, 'first' | 'units'> | undefined
  #units: Recorded[] = []
  #first = 0
  #bytes = 0
  #readers = 0
  /** What has been recorded since there was a reader. */
  #bytesUnread = 0

  constructor (state: Pick<ReplicaState, 'vector' | 'collected'>, bytesMax: number = feedBytesMax, backlogMax: number = backlogBytes) {
    this.#state = state
    this.#bytesMax = bytesMax
    this.#backlogBytes = backlogMax
  }

  /** Number of the next unit to come. */
  get end (): number {
    return this.#first + this.#units.length
  }

  /** The last units for whoever knows, and has forgotten, so much; undefined if more is missing than is here. */
  since (known: ReadonlyVersionVector, forgotten: ReadonlyVersionVector): Backlog | undefined {
    if (this.#end === undefined) return undefined
    const vector = this.#end.vector.clone()
    const collected = this.#end.collected.clone()
    const missing = new Set(vector.beyond(known).map(({ log }) => log))
    const remembered = new Set(collected.beyond(forgotten).map(({ log }) => log))
    let index = this.#units.length
    while (missing.size > 0 || remembered.size > 0) {
      const before = this.#units[--index]
      if (before === undefined) return undefined
      goBack(vector, before.changed, known, missing)
      goBack(collected, before.collected, forgotten, remembered)
    }
    return { first: this.#first + index, units: this.#units.slice(index).map(({ unit }) => unit), vector, collected }
  }

  /** Whether units need a body; `remote` if they come from a peer: if that is the only one, nobody else has to be sent them. */
  records (remote: boolean): boolean {
    return remote ? this.#readers > 1 : this.#end !== undefined
  }

  /** Counts a reader. The ring is filled while there is one, and after that as far as the backlog goes. */
  open (): void {
    this.#readers++
    this.#bytesUnread = 0
    this.#end ??= { vector: this.#state.vector.clone(), collected: this.#state.collected.clone() }
  }

  close (): void {
    this.#readers--
    if (this.#readers === 0) this.release(this.end)
  }

  push (unit: Unit): void {
    if (this.#end === undefined || (unit.changes.length === 0 && unit.collected.length === 0)) return
    const bytes = bytesOf(unit)
    const { vector, collected } = this.#end
    this.#units.push({ unit, changed: placesOf(vector, unit.changes), collected: placesOf(collected, unit.collected) })
    vector.join(unit.changes)
    collected.join(unit.collected)
    this.#bytes += bytes
    if (this.#readers === 0) this.#pushUnread(bytes)
    while (this.#bytes > this.#bytesMax && this.#units.length > 1) this.#shift()
  }

  /** Who is alone for long records nothing. */
  #pushUnread (bytes: number): void {
    this.#bytesUnread += bytes
    if (this.#bytesUnread > this.#backlogBytes) this.forget()
    else this.release(this.end)
  }

  /** No reader wants a unit before this one any more. */
  release (number: number): void {
    while (this.#bytes > this.#backlogBytes && this.#units.length > 0 && this.#first < number) this.#shift()
  }

  /** The unit with this number; undefined if it is still to come, `'lost'` if it has left the ring. */
  at (number: number): Unit | undefined | 'lost' {
    if (number < this.#first) return 'lost'
    return this.#units[number - this.#first]?.unit
  }

  #shift (): void {
    this.#bytes -= bytesOf(this.#units.shift()!.unit)
    this.#first++
  }

  /** Nobody can go on from here: the state has gone back, or there is too much. Not while there are readers. */
  forget (): void {
    this.#first = this.end
    this.#units = []
    this.#bytes = 0
    this.#end = undefined
  }
}

const nowhere: readonly Advance[] = []

function placesOf (vector: VersionVector, advances: readonly Advance[]): readonly Advance[] {
  return advances.length === 0 ? nowhere : advances.map(({ log }) => vector.placeOf(log))
}

/** Takes a vector back, and the logs out of a set of which nothing beyond `known` is left in it. */
function goBack (vector: VersionVector, places: readonly Advance[], known: ReadonlyVersionVector, beyond: Set<LogId>): void {
  for (const place of places) {
    vector.rewind(place)
    if (known.covers(place.log, place.sequence)) beyond.delete(place.log)
  }
}

function bytesOf ({ body }: Unit): number {
  return feedUnitBytes + (body?.length ?? 0)
}
