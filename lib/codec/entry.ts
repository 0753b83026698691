/**
 * One key in flight: the key, its whole sibling set, and the values that the receiver lacks.
 *
 *     entry = key length, key, sibling set, then for each put of the set in order: 0, or value length + 1 and value
 *
 * The same bytes are used in live units, in chunks of a catch-up or state transfer, and in the stage on disk.
 */
import { keyBytesMax } from '../limits.ts'
import type { SiblingSet } from '../core/siblings.ts'
import { ByteReader, type ByteWriter } from './bytes.ts'
import { readSiblings, writeSiblings } from './sibling-set.ts'

export interface Entry {
  readonly key: Buffer
  readonly siblings: SiblingSet
  /** Parallel to `siblings`: the value of a put, if it is here. */
  readonly values: ReadonlyArray<Uint8Array | undefined>
}

export function writeEntry (writer: ByteWriter, entry: Entry): void {
  writer.bytes(entry.key)
  writeEntryBody(writer, entry.siblings, entry.values)
}

export function writeEntryBody (writer: ByteWriter, siblings: SiblingSet, values: Entry['values']): void {
  writeSiblings(writer, siblings)
  for (let index = 0; index < siblings.length; index++) {
    if (siblings[index]!.type === 'put') writeValue(writer, values[index])
  }
}

export function writeValue (writer: ByteWriter, value: Uint8Array | string | undefined): void {
  if (value === undefined) {
    writer.varint(0)
  } else if (typeof value === 'string') {
    const length = Buffer.byteLength(value)
    writer.varint(length + 1).utf8(value, length)
  } else {
    writer.varint(value.length + 1).raw(value)
  }
}

export function readEntry (reader: ByteReader): Entry {
  const key = reader.bytes(keyBytesMax)
  const siblings = readSiblings(reader)
  const values = new Array<Buffer | undefined>(siblings.length)
  for (let index = 0; index < siblings.length; index++) {
    values[index] = undefined
    if (siblings[index]!.type !== 'put') continue
    const length = reader.varint()
    if (length > 0) values[index] = reader.raw(length - 1)
  }
  return { key, siblings, values }
}

/** Entries that are decoded as they are asked for: too many for one turn of the event loop. */
export class EncodedEntries implements Iterable<Entry> {
  readonly bytes: Buffer

  constructor (bytes: Buffer) {
    this.bytes = bytes
  }

  * [Symbol.iterator] (): Generator<Entry> {
    const reader = new ByteReader(this.bytes)
    while (reader.remaining > 0) yield readEntry(reader)
  }
}

/** All entries at once. */
export function decodeEntries (bytes: Uint8Array): Entry[] {
  const reader = new ByteReader(bytes)
  const entries: Entry[] = []
  while (reader.remaining > 0) entries.push(readEntry(reader))
  return entries
}
