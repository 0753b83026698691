/**
 * Integers of 32 bits, the most significant byte first. Buffer's own methods check where they write and what, which takes
 * five calls; here that is known.
 */
const two32 = 0x1_0000_0000

/** The low 32 bits of a safe integer. */
export function lowOf (value: number): number {
  return value >>> 0
}

/** What of a safe integer is above its low 32 bits. */
export function highOf (value: number): number {
  return value / two32 >>> 0
}

export function writeUint32 (target: Uint8Array, offset: number, value: number): void {
  target[offset] = value >>> 24
  target[offset + 1] = value >>> 16
  target[offset + 2] = value >>> 8
  target[offset + 3] = value
}

export function readUint32 (source: Uint8Array, offset: number): number {
  return (source[offset]! << 24 | source[offset + 1]! << 16 | source[offset + 2]! << 8 | source[offset + 3]!) >>> 0
}

/** The integer with this high and low part. */
export function joinedOf (high: number, low: number): number {
  return high * two32 + low
}
