/**
 * A number for a key, which other keys mostly do not have.
 *
 * Source: the hash FNV-1a, of Fowler, Noll and Vo.
 */
import { hashedBytesMax } from '../limits.ts'

/** Of a key, or of the end of a long one. Its low bits will do. */
export function hashOf (bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5
  for (let index = Math.max(start, end - hashedBytesMax); index < end; index++) hash = Math.imul(hash ^ bytes[index]!, 0x01000193)
  return hash ^ (hash >>> 15)
}
