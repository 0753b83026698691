/**
 * The replicas of the group that this one has heard of, and what each of them holds durably.
 *
 * On that rest `synced()` and the collection of tombstones. A member is entered before its first data; what it has
 * acknowledged, to us or to others who tell us, only grows.
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { readAdvances, writeAdvances } from '../codec/advances.ts'
import type { ReplicaId } from '../core/ids.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { memberEntriesMax, membersMax } from '../limits.ts'
import type { Engine } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { meta } from './keyspaces.ts'

export class Members {
  readonly #acknowledged = new Map<ReplicaId, VersionVector>()
  readonly #unsaved = new Set<ReplicaId>()
  /** Of all vectors. */
  #entries = 0

  async load (engine: Engine): Promise<void> {
    for await (const [key, value] of engine.iterator({ ...meta.all('M'), keyEncoding: 'buffer', valueEncoding: 'buffer' })) {
      this.#acknowledged.set((key as Buffer).toString('hex', 2), this.#loaded(value as Buffer))
    }
  }

  #loaded (bytes: Buffer): VersionVector {
    const vector = new VersionVector(readAdvances(new ByteReader(bytes)))
    this.#entries += vector.size
    return vector
  }

  has (replica: ReplicaId): boolean {
    return this.#acknowledged.has(replica)
  }

  /** @throws `REPLICATION_TOO_MANY_MEMBERS` */
  add (replica: ReplicaId): void {
    if (this.has(replica)) return
    if (this.#acknowledged.size >= membersMax) throw tooMany(`More than ${membersMax} replicas`)
    this.#acknowledged.set(replica, new VersionVector())
    this.#unsaved.add(replica)
  }

  /** What a member is known to hold durably. */
  acknowledged (replica: ReplicaId): ReadonlyVersionVector {
    return this.#acknowledged.get(replica) ?? new VersionVector()
  }

  /** @throws `REPLICATION_TOO_MANY_MEMBERS` */
  acknowledge (replica: ReplicaId, vector: Iterable<Advance>): void {
    this.add(replica)
    const acknowledged = this.#acknowledged.get(replica)!
    const before = acknowledged.size
    acknowledged.join(vector)
    this.#unsaved.add(replica)
    this.#entries += acknowledged.size - before
    if (this.#entries > memberEntriesMax) throw tooMany(`More than ${memberEntriesMax} entries of vectors`)
  }

  /** Takes back what a member has lost. */
  rewind (replica: ReplicaId, vector: ReadonlyVersionVector): void {
    this.#acknowledged.set(replica, vector.clone())
    this.#unsaved.add(replica)
  }

  /** Any of them may be missing on disk. */
  changed (): void {
    for (const replica of this.#acknowledged.keys()) this.#unsaved.add(replica)
  }

  /** Adds what changed to a batch. */
  save (batch: InnerBatch): void {
    for (const replica of this.#unsaved) {
      const writer = new ByteWriter()
      writeAdvances(writer, [...this.#acknowledged.get(replica)!])
      batch.putRaw(meta.member(replica), writer.take())
    }
    this.#unsaved.clear()
  }

  [Symbol.iterator] (): IterableIterator<[ReplicaId, ReadonlyVersionVector]> {
    return this.#acknowledged.entries()
  }
}

function tooMany (what: string): ReplicationError {
  return new ReplicationError(`${what} are remembered as members of the group`, { code: 'REPLICATION_TOO_MANY_MEMBERS' })
}
