/**
 * The stamp of a version: its dot and its time, in bytes below 0x80, so that text with a stamp behind it is still text.
 *
 *     stamp = log id, time (seven bytes of 7 bits, then one of 6), sequence (6 bits a byte, the most significant ones first;
 *             all but the last byte plus 0x40)
 *
 * So it can be read from either end: before the last byte, those of the sequence are 0x40 or more, and the last one of the time is less.
 */
import type { Hlc } from '../core/hlc.ts'
import { logIdBytes, type LogId } from '../core/ids.ts'

const timeBytes = 8
/** What stands before the sequence. */
export const stampHeadBytes = logIdBytes + timeBytes
const sequenceBytesMax = 9
export const stampBytesMin = stampHeadBytes + 1
export const stampBytesMax = stampHeadBytes + sequenceBytesMax
/** A byte that ends no stamp. */
export const noStamp = 0x40
const more = 0x40

/** Writes log and time; returns where the sequence is to follow. */
export function writeStampHead (target: Buffer, offset: number, log: LogId, hlc: Hlc): number {
  target.latin1Write(log, offset)
  let rest = Math.floor(hlc / 0x40)
  target[offset + 15] = hlc % 0x40
  for (let index = 14; index >= 8; index--) {
    target[offset + index] = rest % 0x80
    rest = Math.floor(rest / 0x80)
  }
  return offset + stampHeadBytes
}

/** Returns where it ends. */
export function writeStampSequence (target: Buffer, offset: number, sequence: number): number {
  let end = offset + 1
  for (let rest = Math.floor(sequence / 0x40); rest > 0; rest = Math.floor(rest / 0x40)) end++
  target[end - 1] = sequence % 0x40
  let rest = Math.floor(sequence / 0x40)
  for (let index = end - 2; index >= offset; index--) {
    target[index] = (rest % 0x40) | more
    rest = Math.floor(rest / 0x40)
  }
  return end
}

/** The time of a stamp that begins at `offset`; NaN if it makes no sense. */
export function readStampTime (bytes: Uint8Array, offset: number): Hlc {
  const at = offset + logIdBytes
  const high = (bytes[at]! << 14) | (bytes[at + 1]! << 7) | bytes[at + 2]!
  const low = (bytes[at + 3]! << 21) | (bytes[at + 4]! << 14) | (bytes[at + 5]! << 7) | bytes[at + 6]!
  const any = bytes[at]! | bytes[at + 1]! | bytes[at + 2]! | bytes[at + 3]! | bytes[at + 4]! | bytes[at + 5]! | bytes[at + 6]! | (bytes[at + 7]! << 1)
  return any < 0x80 ? (high * 0x1000_0000 + low) * 0x40 + bytes[at + 7]! : NaN
}

/** Where a stamp that begins at `offset` ends. */
export function stampEnd (bytes: Uint8Array, offset: number): number {
  const last = offset + stampBytesMax
  let end = offset + stampBytesMin
  while (bytes[end - 1]! >= more && end < last) end++
  return end
}

/** The sequence of a stamp, from where its head ends to where it ends itself; NaN if it makes no sense. */
export function readStampSequence (bytes: Uint8Array, start: number, end: number): number {
  let sequence = 0
  for (let index = start; index < end - 1; index++) {
    const digit = bytes[index]! - more
    if (digit >= more || (digit === 0 && index === start)) return NaN
    sequence = sequence * 0x40 + digit
  }
  const last = bytes[end - 1]!
  sequence = sequence * 0x40 + last
  return last < more && sequence > 0 && Number.isSafeInteger(sequence) ? sequence : NaN
}

/** Where the stamp begins that ends where the bytes end. */
export function stampStart (bytes: Uint8Array): number {
  let index = bytes.length - 2
  while (bytes[index]! >= more) index--
  return index + 1 - stampHeadBytes
}

/** The same, of text. */
export function stampStartInText (text: string): number {
  let index = text.length - 2
  while (text.charCodeAt(index) >= more) index--
  return index + 1 - stampHeadBytes
}
