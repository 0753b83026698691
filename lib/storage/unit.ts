/**
 * What has been committed since the last unit, as live streams send it: an inner batch, or what of one counts so far. What it
 * advanced and collected, then the entries of the keys that it changed, each key once, with its whole set and the values
 * that are new.
 */
import { ByteWriter } from '../codec/bytes.ts'
import { writeAdvances } from '../codec/advances.ts'
import { decodeEntries, EncodedEntries, type Entry } from '../codec/entry.ts'
import type { Advance, VersionVector } from '../core/version-vector.ts'
import { entriesDecodedBytesMax, innerBatchBytesMax } from '../limits.ts'
import { lastsOfKeys } from './lasts-of-keys.ts'

export interface Unit {
  readonly changes: readonly Advance[]
  /** What it has collected. */
  readonly collected: readonly Advance[]
  /** Encoded changes, what was collected, and entries; undefined if nobody was there to be sent it, or it is no unit. */
  readonly body: Buffer | undefined
}

/** A live unit as it came, and the vector of the stream that it belongs to. */
export interface RemoteUnit {
  /** The sender's vector as of the last unit executed; the intake moves it on. */
  readonly stream: VersionVector
  readonly before: readonly Advance[]
  readonly changes: readonly Advance[]
  /** What the sender has collected in it. */
  readonly collected: readonly Advance[]
  readonly entries: Iterable<Entry>
  readonly bytes: number
}

/** The entries of a unit if they have been decoded. */
export function entriesOf ({ entries }: RemoteUnit): readonly Entry[] | undefined {
  return Array.isArray(entries) ? entries : undefined
}

/** Decodes what is not long. What makes no sense is left as it is, and found out when it is merged. */
export function withEntries (unit: RemoteUnit): RemoteUnit {
  const { entries } = unit
  if (!(entries instanceof EncodedEntries) || entries.bytes.length > entriesDecodedBytesMax) return unit
  try {
    return { ...unit, entries: decodeEntries(entries.bytes) }
  } catch {
    return unit
  }
}

/** Of a unit that has been encoded, for the next one: units of a busy replica are about as long as each other. */
let spare: ByteWriter | undefined
const spareBytesMax = innerBatchBytesMax

/** Collects the entries of a unit. */
export class UnitEntries {
  #writer: ByteWriter | undefined
  /** Where each entry begins, by its key, and where that ends. */
  readonly #starts: number[] = []
  readonly #keyEnds: number[] = []

  /**
   * Begins the entry of a key, which takes the place of an earlier one; its body is to be written to what is returned.
   *
   * @param bytes where the key stands, from `start` to `end`
   */
  begin (bytes: Buffer, start: number, end: number): ByteWriter {
    if (this.#writer === undefined) {
      this.#writer = spare ?? new ByteWriter(256)
      spare = undefined
    }
    this.#starts.push(this.#writer.length)
    this.#writer.varint(end - start).part(bytes, start, end)
    this.#keyEnds.push(this.#writer.length)
    return this.#writer
  }

  /** All that has been collected; it is empty afterwards. */
  encode (changes: readonly Advance[], collected: readonly Advance[]): Buffer {
    const writer = this.#writer
    const body = new ByteWriter(32 * (changes.length + collected.length) + 16 + (writer?.length ?? 0))
    writeAdvances(body, changes)
    writeAdvances(body, collected)
    if (writer === undefined) return body.view()
    const entries = writer.view()
    const starts = this.#starts
    const isLast = lastsOfKeys(entries, starts, this.#keyEnds)
    if (isLast === undefined) body.raw(entries)
    else for (let index = 0; index < starts.length; index++) if (isLast[index] === 1) body.part(entries, starts[index]!, starts[index + 1] ?? entries.length)
    if (writer.capacity <= spareBytesMax) spare = writer.reset()
    this.#writer = undefined
    starts.length = this.#keyEnds.length = 0
    return isLast === undefined ? body.view() : body.take() // the feed counts what it is long, not what else its memory holds
  }
}
