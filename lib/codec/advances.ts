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
  return { log: reader.logId(), hlc: reader.hlc(), sequence: reader.varint() }
}

export function writeAdvances (writer: ByteWriter, advances: readonly Advance[]): void {
  writer.varint(advances.length)
  for (const advance of advances) writeAdvance(writer, advance)
}

export function readAdvances (reader: ByteReader, countMax = logsMax): Advance[] {
  const advances = readPlaces(reader, countMax)
  if (advances.some(({ sequence }) => sequence === 0)) throw malformed('A log at sequence 0 in a vector')
  return advances
}

/** The same, where a log may also stand at its beginning. */
export function readPlaces (reader: ByteReader, countMax = logsMax): Advance[] {
  const count = reader.count(countMax, 16)
  const places = new Array<Advance>(count)
  for (let index = 0; index < count; index++) places[index] = readAdvance(reader)
  return places
}
