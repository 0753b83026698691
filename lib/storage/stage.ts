/**
 * The stage: a long delivery on its way in, in a keyspace of its own, no part of the state.
 *
 * Chunks stand as they came, each under the first user key in it: a delivery is in key order, and so are its chunks.
 * A delivery that goes on where an earlier one was cut short first brings what has changed meanwhile of what is here:
 * these entries stand beside the chunks, one by one, and replace theirs. A meta record, written with every chunk, says
 * up to which key the stage holds the state of which vector; in the apply phase, up to which key it has been applied.
 */
import { readAdvances, writeAdvances } from '../codec/advances.ts'
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { EntryScan } from '../codec/entry-scan.ts'
import type { DeliveredPart, DeliveryKind } from '../codec/message.ts'
import type { Advance } from '../core/version-vector.ts'
import { chunkBytes } from '../limits.ts'
import { buffers, type Engine } from './engine.ts'
import { inKeyspace, keyspace } from './keyspaces.ts'

/** A stage that is not complete. */
export interface StagingRecord {
  readonly phase: 'staging'
  readonly kind: DeliveryKind
  /** What its sources had collected. */
  readonly collected: readonly Advance[]
  /** In key order, each from where the one before ends; the vector of the first covers those of all others. */
  readonly parts: readonly DeliveredPart[]
  /** Of all that was staged. */
  readonly bytes: number
  /** The running time of this replica when it was last added to. */
  readonly runningSeconds: number
}

/** A stage that is complete, and is being applied. */
export interface ApplyingRecord {
  readonly phase: 'applying'
  readonly kind: DeliveryKind
  /** What its source knew. */
  readonly vector: readonly Advance[]
  readonly collected: readonly Advance[]
  /** The last user key that has been applied; undefined if none has. */
  readonly cursor: Buffer | undefined
}

export type StageRecord = StagingRecord | ApplyingRecord

export function encodeStageRecord (record: StageRecord): Buffer {
  const { phase, kind, collected } = record
  const writer = new ByteWriter().byte(phase === 'applying' ? 1 : 0).byte(kind === 'transfer' ? 1 : 0)
  writeAdvances(writer, collected)
  if (phase === 'applying') {
    writeAdvances(writer, record.vector)
    if (record.cursor !== undefined) writer.byte(1).bytes(record.cursor)
  } else {
    writer.varint(record.bytes).varint(record.runningSeconds).varint(record.parts.length)
    for (const { upTo, vector } of record.parts) writeAdvances(writer.bytes(upTo), vector)
  }
  return writer.take()
}

export function decodeStageRecord (stored: Buffer): StageRecord {
  const reader = new ByteReader(stored)
  const isApplying = reader.byte() === 1
  const kind = reader.byte() === 1 ? 'transfer' : 'catch-up'
  const collected = readAdvances(reader)
  if (isApplying) {
    const vector = readAdvances(reader)
    return { phase: 'applying', kind, vector, collected, cursor: reader.remaining > 0 && reader.byte() === 1 ? reader.bytes(stored.length) : undefined }
  }
  const bytes = reader.varint()
  const runningSeconds = reader.varint()
  const parts = Array.from({ length: reader.count(stored.length, 2) }, () => ({ upTo: Buffer.from(reader.bytes(stored.length)), vector: readAdvances(reader) }))
  return { phase: 'staging', kind, collected, parts, bytes, runningSeconds }
}

const chunkLayer = Buffer.of(0)
const replacementLayer = Buffer.of(1)

/** The key of the chunk whose first user key this is. */
export function chunkKey (key: Uint8Array): Buffer {
  return inKeyspace(keyspace.stage, Buffer.concat([chunkLayer, key]))
}

/** The key of the entry that replaces the one of a user key in a chunk. */
export function replacementKey (key: Uint8Array): Buffer {
  return inKeyspace(keyspace.stage, Buffer.concat([replacementLayer, key]))
}

const noKey = Buffer.alloc(0)
const allChunks = { gte: chunkKey(noKey), lt: replacementKey(noKey) }
const allReplacements = { gte: replacementKey(noKey), lt: Buffer.of(keyspace.stage, replacementLayer[0]! + 1) }
const reading = { ...buffers, fillCache: false } as const

/** Staged entries, at the first that has not been applied. */
export interface StagedChunk {
  readonly scan: EntryScan
  /** The first key of what comes after; undefined if nothing does. */
  readonly end: Buffer | undefined
}

/** Reads a stage from behind a cursor: chunks as they are where nothing replaces them, else entry by entry. */
export class StageReader {
  readonly #chunks: Ahead
  readonly #replacements: Ahead
  readonly #cursor: Buffer | undefined
  /** The chunk at hand, at its first entry that has not been handed out. */
  #scan: EntryScan | undefined
  /** The replacement to come. */
  #replacement: EntryScan | undefined

  private constructor (engine: Engine, from: Buffer, cursor: Buffer | undefined) {
    this.#chunks = new Ahead(engine, { gte: from, lt: allChunks.lt })
    this.#replacements = new Ahead(engine, { ...(cursor === undefined ? { gte: allReplacements.gte } : { gt: replacementKey(cursor) }), lt: allReplacements.lt })
    this.#cursor = cursor
  }

  /** @param cursor the last key that has been applied, if one has. */
  static async open (engine: Engine, cursor: Buffer | undefined): Promise<StageReader> {
    const { gte } = allChunks
    if (cursor === undefined) return new StageReader(engine, gte, undefined)
    const [from] = await engine.keys({ gte, lte: chunkKey(cursor), reverse: true, limit: 1, ...reading } as object).all()
    return new StageReader(engine, from ?? gte, cursor)
  }

  /** The next entries, about as many as make a chunk; undefined at the end. */
  async next (): Promise<StagedChunk | undefined> {
    await this.#fill()
    const scan = this.#scan
    if (this.#replacement === undefined || (scan !== undefined && await this.#isWhole(this.#replacement))) {
      if (scan === undefined) return undefined
      this.#scan = undefined
      return { scan, end: await this.#nextChunkKey() }
    }
    const writer = new ByteWriter(chunkBytes * 2)
    while (writer.length < chunkBytes && (this.#scan !== undefined || this.#replacement !== undefined)) {
      this.#merge(writer, this.#scan, this.#replacement)
      await this.#fill()
    }
    const merged = new EntryScan(writer.take())
    merged.next()
    return { scan: merged, end: this.#lowerKey(this.#scan, this.#replacement) }
  }

  async close (): Promise<void> {
    await this.#chunks.close()
    await this.#replacements.close()
  }

  /** Makes what comes next stand at an entry. */
  async #fill (): Promise<void> {
    while (this.#scan === undefined) {
      const chunk = await this.#chunks.shift()
      if (chunk === undefined) break
      const scan = new EntryScan(chunk[1])
      while (scan.next()) {
        if (this.#cursor !== undefined && scan.compareKey(this.#cursor) <= 0) continue
        this.#scan = scan
        break
      }
    }
    if (this.#replacement !== undefined) return
    const stored = await this.#replacements.shift()
    if (stored === undefined) return
    this.#replacement = new EntryScan(stored[1])
    this.#replacement.next()
  }

  /** Whether nothing replaces, or adds to, what is left of the chunk at hand. */
  async #isWhole (replacement: EntryScan): Promise<boolean> {
    const end = await this.#nextChunkKey()
    return end !== undefined && replacement.compareKey(end) >= 0
  }

  async #nextChunkKey (): Promise<Buffer | undefined> {
    return (await this.#chunks.head())?.[0].subarray(2)
  }

  /** Writes the lower of two entries; of the same key, the replacement. */
  #merge (writer: ByteWriter, scan: EntryScan | undefined, replacement: EntryScan | undefined): void {
    const order = scan === undefined ? 1 : replacement === undefined ? -1 : scan.compareKey(replacement.bytes, replacement.keyStart, replacement.keyEnd)
    const { bytes, start, end } = (order < 0 ? scan : replacement)!
    writer.part(bytes, start, end)
    if (order >= 0) this.#replacement = undefined
    if (order <= 0 && !scan!.next()) this.#scan = undefined
  }

  #lowerKey (scan: EntryScan | undefined, replacement: EntryScan | undefined): Buffer | undefined {
    return scan === undefined || (replacement !== undefined && scan.compareKey(replacement.key) > 0) ? replacement?.key : scan.key
  }
}

type Stored = [key: Buffer, value: Buffer]

/** An iterator that reads one entry ahead, and lets it be looked at. */
class Ahead {
  readonly #iterator: { next (): Promise<Stored | undefined>, close (): Promise<void> }
  #head: Promise<Stored | undefined>

  constructor (engine: Engine, range: object) {
    this.#iterator = engine.iterator<Buffer, Buffer>({ ...range, ...reading } as object) as never
    this.#head = this.#read()
  }

  head (): Promise<Stored | undefined> {
    return this.#head
  }

  async shift (): Promise<Stored | undefined> {
    const head = await this.#head
    if (head !== undefined) this.#head = this.#read()
    return head
  }

  async close (): Promise<void> {
    await this.#iterator.close()
  }

  #read (): Promise<Stored | undefined> {
    const reading = this.#iterator.next()
    reading.catch(() => {}) // thrown where it is awaited
    return reading
  }
}
