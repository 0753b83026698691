/**
 * Reading and writing the primitives that all formats share: bytes, unsigned varints, ids, timestamps.
 *
 * A varint is LEB128: seven bits a byte, least significant first, at most eight bytes (2^53 - 1). The reader trusts
 * nothing: every length is checked against what is there before anything is sliced, and whatever is wrong ends in
 * one coded error.
 */
import { ReplicationError } from '../errors.ts'
import { isPossible, type Hlc } from '../core/hlc.ts'
import { isLogId, logIdBytes, type LogId } from '../core/ids.ts'
import type { Sibling } from '../core/siblings.ts'
import { highOf, joinedOf, lowOf, readUint32, writeUint32 } from './integers.ts'
import { readStampSequence, readStampTime, stampBytesMax, stampEnd, writeStamp } from './stamp.ts'

const hlcBytes = 7
const varintBytesMax = 8

/** Fewer bytes are copied sooner than the copying function of the engine is called. */
const copiedByHandMax = 32

export class ByteWriter {
  #buffer: Buffer
  #view: Buffer
  /** Of the buffer, which would have to be asked for it each time. */
  #capacity: number
  #length = 0

  constructor (capacity = 256) {
    this.#buffer = this.#view = Buffer.allocUnsafe(capacity)
    this.#capacity = capacity
  }

  get length (): number {
    return this.#length
  }

  /** Bytes of the memory that it holds. */
  get capacity (): number {
    return this.#capacity
  }

  /** Forgets what was written; the memory is used again. */
  reset (): this {
    this.#length = 0
    return this
  }

  /** What was written. Valid until the next write or reset. */
  view (): Buffer {
    // Small records, written one after another, mostly have the length of the one before.
    if (this.#view.length !== this.#length) this.#view = this.#buffer.subarray(0, this.#length)
    return this.#view
  }

  /** What was written, as bytes of its own. The writer is empty afterwards. */
  take (): Buffer {
    const bytes = Buffer.allocUnsafe(this.#length)
    this.#buffer.copy(bytes, 0, 0, this.#length)
    this.#length = 0
    return bytes
  }

  /** Makes room for so many bytes, for which there is none: whoever writes looks first. */
  #grow (bytes: number): void {
    const grown = Buffer.allocUnsafe(Math.max(this.#length + bytes, this.#capacity * 2))
    this.#buffer.copy(grown, 0, 0, this.#length)
    this.#buffer = this.#view = grown
    this.#capacity = grown.length
  }

  byte (value: number): this {
    if (this.#length === this.#capacity) this.#grow(1)
    this.#buffer[this.#length++] = value
    return this
  }

  varint (value: number): this {
    if (this.#length + varintBytesMax > this.#capacity) this.#grow(varintBytesMax)
    const buffer = this.#buffer
    let end = this.#length
    while (value >= 0x80) {
      buffer[end++] = value | 0x80
      value = Math.floor(value / 0x80)
    }
    buffer[end++] = value
    this.#length = end
    return this
  }

  raw (bytes: Uint8Array): this {
    const { length } = bytes
    const start = this.#length
    if (start + length > this.#capacity) this.#grow(length)
    const buffer = this.#buffer
    if (length > copiedByHandMax) buffer.set(bytes, start)
    else for (let index = 0; index < length; index++) buffer[start + index] = bytes[index]!
    this.#length = start + length
    return this
  }

  /** A part of a Buffer, without a view of it being made. */
  part (source: Buffer, start: number, end: number): this {
    const length = end - start
    const begin = this.#length
    if (begin + length > this.#capacity) this.#grow(length)
    const buffer = this.#buffer
    if (length > copiedByHandMax) source.copy(buffer, begin, start, end)
    else for (let index = 0; index < length; index++) buffer[begin + index] = source[start + index]!
    this.#length = begin + length
    return this
  }

  /** Length as a varint, then the bytes. */
  bytes (bytes: Uint8Array): this {
    return this.varint(bytes.length).raw(bytes)
  }

  /** Length in bytes as a varint, then the text in UTF-8. */
  text (text: string): this {
    const length = Buffer.byteLength(text)
    return this.varint(length).utf8(text, length)
  }

  /** Text of so many bytes in UTF-8, without its length. */
  utf8 (text: string, length: number): this {
    if (this.#length + length > this.#capacity) this.#grow(length)
    this.#buffer.utf8Write(text, this.#length)
    this.#length += length
    return this
  }

  /** What of a text of bytes stands from `start` on, without its length. */
  latin1 (text: string, start = 0): this {
    if (this.#length + text.length - start > this.#capacity) this.#grow(text.length - start)
    for (let index = start; index < text.length; index++) this.#buffer[this.#length++] = text.charCodeAt(index)
    return this
  }

  logId (log: LogId): this {
    if (this.#length + logIdBytes > this.#capacity) this.#grow(logIdBytes)
    this.#buffer.latin1Write(log, this.#length)
    this.#length += logIdBytes
    return this
  }

  hlc (hlc: Hlc): this {
    if (this.#length + hlcBytes > this.#capacity) this.#grow(hlcBytes)
    const high = highOf(hlc)
    const start = this.#length
    this.#buffer[start] = high >>> 16
    this.#buffer[start + 1] = high >>> 8
    this.#buffer[start + 2] = high
    writeUint32(this.#buffer, start + 3, lowOf(hlc))
    this.#length = start + hlcBytes
    return this
  }

  /** Dot and time of a version, as `codec/stamp` has them. */
  stamp ({ log, hlc, sequence }: Omit<Sibling, 'type'>): this {
    if (this.#length + stampBytesMax > this.#capacity) this.#grow(stampBytesMax)
    this.#length = writeStamp(this.#buffer, this.#length, log, hlc, sequence)
    return this
  }
}

export class ByteReader {
  readonly #buffer: Buffer
  readonly #end: number
  #offset: number

  /** @param offset where to begin. */
  constructor (bytes: Uint8Array, offset = 0) {
    this.#buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#end = bytes.length
    this.#offset = offset
  }

  get offset (): number {
    return this.#offset
  }

  get remaining (): number {
    return this.#end - this.#offset
  }

  #take (bytes: number): number {
    const offset = this.#offset
    if (bytes > this.#end - offset) this.#refuse(bytes)
    this.#offset = offset + bytes
    return offset
  }

  #refuse (bytes: number): never {
    throw malformed(`${bytes} bytes expected at ${this.#offset}, ${this.remaining} are there`)
  }

  byte (): number {
    if (this.#offset >= this.#end) this.#refuse(1)
    return this.#buffer[this.#offset++]!
  }

  varint (): number {
    if (this.#offset >= this.#end) this.#refuse(1)
    const byte = this.#buffer[this.#offset++]!
    return byte < 0x80 ? byte : this.#longVarint(byte)
  }

  #longVarint (first: number): number {
    let value = first & 0x7f
    let scale = 0x80
    for (let index = 1; index < varintBytesMax; index++) {
      const byte = this.byte()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) throw malformed(`A number above 2^53 at ${this.#offset}`)
        if (byte === 0) throw malformed(`A number that is not in its shortest form at ${this.#offset}`)
        return value
      }
      scale *= 0x80
    }
    throw malformed(`A number of more than 8 bytes at ${this.#offset}`)
  }

  /** A varint that counts things, each of which takes at least `bytesEach` of the rest. */
  count (max: number, bytesEach: number): number {
    const count = this.varint()
    if (count > max || count * bytesEach > this.remaining) throw malformed(`A count of ${count} where at most ${Math.min(max, Math.floor(this.remaining / bytesEach))} is possible`)
    return count
  }

  raw (length: number): Buffer {
    const offset = this.#take(length)
    return this.#buffer.subarray(offset, offset + length)
  }

  #length (max: number): number {
    const length = this.varint()
    if (length > max) throw malformed(`${length} bytes where at most ${max} are allowed`)
    return length
  }

  bytes (max: number): Buffer {
    return this.raw(this.#length(max))
  }

  text (max: number): string {
    return this.bytes(max).toString('utf8')
  }

  /** Bytes as a binary string, without a view of them being made. */
  latin1 (max: number): string {
    const length = this.#length(max)
    const offset = this.#take(length)
    return this.#buffer.latin1Slice(offset, offset + length)
  }

  /** Passes over bytes. */
  skipBytes (max: number): void {
    this.#take(this.#length(max))
  }

  logId (): LogId {
    const offset = this.#take(logIdBytes)
    const log = this.#buffer.latin1Slice(offset, offset + logIdBytes)
    if (!isLogId(log)) throw malformed(`A log id with a byte above 0x7f at ${offset}`)
    return log
  }

  hlc (): Hlc {
    const offset = this.#take(hlcBytes)
    const high = this.#buffer[offset]! << 16 | this.#buffer[offset + 1]! << 8 | this.#buffer[offset + 2]!
    return possible(joinedOf(high, readUint32(this.#buffer, offset + 3)))
  }

  /** Dot and time of a version, as `codec/stamp` has them. */
  stamp (): Omit<Sibling, 'type'> {
    const log = this.logId()
    const start = this.#offset - logIdBytes
    const end = stampEnd(this.#buffer, start)
    this.#take(end - this.#offset)
    const hlc = readStampTime(this.#buffer, end)
    const sequence = readStampSequence(this.#buffer, start, end)
    if (Number.isNaN(hlc) || Number.isNaN(sequence)) throw malformed(`A stamp that makes no sense at ${start}`)
    return { log, hlc: possible(hlc), sequence }
  }

  /** Throws unless everything has been read. */
  end (): void {
    if (this.remaining !== 0) throw malformed(`${this.remaining} bytes too many`)
  }
}

function possible (hlc: Hlc): Hlc {
  if (!isPossible(hlc)) throw new ReplicationError(`A time of ${hlc / 1024} ms since 1970 is beyond the year 2200: some replica's clock is wrong`, { code: 'REPLICATION_CLOCK_IMPOSSIBLE' })
  return hlc
}

/** What every decoder throws at bytes that make no sense. */
export function malformed (what: string): ReplicationError {
  return new ReplicationError(`Malformed bytes: ${what}`, { code: 'REPLICATION_PROTOCOL' })
}
