/**
 * One record of a log: which keys a transaction wrote or deleted, at which sequences. Values are not repeated.
 *
 *     record = timestamp, then for each operation: twice its sequence minus the first of the record, plus 1 for a put;
 *              key length, key
 */
import type { Hlc } from '../core/hlc.ts'
import { keyBytesMax } from '../limits.ts'
import type { Sibling } from '../core/siblings.ts'
import { ByteReader, ByteWriter } from './bytes.ts'

export interface LogOperation {
  readonly sequence: number
  readonly type: Sibling['type']
  readonly key: Buffer
}

export interface LogRecord {
  readonly hlc: Hlc
  readonly operations: readonly LogOperation[]
}

export function decodeLogRecord (first: number, bytes: Uint8Array): LogRecord {
  const reader = new ByteReader(bytes)
  const hlc = reader.hlc()
  const operations: LogOperation[] = []
  while (reader.remaining > 0) {
    const { offset, type } = decodeLogOffset(reader.varint())
    operations.push({ sequence: first + offset, type, key: reader.bytes(keyBytesMax) })
  }
  return { hlc, operations }
}

/** The keys of a record as binary strings, decoded as they are asked for: it may be long. */
export function * keysOfLogRecord (bytes: Uint8Array): Generator<string> {
  const reader = new ByteReader(bytes)
  reader.hlc()
  while (reader.remaining > 0) {
    reader.varint()
    yield reader.latin1(keyBytesMax)
  }
}

/** When the operations of a record were made, and the sequence of the last one. */
export function endOfLogRecord (first: number, bytes: Uint8Array): { hlc: Hlc, sequence: number } {
  const reader = new ByteReader(bytes)
  const hlc = reader.hlc()
  let sequence = 0
  while (reader.remaining > 0) {
    sequence = first + decodeLogOffset(reader.varint()).offset
    reader.skipBytes(keyBytesMax)
  }
  return { hlc, sequence }
}

export function encodeLogRecord ({ hlc, operations }: LogRecord): Buffer {
  const writer = new ByteWriter().hlc(hlc)
  const first = operations[0]!.sequence
  for (const { sequence, type, key } of operations) writer.varint(encodeLogOffset(sequence - first, type)).bytes(key)
  return writer.take()
}

/** Where an operation stands in its record, and of which type it is, in one number. */
export function encodeLogOffset (offset: number, type: Sibling['type']): number {
  return offset * 2 + (type === 'put' ? 1 : 0)
}

function decodeLogOffset (number: number): { offset: number, type: Sibling['type'] } {
  return { offset: Math.floor(number / 2), type: number % 2 === 1 ? 'put' : 'del' }
}
