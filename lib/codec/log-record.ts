/**
 * One record of a log: which keys a transaction wrote, at which sequences. Values are not repeated.
 *
 *     record = timestamp, then for each operation: sequence minus the first of the record, key length, key
 */
import type { Hlc } from '../core/hlc.ts'
import { keyBytesMax } from '../limits.ts'
import { ByteReader } from './bytes.ts'

export interface LogOperation {
  readonly sequence: number
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
    const sequence = first + reader.varint()
    operations.push({ sequence, key: reader.bytes(keyBytesMax) })
  }
  return { hlc, operations }
}
