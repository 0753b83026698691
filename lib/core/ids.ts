/**
 * Names of replicas and logs.
 *
 * A log id is 8 random bytes below 0x80, so that it is text wherever it stands, a replica id 16 random bytes. In memory
 * a log id is a *binary string*, one character a byte, so that it can be a Map key, compares like its bytes and moves to
 * and from a Buffer without a detour; people see hexadecimal. A replica id is always its hexadecimal text.
 */
declare const logIdBrand: unique symbol

/** Eight bytes as a binary string. */
export type LogId = string & { readonly [logIdBrand]: true }

/** Thirty-two hexadecimal digits. */
export type ReplicaId = string

export const logIdBytes = 8
export const replicaIdBytes = 16

/** The log id that these 8 bytes name. */
export function logIdFrom (bytes: Uint8Array): LogId {
  if (bytes.length !== logIdBytes) throw new RangeError(`A log id has ${logIdBytes} bytes, received ${bytes.length}`)
  return String.fromCharCode(...bytes) as LogId
}

/** A new log id, of 8 random bytes. */
export function newLogId (random: Uint8Array): LogId {
  return logIdFrom(random.map((byte) => byte & 0x7f))
}

/** Whether all bytes of a binary string may stand in a log id. */
export function isLogId (text: string): text is LogId {
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) >= 0x80) return false
  return true
}

/** The log id as people see it: 16 hexadecimal digits. */
export function formatLogId (log: LogId): string {
  return Buffer.from(log, 'latin1').toString('hex')
}

export function replicaIdFrom (bytes: Uint8Array): ReplicaId {
  if (bytes.length !== replicaIdBytes) throw new RangeError(`A replica id has ${replicaIdBytes} bytes, received ${bytes.length}`)
  return Buffer.from(bytes).toString('hex')
}
