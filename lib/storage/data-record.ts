/**
 * What is stored under a user's key in the data keyspace: the value, and behind it the stamp of the version that it is,
 * which then is the only one of its key, and needs no version record; or, where there is a version record, one byte
 * that ends no stamp.
 *
 * So most keys are one record, and a reader of text gets text: what it takes off the end is a slice.
 */
import { noStamp, stampStart, stampStartInText } from '../codec/stamp.ts'
import type { Bytes } from './engine.ts'

const end = Buffer.of(noStamp)
const endText = String.fromCharCode(noStamp)

/** The record of a value that has no stamp. */
export function unstamped (value: Bytes): Buffer | string {
  return typeof value === 'string' ? value + endText : Buffer.concat([value, end])
}

export function isStamped (data: Uint8Array): boolean {
  return data[data.length - 1] !== noStamp
}

export function isStampedText (data: string): boolean {
  return data.charCodeAt(data.length - 1) !== noStamp
}

/** The value of a record, as a part of it. */
export function valueOf<Data extends Bytes | undefined> (data: Data): Data
export function valueOf (data: Bytes | undefined): Bytes | undefined {
  if (data === undefined) return undefined
  if (typeof data !== 'string') return data.subarray(0, isStamped(data) ? stampStart(data) : -1)
  return data.slice(0, isStampedText(data) ? stampStartInText(data) : -1)
}
