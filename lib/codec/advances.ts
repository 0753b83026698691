/**
 * Version vectors and their differences: a count, then for each log its id, sequence and timestamp.
 */
import type { Advance } from '../core/version-vector.ts'
import { logsMax } from '../limits.ts'
import { malformed, type ByteReader, type ByteWriter } from './bytes.ts'

function writeAdvance (writer: ByteWriter, { log, sequence, hlc }: Advance): void {
  writer.logId(log).hlc(hlc).varint(sequence)
}

function readAdvance (reader: ByteReader): Advance {
  const log = reader.logId()
  const hlc = reader.hlc()
  const sequence = reader.varint()
  if (sequence === 0) throw malformed('A log at sequence 0 in a vector')
  return { log, sequence, hlc }
}

export function writeAdvances (writer: ByteWriter, advances: readonly Advance[]): void {
  writer.varint(advances.length)
  for (const advance of advances) writeAdvance(writer, advance)
}

export function readAdvances (reader: ByteReader, countMax = logsMax): Advance[] {
  const count = reader.count(countMax, 16)
  const advances = new Array<Advance>(count)
  for (let index = 0; index < count; index++) advances[index] = readAdvance(reader)
  return advances
}
