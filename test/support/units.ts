/**
 * Units as one piece of bytes; a session sends head and body without putting them together.
 */
import { encodeUnitHead } from '../../lib/codec/message.ts'
import type { Advance } from '../../lib/core/version-vector.ts'

export function encodeUnit (before: readonly Advance[], body: Uint8Array): Buffer {
  return Buffer.concat([encodeUnitHead(before), body])
}
