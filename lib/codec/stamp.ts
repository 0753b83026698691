/**
 * The stamp of a version: its dot and its time, in bytes below 0x80, so that text with a stamp behind it is still text.
 *
 *     stamp = log id, sequence (6 bits a byte, the most significant ones first; all but the first byte plus 0x40), time (5
 *             bits, six times 7 bits, 6 bits)
 *
 * So it can be read from either end: the time begins and ends with a byte below 0x40. The sequence stands between what many
 * stamps have in common, lest LevelDB's blocks are compressed for nothing but stamps: what they hold would be read at twice
 * the cost.
 */
import type { Hlc } from '../core/hlc.ts'
import { logIdBytes, type LogId } from '../core/ids.ts'
import { highOf, lowOf } from './integers.ts'

const timeBytes = 8
const sequenceBytesMax = 9
export const stampBytesMin = logIdBytes + 1 + timeBytes
export const stampBytesMax = logIdBytes + sequenceBytesMax + timeBytes
/** A byte that ends no stamp. */
export const noStamp = 0x40
const more = 0x40

/** Returns where it ends. */
export function writeStamp (target: Buffer, offset: number, log: LogId, hlc: Hlc, sequence: number): number {
  target.latin1Write(log, offset)
  return writeStampTime(target, writeStampSequence(target, offset + logIdBytes, sequence), hlc)
}

/** Returns where it ends. */
export function writeStampSequence (target: Buffer, offset: number, sequence: number): number {
  let end = offset + 1
  for (let rest = sequence; rest >= 0x40; rest = Math.floor(rest / 0x40)) end++
  let rest = sequence
  for (let index = end - 1; index > offset; index--) {
    target[index] = (rest & 0x3f) | more
    rest = Math.floor(rest / 0x40)
  }
  target[offset] = rest
  return end
}

/** Returns where it ends. */
export function writeStampTime (target: Buffer, offset: number, hlc: Hlc): number {
  const high = highOf(hlc)
  const low = lowOf(hlc)
  target[offset] = high >>> 16
  target[offset + 1] = (high >>> 9) & 0x7f
  target[offset + 2] = (high >>> 2) & 0x7f
  target[offset + 3] = ((high << 5) | (low >>> 27)) & 0x7f
  target[offset + 4] = (low >>> 20) & 0x7f
  target[offset + 5] = (low >>> 13) & 0x7f
  target[offset + 6] = (low >>> 6) & 0x7f
  target[offset + 7] = low & 0x3f
  return offset + timeBytes
}

/** Where a stamp that begins at `offset` ends. */
export function stampEnd (bytes: Uint8Array, offset: number): number {
  const last = offset + stampBytesMax
  let end = offset + stampBytesMin
  while (bytes[end - timeBytes]! >= more && end < last) end++
  return end
}

/** The time of a stamp that ends at `end`; NaN if it makes no sense. */
export function readStampTime (bytes: Uint8Array, end: number): Hlc {
  const at = end - timeBytes
  const high = (bytes[at]! << 14) | (bytes[at + 1]! << 7) | bytes[at + 2]!
  const low = (bytes[at + 3]! << 21) | (bytes[at + 4]! << 14) | (bytes[at + 5]! << 7) | bytes[at + 6]!
  const any = (bytes[at]! << 1) | bytes[at + 1]! | bytes[at + 2]! | bytes[at + 3]! | bytes[at + 4]! | bytes[at + 5]! | bytes[at + 6]! | (bytes[at + 7]! << 1)
  return any < 0x80 ? (high * 0x1000_0000 + low) * 0x40 + bytes[at + 7]! : NaN
}

/** The sequence of a stamp that begins and ends there; NaN if it makes no sense. */
export function readStampSequence (bytes: Uint8Array, start: number, end: number): number {
  const first = start + logIdBytes
  let sequence = bytes[first]!
  if (sequence >= more || (sequence === 0 && first + 1 < end - timeBytes)) return NaN
  for (let index = first + 1; index < end - timeBytes; index++) {
    const digit = bytes[index]! - more
    if (digit < 0 || digit >= more) return NaN
    sequence = sequence * 0x40 + digit
  }
  return sequence > 0 && Number.isSafeInteger(sequence) ? sequence : NaN
}

/** Where the stamp begins that ends where the bytes end. */
export function stampStart (bytes: Uint8Array): number {
  let index = bytes.length - timeBytes - 1
  while (bytes[index]! >= more) index--
  return index - logIdBytes
}

/** The same, of text. */
export function stampStartInText (text: string): number {
  let index = text.length - timeBytes - 1
  while (text.charCodeAt(index) >= more) index--
  return index - logIdBytes
}
