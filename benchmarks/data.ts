/**
 * Keys and values: a pure function of an index, so that every process knows what the others wrote.
 *
 * Keys are 16 bytes in random order. Values are 100 bytes of noise that Snappy cannot compress. Both are ASCII, and
 * so have the same bytes as strings and as buffers. Strings are made flat: slices would be flattened at their first
 * use, inside of what is timed.
 */
import { createCipheriv } from 'node:crypto'

export type Encoding = 'utf8' | 'buffer'
export type Datum = string | Buffer

export interface Put {
  readonly type: 'put'
  readonly key: Datum
  readonly value: Datum
}

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const valueBytes = 100

const noise = Buffer.from(
  createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16, 9)).update(Buffer.alloc(3 << 20)).toString('base64'), 'latin1'
)

/** A permutation of 32-bit integers that looks random. */
function mix (integer: number): number {
  let bits = Math.imul(integer ^ (integer >>> 16), 0x7feb352d)
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b)
  return (bits ^ (bits >>> 16)) >>> 0
}

export function keyOf (index: number, encoding: Encoding): Datum {
  const bytes = Buffer.allocUnsafeSlow(16)
  for (let word = 0; word < 4; word++) {
    const bits = mix(index + word * 0x3c6ef372)
    for (let letter = 0; letter < 4; letter++) bytes[word * 4 + letter] = alphabet.charCodeAt((bits >>> (letter * 6 + 8)) & 63)
  }
  return encoding === 'buffer' ? bytes : bytes.toString('latin1')
}

/** @param generation tells the values apart that a key gets one after another. */
export function valueOf (index: number, encoding: Encoding, generation = 0): Datum {
  const offset = mix(Math.imul(index, 31) + Math.imul(generation, 0x9e3779b1) + 12345) % (noise.length - valueBytes)
  const bytes = noise.subarray(offset, offset + valueBytes)
  return encoding === 'buffer' ? Buffer.from(bytes) : bytes.toString('latin1')
}

export function putsOf (from: number, count: number, encoding: Encoding, generation = 0): Put[] {
  return Array.from({ length: count }, (_, position) => {
    const index = from + position
    return { type: 'put', key: keyOf(index, encoding), value: valueOf(index, encoding, generation) }
  })
}

/** An array in pieces of at most `size`. */
export function windowsOf<T> (items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size))
}
