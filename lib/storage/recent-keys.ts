/**
 * Which keys were written here lately. Whoever merges what a peer wrote that had not seen our last writes has to look up
 * only these: at any other key the peer had seen all there is.
 *
 * A table says of each of its slots with which sequence of our log a key of that slot was last written. Keys that share a
 * slot count as one, so that the answer is "perhaps" or "no". What was written is taken from the units of live streams,
 * when somebody asks: a replica that only sends is never asked.
 */
import { readAdvances } from '../codec/advances.ts'
import { ByteReader } from '../codec/bytes.ts'
import { EntryScan } from '../codec/entry-scan.ts'
import { Fifo } from '../core/fifo.ts'
import type { LogId } from '../core/ids.ts'
import { feedUnitBytes, recentKeySlots, recentUnitsBytesMax } from '../limits.ts'
import { hashOf } from './key-hash.ts'
import type { Unit } from './unit.ts'

interface OwnUnit {
  /** The last of our log in it. */
  readonly sequence: number
  readonly body: Buffer
}

export class RecentKeys {
  #log = '' as LogId
  /** What was written up to here is not known; behind it, all is in the table or the units. */
  #from = Infinity
  #lastOfSlot: Float64Array | undefined
  /** Those that are not in the table yet. */
  #units = new Fifo<OwnUnit>()
  #unitsBytes = 0

  /** A batch is committed, by a replica that writes in this log. Each has to come here, in their order. */
  committed ({ changes, body }: Unit, ownLog: LogId): void {
    const own = changes.find(({ log }) => log === ownLog)
    if (own === undefined) return
    const { sequence } = own
    if (body === undefined || ownLog !== this.#log) {
      this.#log = ownLog
      this.#from = sequence
      this.#lastOfSlot = undefined
      this.#units = new Fifo()
      this.#unitsBytes = 0
      return
    }
    this.#units.push({ sequence, body })
    this.#unitsBytes += body.length + feedUnitBytes
    while (this.#unitsBytes > recentUnitsBytesMax) this.#from = this.#shift()!.sequence
  }

  /** Whether a key may have been written in a log of ours behind this sequence. */
  mayHold (key: Uint8Array, log: LogId, sequence: number): boolean {
    if (log !== this.#log || sequence < this.#from) return true
    const lastOfSlot = this.#lastOfSlot ??= new Float64Array(recentKeySlots)
    for (let unit = this.#shift(); unit !== undefined; unit = this.#shift()) enter(lastOfSlot, unit)
    return lastOfSlot[slotOf(key, 0, key.length)]! > sequence
  }

  #shift (): OwnUnit | undefined {
    const unit = this.#units.shift()
    if (unit !== undefined) this.#unitsBytes -= unit.body.length + feedUnitBytes
    return unit
  }
}

function enter (lastOfSlot: Float64Array, { sequence, body }: OwnUnit): void {
  const reader = new ByteReader(body)
  readAdvances(reader)
  readAdvances(reader)
  for (const scan = new EntryScan(body, reader.offset); scan.next();) lastOfSlot[slotOf(body, scan.keyStart, scan.keyEnd)] = sequence
}

function slotOf (bytes: Uint8Array, start: number, end: number): number {
  return hashOf(bytes, start, end) & (recentKeySlots - 1)
}
