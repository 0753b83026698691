/**
 * The apply phase of a staged delivery: staged sets are merged in key order, in bounded batches behind a cursor.
 *
 * Nothing is read if the source had seen all that this replica knows. Else the versions that it holds are read beside the
 * staged ones, by an iterator over the same keys, within the writer's turn, so that nothing changes meanwhile; in a state
 * transfer that shows which keys the source no longer has. Where many keys are held and few are staged, each is looked up.
 */
import { EntryScan } from '../codec/entry-scan.ts'
import { noSiblings } from '../core/siblings.ts'
import { VersionVector } from '../core/version-vector.ts'
import { applyBatchBytes, heldBytesMax, MiB } from '../limits.ts'
import { buffers, type Engine } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace, wholeKeyspace, type Keyspace } from './keyspaces.ts'
import type { Merger } from './merge.ts'
import { compareKeys, Pages, StoredKeys, type PageIterator } from './source.ts'
import { StageReader, type ApplyingRecord, type StagedChunk } from './stage.ts'
import { recordOfData } from './stored-sets.ts'

/** Held versions that are read at once, beside one chunk. */
const heldMax = 4096
/** Chunks for which keys are looked up before it is tried again whether reading along is the better way. */
const sparseChunks = 16

export class ApplyPhase {
  readonly #engine: Engine
  readonly #reader: StageReader
  readonly #deletes: boolean
  readonly #context: VersionVector
  #cursor: Buffer | undefined
  #chunk: StagedChunk | undefined
  /** Whether the scan of the chunk stands at an entry. */
  #atEntry = false
  #begun = false
  #sparse = 0

  private constructor (engine: Engine, reader: StageReader, cursor: Buffer | undefined, context: VersionVector, deletes: boolean) {
    this.#engine = engine
    this.#reader = reader
    this.#cursor = cursor
    this.#context = context
    this.#deletes = deletes
  }

  /** @param deletes whether what this replica holds and the source has no more was deleted. */
  static async open (engine: Engine, { cursor, vector }: ApplyingRecord, deletes: boolean): Promise<ApplyPhase> {
    return new ApplyPhase(engine, await StageReader.open(engine, cursor), cursor, new VersionVector(vector), deletes)
  }

  /** The last key that has been merged. */
  get cursor (): Buffer | undefined {
    return this.#cursor
  }

  /** Merges a batch; false if nothing was left. In the writer's turn. */
  async step (merger: Merger, batch: InnerBatch): Promise<boolean> {
    this.#chunk ??= await this.#nextChunk()
    if (this.#chunk === undefined) return false
    const isRead = this.#deletes || !merger.coversAll(this.#context)
    if (this.#deletes || (isRead && this.#sparse === 0)) {
      const { held, complete } = await this.#readHeld(this.#chunk.end)
      if (this.#deletes || complete) {
        if (this.#mergeInStep(merger, batch, this.#chunk.scan, held, complete)) this.#chunk = undefined
        await merger.writeLog()
        return true
      }
      this.#sparse = sparseChunks
    }
    const { scan } = this.#chunk
    if (this.#atEntry) await merger.mergeChunk(scan, this.#context)
    this.#cursor = scan.key
    this.#chunk = undefined
    await merger.writeLog()
    return true
  }

  async close (): Promise<void> {
    await this.#reader.close()
  }

  async #nextChunk (): Promise<StagedChunk | undefined> {
    if (this.#sparse > 0) this.#sparse--
    const chunk = await this.#reader.next()
    this.#atEntry = chunk !== undefined
    const first = !this.#begun
    this.#begun = true
    // Of a source that has nothing left: all was deleted.
    return chunk ?? (first && this.#deletes ? { scan: new EntryScan(Buffer.alloc(0)), end: undefined } : undefined)
  }

  /** The sets of what is held, each with its key in some keyspace; `complete` unless there are more. */
  async #readHeld (end: Buffer | undefined): Promise<{ held: Array<[Buffer, Buffer]>, complete: boolean }> {
    const [data, versions] = [keyspace.data, keyspace.version].map((space) => this.#iterate(space, end)) as [Pages, Pages]
    const keys = new StoredKeys<Buffer>(data, versions, compareKeys)
    const held: Array<[Buffer, Buffer]> = []
    let bytes = 0
    try {
      while (await keys.fill()) {
        while (keys.next()) {
          held.push([keys.key, keys.record ?? recordOfData(keys.data)!])
          bytes += keys.data?.length ?? 0
          if (held.length > heldMax || bytes > heldBytesMax) return { held, complete: false }
        }
      }
      return { held, complete: true }
    } finally {
      await data.close()
      await versions.close()
    }
  }

  #iterate (space: Keyspace, end: Buffer | undefined): Pages {
    const { gte, lt } = wholeKeyspace(space)
    return new Pages(this.#engine.iterator({
      ...(this.#cursor === undefined ? { gte } : { gt: inKeyspace(space, this.#cursor) }),
      lt: end === undefined ? lt : inKeyspace(space, end),
      limit: heldMax + 1,
      fillCache: false,
      highWaterMarkBytes: MiB,
      ...buffers
    } as object) as unknown as PageIterator<Buffer, Buffer>)
  }

  /** Merges staged and held in key order; false if something of the chunk is left. */
  #mergeInStep (merger: Merger, batch: InnerBatch, scan: EntryScan, held: ReadonlyArray<[Buffer, Buffer]>, complete: boolean): boolean {
    let index = 0
    while (batch.bytes < applyBatchBytes) {
      const head = held[index]
      if (head === undefined && !complete) return false
      if (!this.#atEntry && (head === undefined || !this.#deletes)) return true
      const order = head === undefined ? -1 : this.#atEntry ? scan.compareKey(head[0], 1) : 1
      if (order >= 0) index++
      if (order <= 0) {
        merger.mergeScanned(scan, this.#context, order === 0 ? head![1] : undefined)
        this.#passEntry(scan)
      } else if (this.#deletes) {
        const key = this.#cursor = head![0].subarray(1)
        merger.mergeOne({ key, siblings: noSiblings, values: [] }, this.#context, head![1])
      }
    }
    return false
  }

  #passEntry (scan: EntryScan): void {
    this.#cursor = scan.key
    this.#atEntry = scan.next()
  }
}
