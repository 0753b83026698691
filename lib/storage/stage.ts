/**
 * The stage: a long delivery on its way in, in a keyspace of its own, no part of the state.
 *
 * Chunks stand as they came, each under the first user key in it: a delivery is in key order, and so are its chunks.
 * A meta record says what the stage holds and, in the apply phase, up to which key it has been applied.
 */
import { readAdvances, writeAdvances } from '../codec/advances.ts'
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { EntryScan } from '../codec/entry-scan.ts'
import type { Advance } from '../core/version-vector.ts'
import type { Engine } from './engine.ts'
import { inKeyspace, keyspace, wholeKeyspace } from './keyspaces.ts'

export interface StageRecord {
  readonly phase: 'staging' | 'applying'
  readonly kind: 'catch-up' | 'transfer'
  /** Of the source. */
  readonly vector: readonly Advance[]
  readonly collected: readonly Advance[]
  /** The last user key that has been applied; undefined if none has. */
  readonly cursor: Buffer | undefined
}

export function encodeStageRecord ({ phase, kind, vector, collected, cursor }: StageRecord): Buffer {
  const writer = new ByteWriter().byte(phase === 'applying' ? 1 : 0).byte(kind === 'transfer' ? 1 : 0)
  writeAdvances(writer, vector)
  writeAdvances(writer, collected)
  if (cursor !== undefined) writer.byte(1).bytes(cursor)
  return writer.take()
}

export function decodeStageRecord (bytes: Buffer): StageRecord {
  const reader = new ByteReader(bytes)
  const phase = reader.byte() === 1 ? 'applying' : 'staging'
  const kind = reader.byte() === 1 ? 'transfer' : 'catch-up'
  const vector = readAdvances(reader)
  const collected = readAdvances(reader)
  return { phase, kind, vector, collected, cursor: reader.remaining > 0 && reader.byte() === 1 ? reader.bytes(bytes.length) : undefined }
}

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer', fillCache: false } as const

/** A chunk at its first entry that has not been applied. */
export interface StagedChunk {
  readonly scan: EntryScan
  /** The first key of the next chunk; undefined if this is the last one. */
  readonly end: Buffer | undefined
}

/** Reads a stage from behind a cursor, one chunk ahead. */
export class StageReader {
  readonly #chunks: { next (): Promise<[Buffer, Buffer] | undefined>, close (): Promise<void> }
  #cursor: Buffer | undefined
  #ahead: Promise<[Buffer, Buffer] | undefined>

  private constructor (engine: Engine, from: Buffer, cursor: Buffer | undefined) {
    this.#chunks = engine.iterator<Buffer, Buffer>({ gte: from, lt: wholeKeyspace(keyspace.stage).lt, ...buffers } as object) as never
    this.#cursor = cursor
    this.#ahead = this.#read()
  }

  /** @param cursor the last key that has been applied, if one has. */
  static async open (engine: Engine, cursor: Buffer | undefined): Promise<StageReader> {
    const { gte } = wholeKeyspace(keyspace.stage)
    if (cursor === undefined) return new StageReader(engine, gte, undefined)
    const [from] = await engine.keys({ gte, lte: inKeyspace(keyspace.stage, cursor), reverse: true, limit: 1, ...buffers } as object).all()
    return new StageReader(engine, from as Buffer | undefined ?? gte, cursor)
  }

  /** The next chunk; undefined at the end. */
  async next (): Promise<StagedChunk | undefined> {
    const chunk = await this.#ahead
    if (chunk === undefined) return undefined
    this.#ahead = this.#read()
    const end = (await this.#ahead)?.[0].subarray(1)
    const scan = new EntryScan(chunk[1])
    const cursor = this.#cursor
    this.#cursor = undefined
    while (scan.next()) if (cursor === undefined || scan.compareKey(cursor) > 0) return { scan, end }
    return await this.next()
  }

  async close (): Promise<void> {
    await this.#chunks.close()
  }

  #read (): Promise<[Buffer, Buffer] | undefined> {
    const reading = this.#chunks.next()
    reading.catch(() => {}) // thrown where it is awaited
    return reading
  }
}
