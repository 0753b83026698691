/**
 * Frames on a stream of bytes: the length of each as a varint, then as many bytes.
 *
 * A frame that came in one chunk is a view of it; any other is copied together as it comes, into memory that grows
 * with what has come and not with what was promised. So a peer that sends its bytes one by one costs no more than
 * any other (a list of chunks would cost a hundred bytes for each).
 */
import { ReplicationError } from '../errors.ts'
import { malformed } from './bytes.ts'

const nothing = Buffer.alloc(0)
const firstCapacity = 4096
/** Memory for a frame is at most so many times what has come of it. */
const capacityFactor = 4
const copiedBytesMax = 4096

/** How a TLS record begins: an alert, or a handshake, of any version. No first frame of a replica begins so. */
const tlsAlert = 0x15
const tlsHandshake = 0x16
const tlsMajor = 0x03

/** Frames as they go out: small ones that follow one another in one chunk, large ones without being copied. */
export function encodeFrames (frames: readonly Uint8Array[]): Uint8Array[] {
  const chunks: Uint8Array[] = []
  for (let from = 0; from < frames.length;) {
    let bytes = 0
    let to = from
    for (let isSmall = true; isSmall && to < frames.length; to++) {
      const { length } = frames[to]!
      isSmall = length <= copiedBytesMax
      bytes += prefixBytesOf(length) + (isSmall ? length : 0)
    }
    const chunk = Buffer.allocUnsafe(bytes)
    chunks.push(chunk)
    for (let offset = 0; from < to; from++) {
      const frame = frames[from]!
      offset = writeLength(chunk, offset, frame.length)
      if (frame.length > copiedBytesMax) chunks.push(frame)
      else chunk.set(frame, offset)
      offset += frame.length
    }
  }
  return chunks
}

function prefixBytesOf (length: number): number {
  return length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4
}

function writeLength (chunk: Buffer, offset: number, length: number): number {
  for (; length >= 0x80; length >>>= 7) chunk[offset++] = length | 0x80
  chunk[offset++] = length
  return offset
}

export class FrameReader {
  readonly #bytesMax: number
  #first = true
  /** The length prefix, as far as it has come. */
  #prefix = 0
  #prefixBytes = 0
  /** Length of the frame that is being read; undefined while its prefix is. */
  #length: number | undefined
  #frame = nothing
  #filled = 0

  constructor (bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Whether a frame has begun that is not complete. */
  get isInside (): boolean {
    return this.#prefixBytes > 0 || this.#length !== undefined
  }

  /**
   * The frames that are complete with this chunk. Valid as long as the chunk is.
   *
   * @throws `REPLICATION_FRAME_TOO_LARGE`, `REPLICATION_PROTOCOL`, `REPLICATION_AUTHENTICATION_FAILED` if it is TLS
   */
  * read (bytes: Uint8Array): Generator<Buffer> {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let offset = 0; ;) {
      while (this.#length === undefined) {
        if (offset === chunk.length) return
        this.#readPrefix(chunk[offset++]!)
      }
      const length = this.#length
      if (this.#filled === 0 && chunk.length - offset >= length) {
        const frame = chunk.subarray(offset, offset + length)
        offset += length
        this.#next(frame)
        yield frame
        continue
      }
      if (offset === chunk.length) return
      offset += this.#collect(chunk, offset, length)
      if (this.#filled < length) return
      const frame = this.#frame.subarray(0, length)
      this.#next(frame)
      yield frame
    }
  }

  #readPrefix (byte: number): void {
    this.#prefix += (byte & 0x7f) * 2 ** (7 * this.#prefixBytes++)
    if (byte >= 0x80) {
      if (this.#prefixBytes === 8) throw malformed('A length of more than 8 bytes')
      return
    }
    if (byte === 0 && this.#prefixBytes > 1) throw malformed('A length that is not in its shortest form')
    if (this.#prefix > this.#bytesMax) throw new ReplicationError(`A frame of ${this.#prefix} bytes, at most ${this.#bytesMax} are allowed`, { code: 'REPLICATION_FRAME_TOO_LARGE' })
    this.#length = this.#prefix
    this.#prefix = this.#prefixBytes = 0
  }

  /** Takes what the chunk has of the frame; returns how much. */
  #collect (chunk: Buffer, offset: number, length: number): number {
    if (this.#first && this.#filled === 0) refuseTls(length, chunk[offset])
    const taken = Math.min(chunk.length - offset, length - this.#filled)
    if (this.#filled + taken > this.#frame.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(length, Math.max(firstCapacity, capacityFactor * (this.#filled + taken))))
      this.#frame.copy(grown, 0, 0, this.#filled)
      this.#frame = grown
    }
    chunk.copy(this.#frame, this.#filled, offset, offset + taken)
    this.#filled += taken
    return taken
  }

  #next (frame: Buffer): void {
    if (this.#first) {
      this.#first = false
      refuseTls(frame.length, frame[0])
    }
    this.#length = undefined
    this.#filled = 0
    this.#frame = nothing
  }
}

function refuseTls (length: number, firstByte: number | undefined): void {
  if (firstByte !== tlsMajor || (length !== tlsAlert && length !== tlsHandshake)) return
  throw new ReplicationError('The other end speaks TLS: it has a secret or certificates, and this replica has none', { code: 'REPLICATION_AUTHENTICATION_FAILED' })
}
