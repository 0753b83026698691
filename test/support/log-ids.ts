import { logIdBytes, logIdFrom, type LogId } from '../../lib/core/ids.ts'

/** A log id for each number, in their order. */
export function numberedLog (number: number): LogId {
  const bytes = new Uint8Array(logIdBytes)
  for (let index = logIdBytes - 1, rest = number; rest > 0; index--, rest = Math.floor(rest / 0x80)) bytes[index] = rest % 0x80
  return logIdFrom(bytes)
}
