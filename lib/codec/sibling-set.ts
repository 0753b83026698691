/**
 * A sibling set as it stands on disk and on the wire: a count, then for each sibling one byte for its type (0 a
 * delete, 1 a put) and its stamp; in the order of `compareSiblings`.
 */
import { compareSiblings, noSiblings, type Sibling, type SiblingSet } from '../core/siblings.ts'
import { ByteReader, malformed, type ByteWriter } from './bytes.ts'
import { stampBytesMin } from './stamp.ts'

export function writeSiblings (writer: ByteWriter, siblings: SiblingSet): void {
  writer.varint(siblings.length)
  for (let index = 0; index < siblings.length; index++) {
    const sibling = siblings[index]!
    writer.byte(sibling.type === 'put' ? 1 : 0).stamp(sibling)
  }
}

/** As many as there are bytes for: what comes in two halves is whole after a merge, and has to be taken by others. */
export function readSiblings (reader: ByteReader): SiblingSet {
  const count = reader.count(Infinity, 1 + stampBytesMin)
  const siblings = new Array<Sibling>(count)
  for (let index = 0; index < count; index++) {
    const type = reader.byte()
    if (type > 1) throw malformed(`A version of type ${type}`)
    const { log, sequence, hlc } = reader.stamp()
    const sibling: Sibling = { log, sequence, hlc, type: type === 1 ? 'put' : 'del' }
    if (index > 0 && compareSiblings(siblings[index - 1]!, sibling) >= 0) throw malformed('Versions out of order')
    siblings[index] = sibling
  }
  return siblings
}

/** A version record; where there is none there are no siblings. */
export function decodeSiblings (bytes: Uint8Array | undefined): SiblingSet {
  if (bytes === undefined) return noSiblings
  const reader = new ByteReader(bytes)
  const siblings = readSiblings(reader)
  reader.end()
  return siblings
}
