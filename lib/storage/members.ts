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
import type { Engine } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { meta } from './keyspaces.ts'

export class Members {
  readonly #acknowledged = new Map<ReplicaId, VersionVector>()
  readonly #unsaved = new Set<ReplicaId>()

  async load (engine: Engine): Promise<void> {
    for await (const [key, value] of engine.iterator({ ...meta.all('M'), keyEncoding: 'buffer', valueEncoding: 'buffer' })) {
      this.#acknowledged.set((key as Buffer).toString('hex', 2), new VersionVector(readAdvances(new ByteReader(value as Buffer))))
    }
  }

  has (replica: ReplicaId): boolean {
    return this.#acknowledged.has(replica)
  }

  add (replica: ReplicaId): void {
    if (this.has(replica)) return
    this.#acknowledged.set(replica, new VersionVector())
    this.#unsaved.add(replica)
  }

  /** What a member is known to hold durably. */
  acknowledged (replica: ReplicaId): ReadonlyVersionVector {
    return this.#acknowledged.get(replica) ?? new VersionVector()
  }

  acknowledge (replica: ReplicaId, vector: Iterable<Advance>): void {
    this.add(replica)
    this.#acknowledged.get(replica)!.join(vector)
    this.#unsaved.add(replica)
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
