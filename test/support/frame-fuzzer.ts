/**
 * Frames that a hostile peer might send, from a seed: valid ones of every kind with odd numbers in them, and then
 * often changed byte by byte. Some are what a good peer sends, so that a conversation goes on for a while.
 */
import { encodeControl, encodeData, type ControlMessage, type Hello } from '../../lib/codec/message.ts'
import { encodeUnit } from './units.ts'
import { writeAdvances } from '../../lib/codec/advances.ts'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { writeEntry } from '../../lib/codec/entry.ts'
import { logIdFrom, newLogId, type LogId } from '../../lib/core/ids.ts'
import type { Advance } from '../../lib/core/version-vector.ts'
import { logsMax, logsOfOthersMax } from '../../lib/limits.ts'
import { randomNumbers } from './random.ts'

const timeMs = 1_700_000_000_000
const oddNumbers = [0, 1, 2, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 65_537, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40, 2 ** 53 - 1]
/** What a varint can be made of, valid or not. */
const oddVarints = ['00', '01', '7f', '8001', '8000', 'ffff03', '808004', 'ffffffff0f', 'ffffffffffffff0f', 'ffffffffffffff7f', 'ffffffffffffffffff01'].map((hex) => Buffer.from(hex, 'hex'))

export interface FrameFuzzerOptions {
  /** Logs that the replica under test knows, its own among them. */
  readonly logs?: readonly LogId[]
  readonly group?: string
}

export class FrameFuzzer {
  readonly #random: () => number
  readonly #logs: LogId[]
  readonly #group: string

  constructor (seed: number, { logs = [], group = 'default' }: FrameFuzzerOptions = {}) {
    this.#random = randomNumbers(seed)
    this.#logs = [...logs, ...[1, 2, 3, 4].map((number) => logIdFrom(Buffer.alloc(8, number)))]
    this.#group = group
  }

  below (limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  chance (probability: number): boolean {
    return this.#random() < probability
  }

  pick<T> (items: readonly T[]): T {
    return items[this.below(items.length)]!
  }

  bytes (length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    for (let index = 0; index < length; index++) bytes[index] = this.below(256)
    return bytes
  }

  /** A hello that is taken, as a rule. */
  hello (changes: Partial<Hello> = {}): Buffer {
    return encodeControl({
      type: 'hello', versionMin: 1, versionMax: 1, group: this.#group, replica: Buffer.alloc(16, 0x70 + this.below(16)).toString('hex'), log: newLogId(this.bytes(8)), nonce: this.bytes(16).toString('hex'), resolverVersion: '', transactionBytesMax: this.#number(), credit: this.#number(), timeMs, host: '', port: 0, want: this.chance(0.5), vector: [], collected: [], ...changes
    })
  }

  /** One frame, good or bad; so many are malformed. */
  frame (mutated = 0.4): Buffer {
    const frame = this.#whole()
    return this.chance(mutated) ? this.mutate(frame) : frame
  }

  #whole (): Buffer {
    switch (this.below(24)) {
      case 0: if (this.chance(0.7)) return encodeControl({ type: 'heartbeat', timeMs: this.#number() }); else return this.hello({ vector: this.#vector(), collected: this.#vector(), timeMs: this.#number(), port: this.below(65_536), host: this.bytes(this.below(20)).toString('latin1') })
      case 1: return encodeControl({ type: 'want', vector: this.#vector(), collected: this.#vector() })
      case 2: return encodeControl({ type: 'credit', bytes: this.#number() })
      case 3: return encodeControl({ type: 'direct', logs: Array.from({ length: this.below(6) }, () => this.pick(this.#logs)) })
      case 4: return encodeControl({ type: 'acknowledge', members: Array.from({ length: this.below(4) }, () => ({ replica: Buffer.alloc(16, 0x70 + this.below(32)).toString('hex'), unseenSeconds: this.#number(), vector: this.#vector() })) })
      case 5: if (this.chance(0.8)) return encodeControl({ type: 'live', places: this.chance(0.5) ? [] : this.#vector() }); else return encodeControl({ type: 'bye', code: this.pick(['REPLICATION_SELF', '__proto__', '\u001b[2J']), message: this.bytes(this.below(40)).toString('latin1') })
      case 6: return encodeData({ type: 'begin', resumes: this.pick([false, true]), kind: this.pick(['catch-up', 'transfer']), vector: this.#vector(), collected: this.#vector(), entries: this.#number() })
      case 7: return encodeData({ type: 'chunk', bytes: this.#entries() })
      case 8: return encodeData({ type: 'end', entries: this.below(4) })
      case 9: case 10: return encodeUnit(this.#vector(), this.#unitBody())
      case 11: return encodeData({ type: 'advance', vector: this.#vector(), acknowledge: this.chance(0.5) })
      case 12: return Buffer.concat([Buffer.of(0x10), this.chance(0.2) ? this.bytes(this.below(2)) : Buffer.alloc(20_000, this.below(256))])
      case 13: return this.bytes(this.below(64))
      default: return encodeControl({ type: this.pick(['live', 'later', 'again', 'heartbeat', 'heartbeat', 'heartbeat']), timeMs: this.#number(), places: [] } as ControlMessage)
    }
  }

  /** A few changes, as a mutating fuzzer makes them. */
  mutate (frame: Buffer): Buffer {
    let bytes = Buffer.from(frame)
    for (let times = 1 + this.below(3); times > 0; times--) {
      const at = this.below(bytes.length + 1)
      switch (this.below(6)) {
        case 0: if (at < bytes.length) bytes[at]! ^= 1 << this.below(8); break
        case 1: if (at < bytes.length) bytes[at] = this.pick([0, 1, 0x7f, 0x80, 0xff]); break
        case 2: bytes = bytes.subarray(0, at); break
        case 3: bytes = Buffer.concat([bytes.subarray(0, at), this.pick(oddVarints), bytes.subarray(at + this.below(3))]); break
        case 4: bytes = Buffer.concat([bytes, bytes.subarray(at)]); break
        case 5: bytes = Buffer.concat([bytes.subarray(0, at), this.bytes(this.below(9)), bytes.subarray(at)]); break
      }
    }
    return bytes
  }

  #number (): number {
    return this.chance(0.5) ? this.pick(oddNumbers) : this.below(3_000_000)
  }

  #hlc (): number {
    return this.chance(0.02) ? 2 ** 53 - 1 : (timeMs + this.below(1000)) * 1024
  }

  /** Mostly short; rarely as long as may be. */
  #vector (): Advance[] {
    const length = this.chance(0.0001) ? this.pick([1000, logsOfOthersMax - 10, logsMax, logsMax + 1]) : this.below(4)
    return Array.from({ length }, () => ({ log: length > 100 ? newLogId(this.bytes(8)) : this.pick(this.#logs), sequence: this.chance(0.1) ? Math.max(1, this.#number()) : 1 + this.below(5), hlc: length > 100 ? timeMs * 1024 : this.#hlc() }))
  }

  #entries (): Buffer {
    const writer = new ByteWriter()
    for (let count = this.below(4); count > 0; count--) {
      const siblings = Array.from({ length: this.below(3) }, () => ({ log: this.pick(this.#logs), sequence: 1 + this.below(5), hlc: this.#hlc(), type: this.pick(['put', 'del'] as const) }))
        .sort((a, b) => a.hlc - b.hlc)
      writeEntry(writer, { key: this.pick([Buffer.from('key'), Buffer.from('__proto__'), this.bytes(this.below(9))]), siblings, values: siblings.map(() => this.chance(0.9) ? this.bytes(this.below(20)) : undefined) })
    }
    return writer.take()
  }

  #unitBody (): Buffer {
    const writer = new ByteWriter()
    writeAdvances(writer, this.#vector())
    return writer.raw(this.#entries()).take()
  }
}
