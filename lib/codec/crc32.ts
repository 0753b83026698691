/**
 * The checksum CRC-32 of ISO-HDLC, as in zlib and Ethernet: Node.js has it since 20.15, and versions before that find it here.
 *
 * Source: RFC 1952, section 8.
 */
import zlib from 'node:zlib'

type Checksum = (data: Uint8Array | string, before?: number) => number

const polynomial = 0xedb88320

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte
  for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? (remainder >>> 1) ^ polynomial : remainder >>> 1
  return remainder
})

/** @param before the checksum of what comes before the data. */
export const crc32ByTable: Checksum = (data, before = 0) => {
  let remainder = ~before
  for (const byte of typeof data === 'string' ? Buffer.from(data) : data) remainder = (remainder >>> 8) ^ table[(remainder ^ byte) & 0xff]!
  return ~remainder >>> 0
}

export const crc32: Checksum = (zlib as { crc32?: Checksum }).crc32 ?? crc32ByTable
