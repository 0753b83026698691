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
import type { VersionVector } from '../core/version-vector.ts'
import { backlogBytes, feedBytesMax, feedUnitBytes } from '../limits.ts'
import type { ReplicaState } from './state.ts'
import type { Unit } from './unit.ts'

/** The units that are there, and what was known, and forgotten of deletes, before the first of them. */
export interface Backlog {
  readonly first: number
  readonly units: readonly Unit[]
  readonly vector: VersionVector
  readonly collected: VersionVector
}

export class Feed {
  readonly #state: Pick<ReplicaState, 'vector' | 'collected'>
  readonly #bytesMax: number
  readonly #backlogBytes: number
  #backlog: Omit<Backlog, 'first' | 'units'> | undefined
  #units: Unit[] = []
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

  /** What a stream can begin with; undefined if nothing is recorded. */
  get backlog (): Backlog | undefined {
    return this.#backlog && { ...this.#backlog, first: this.#first, units: this.#units }
  }

  /** Whether units need a body; `remote` if they come from a peer: if that is the only one, nobody else has to be sent them. */
  records (remote: boolean): boolean {
    return remote ? this.#readers > 1 : this.#backlog !== undefined
  }

  /** Counts a reader. The ring is filled while there is one, and after that as far as the backlog goes. */
  open (): void {
    this.#readers++
    this.#bytesUnread = 0
    this.#backlog ??= { vector: this.#state.vector.clone(), collected: this.#state.collected.clone() }
  }

  close (): void {
    this.#readers--
    if (this.#readers === 0) this.release(this.end)
  }

  push (unit: Unit): void {
    if (this.#backlog === undefined || (unit.changes.length === 0 && unit.collected.length === 0)) return
    const bytes = bytesOf(unit)
    this.#units.push(unit)
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
    return this.#units[number - this.#first]
  }

  #shift (): void {
    const unit = this.#units.shift()!
    this.#first++
    this.#bytes -= bytesOf(unit)
    this.#backlog!.vector.join(unit.changes)
    this.#backlog!.collected.join(unit.collected)
  }

  /** Nobody can go on from here: the state has gone back, or there is too much. Not while there are readers. */
  forget (): void {
    this.#first = this.end
    this.#units = []
    this.#bytes = 0
    this.#backlog = undefined
  }
}

function bytesOf ({ body }: Unit): number {
  return feedUnitBytes + (body?.length ?? 0)
}
