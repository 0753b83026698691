/**
 * What has been committed since the last unit, as live streams send it: an inner batch, or what of one counts so far. What it
 * advanced and collected, then the entries of the keys that it changed, each key once, with its whole set and the values
 * that are new.
 */
import { ByteWriter } from '../codec/bytes.ts'
import { writeAdvances } from '../codec/advances.ts'
import type { Entry } from '../codec/entry.ts'
import type { Advance, VersionVector } from '../core/version-vector.ts'

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

/** Collects the entries of a unit. */
export class UnitEntries {
  readonly #writer = new ByteWriter(256)
  /** Where each entry begins, and the last one of each key. */
  readonly #starts: number[] = []
  readonly #lastOfKey = new Map<string, number>()

  /**
   * Begins the entry of a key, which takes the place of an earlier one; its body is to be written to what is returned.
   *
   * @param keyText the key as a binary string
   * @param bytes where the key stands, from `start` to `end`
   */
  begin (keyText: string, bytes: Buffer, start: number, end: number): ByteWriter {
    this.#lastOfKey.set(keyText, this.#starts.length)
    this.#starts.push(this.#writer.length)
    return this.#writer.varint(end - start).part(bytes, start, end)
  }

  encode (changes: readonly Advance[], collected: readonly Advance[]): Buffer {
    const entries = this.#writer.view()
    const head = new ByteWriter(32 * (changes.length + collected.length) + 16)
    writeAdvances(head, changes)
    writeAdvances(head, collected)
    if (this.#lastOfKey.size === this.#starts.length) return Buffer.concat([head.view(), entries])
    for (const index of this.#lastOfKey.values()) head.part(entries, this.#starts[index]!, this.#starts[index + 1] ?? entries.length)
    return head.take()
  }
}
