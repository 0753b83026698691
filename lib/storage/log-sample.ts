/**
 * A sample of the operations in the log, taken as they are written: what share of them has been superseded since can
 * be told from a few look-ups, however long the log is.
 *
 * Every operation has the same chance to be in it. The operations are numbered, and those whose number has a small
 * multiplicative hash are kept; when there are too many the bound is halved, and half of them go.
 *
 * Source: Duffield et al., "Trajectory Sampling for Direct Traffic Observation", 2001, for sampling by a hash; Knuth,
 * "The Art of Computer Programming", 6.4, for the hash, which spreads consecutive numbers evenly.
 */
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { LogId } from '../core/ids.ts'
import { indexOfDot } from '../core/siblings.ts'
import { sampledKeyBytesMax, sampledOperationsMax } from '../limits.ts'
import { readRecords, type Stored } from './stored-sets.ts'

interface SampledOperation {
  readonly hash: number
  readonly log: LogId
  readonly sequence: number
  readonly key: Buffer
}

const multiplier = 0x9E37_79B1
const hashes = 0x1_0000_0000

export class LogSample {
  #operations: SampledOperation[] = []
  #numbered = 0
  #bound = hashes

  /** Numbers an operation, and takes it if its turn is come; its key, a part of some bytes, is copied. Keys of over a kibibyte are left out. */
  offer (log: LogId, sequence: number, bytes: Buffer, start = 0, end = bytes.length): void {
    const hash = Math.imul(++this.#numbered, multiplier) >>> 0
    if (hash >= this.#bound || end - start > sampledKeyBytesMax) return
    this.#operations.push({ hash, log, sequence, key: Buffer.from(bytes.subarray(start, end)) })
    if (this.#operations.length <= sampledOperationsMax) return
    this.#bound /= 2
    this.#operations = this.#operations.filter(({ hash }) => hash < this.#bound)
  }

  /** The share of its operations that is in no sibling set; undefined if there are none. */
  async garbage (stored: Stored): Promise<number | undefined> {
    const operations = [...this.#operations]
    if (operations.length === 0) return undefined
    const records = await readRecords(stored, operations.map(({ key }) => key))
    const live = operations.filter((dot, index) => indexOfDot(decodeSiblings(records[index]), dot) !== -1)
    return 1 - live.length / operations.length
  }
}
