/**
 * The database's own encodings as functions from and to bytes, for versions that resolvers and events see.
 */
import { Transcoder } from 'level-transcoder'

/** What `keyEncoding` and `valueEncoding` accept: a name or an encoding object; whatever is falsy stands for text, as in abstract-level. */
type EncodingOption = unknown

export function bytesEncodings (keyEncoding: EncodingOption, valueEncoding: EncodingOption): { decodeKey: (bytes: Uint8Array) => unknown, decodeValue: (bytes: Uint8Array) => unknown, encodeValue: (value: unknown) => Uint8Array } {
  const transcoder = new Transcoder<Buffer>(['buffer'])
  const key = transcoder.encoding((keyEncoding || 'utf8') as string)
  const value = transcoder.encoding((valueEncoding || 'utf8') as string)
  return {
    decodeKey: (bytes) => decodeOrBytes(key, bytes),
    decodeValue: (bytes) => decodeOrBytes(value, bytes),
    encodeValue: (decoded) => bytesIn(value.encode(decoded))
  }
}

/** Text or any view, as what a put is given; what has no bytes is no empty value here. */
function bytesIn (encoded: unknown): Buffer {
  if (Buffer.isBuffer(encoded)) return encoded
  if (typeof encoded === 'string') return Buffer.from(encoded)
  if (ArrayBuffer.isView(encoded)) return Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength)
  throw new TypeError(`The value encoding has no bytes for it, but something of type ${typeof encoded}`)
}

function decodeOrBytes (encoding: { decode (bytes: Buffer): unknown }, bytes: Uint8Array): unknown {
  const buffer = bytesIn(bytes)
  try {
    return encoding.decode(buffer)
  } catch {
    return buffer
  }
}
