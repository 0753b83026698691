/**
 * Which entries of a unit are the last ones of their keys, by a table of hashes that is used again and again: a text for
 * each key, and a map of these, took a third of all that a write took for its live peers.
 */
import { hashOf } from './key-hash.ts'

/** Numbers of entries, counted from 1, at the hash of their key or behind it; 0 where there is none. */
let table = new Int32Array(1024)

/** So many looks for each entry, and somebody has chosen the keys for it. */
const looksMax = 16

/**
 * @param starts where each entry begins, by its key
 * @param keyEnds where each key ends
 * @returns 1 for each that is the last of its key, 0 for any other; undefined if all are
 */
export function lastsOfKeys (bytes: Buffer, starts: readonly number[], keyEnds: readonly number[]): Uint8Array | undefined {
  const { length } = starts
  if (length < 2) return undefined
  let slots = 4
  while (slots < 2 * length) slots *= 2
  if (slots > table.length) table = new Int32Array(slots)
  else table.fill(0, 0, slots)
  let isLast: Uint8Array | undefined
  let looks = 0
  for (let index = length - 1; index >= 0; index--) {
    const start = starts[index]!
    const end = keyEnds[index]!
    let slot = hashOf(bytes, start, end) & (slots - 1)
    let other = table[slot]! - 1
    while (other >= 0 && !isEqual(bytes, start, end, starts[other]!, keyEnds[other]!)) {
      if (++looks > looksMax * length) return byMap(bytes, starts, keyEnds)
      slot = (slot + 1) & (slots - 1)
      other = table[slot]! - 1
    }
    if (other < 0) table[slot] = index + 1
    else (isLast ??= new Uint8Array(length).fill(1))[index] = 0
  }
  return isLast
}

function isEqual (bytes: Buffer, start: number, end: number, otherStart: number, otherEnd: number): boolean {
  if (end - start !== otherEnd - otherStart) return false
  for (let offset = end - start - 1; offset >= 0; offset--) if (bytes[start + offset] !== bytes[otherStart + offset]) return false
  return true
}

function byMap (bytes: Buffer, starts: readonly number[], keyEnds: readonly number[]): Uint8Array {
  const lasts = new Map(starts.map((start, index) => [bytes.latin1Slice(start, keyEnds[index]!), index]))
  const isLast = new Uint8Array(starts.length)
  for (const index of lasts.values()) isLast[index] = 1
  return isLast
}
