/**
 * A walk over the entries of a chunk that makes no object for an entry.
 *
 * Most entries of a long delivery are sets of one version. Of these it says where key, set, and value stand, and what
 * the version is; any other entry, and one that makes no sense, is left to the decoder of `entry`, which decodes it
 * or throws. What is said holds until the next call.
 */
import { hlcMax } from '../core/hlc.ts'
import { logIdBytes, type LogId } from '../core/ids.ts'
import { ByteReader } from './bytes.ts'
import { readEntry, type Entry } from './entry.ts'
import { readUint32 } from './integers.ts'
import { readStampSequence, readStampTime, stampBytesMax, stampEnd } from './stamp.ts'

/** What follows the key of a set of one: count, type, stamp, and a number of at most 8 bytes. */
const singleBytesMax = 1 + 1 + stampBytesMax + 8
/** Where the stamp begins, from the end of the key. */
export const stampOffset = 2

export class EntryScan {
  readonly bytes: Buffer
  /** Where this entry begins. */
  start = 0
  keyStart = 0
  /** Where the key ends and the sibling set begins. */
  keyEnd = 0
  /** Where the sibling set ends. */
  setEnd = 0
  /** Where this entry ends and the next one begins. */
  end = 0
  /** The decoded entry, if it is not a set of one. */
  entry: Entry | undefined
  // Of a set of one:
  put = false
  /** The same text for entries that follow each other. */
  log = '' as LogId
  hlc = 0
  sequence = 0
  /** Where its value begins, which ends with the entry; -1 if it is not here. */
  valueStart = -1
  #logHigh = -1
  #logLow = -1

  /** @param start where the first entry to come begins. */
  constructor (bytes: Buffer, start = 0) {
    this.bytes = bytes
    this.end = start
  }

  /** The bytes of the key, as a view. */
  get key (): Buffer {
    return this.bytes.subarray(this.keyStart, this.keyEnd)
  }

  /** Negative if the key is before `other`, positive if it is after it. */
  compareKey (other: Uint8Array, otherStart = 0, otherEnd = other.length): number {
    const { bytes, keyStart } = this
    const length = this.keyEnd - keyStart
    const otherLength = otherEnd - otherStart
    const common = Math.min(length, otherLength)
    for (let index = 0; index < common; index++) {
      const difference = bytes[keyStart + index]! - other[otherStart + index]!
      if (difference !== 0) return difference
    }
    return length - otherLength
  }

  /** The entry at hand, decoded. */
  decoded (): Entry {
    return this.entry ?? readEntry(new ByteReader(this.bytes, this.start))
  }

  /** Goes to the next entry; false if there is none. */
  next (): boolean {
    const { bytes } = this
    this.start = this.end
    if (this.start === bytes.length) return false
    let offset = this.start
    let length = bytes[offset++]!
    if (length >= 0x80) {
      const more = bytes[offset++]!
      if (more === 0 || more >= 0x80) return this.#decode()
      length = (length & 0x7f) + more * 0x80
    }
    this.keyStart = offset
    this.keyEnd = offset += length
    if (offset + singleBytesMax > bytes.length || bytes[offset] !== 1) return this.#decode()

    const type = bytes[offset + 1]!
    offset += stampOffset
    const end = stampEnd(bytes, offset)
    this.hlc = readStampTime(bytes, end)
    this.sequence = readStampSequence(bytes, offset, end)
    if (type > 1 || !this.#readLog(offset) || !(this.hlc <= hlcMax) || Number.isNaN(this.sequence)) return this.#decode()
    this.setEnd = offset = end
    this.put = type === 1
    this.valueStart = -1
    this.entry = undefined
    this.end = offset
    return !this.put || this.#readValue(offset) || this.#decode()
  }

  /** Whether it is the id of a log. */
  #readLog (offset: number): boolean {
    const high = readUint32(this.bytes, offset)
    const low = readUint32(this.bytes, offset + 4)
    if (high === this.#logHigh && low === this.#logLow) return true
    if (((high | low) & 0x80808080) !== 0) return false
    this.#logHigh = high
    this.#logLow = low
    this.log = this.bytes.latin1Slice(offset, offset + logIdBytes) as LogId
    return true
  }

  #readValue (offset: number): boolean {
    const { bytes } = this
    let length = bytes[offset++]!
    if (length >= 0x80) {
      const second = bytes[offset++]!
      length = (length & 0x7f) + (second & 0x7f) * 0x80
      if (second >= 0x80) {
        const third = bytes[offset++]!
        if (third >= 0x80 || third === 0) return false
        length += third * 0x4000
      } else if (second === 0) {
        return false
      }
    }
    if (length > 0) {
      this.valueStart = offset
      offset += length - 1
      if (offset > bytes.length) return false
    }
    this.end = offset
    return true
  }

  #decode (): true {
    const reader = new ByteReader(this.bytes, this.start)
    this.entry = readEntry(reader)
    this.end = reader.offset
    this.keyStart = this.entry.key.byteOffset - this.bytes.byteOffset
    this.keyEnd = this.keyStart + this.entry.key.length
    this.setEnd = this.keyEnd
    return true
  }
}
