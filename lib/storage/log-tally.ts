/**
 * How much of the log is live, as far as that is known without looking.
 *
 * A write does not read what it supersedes, so only a sweep can tell live operations from garbage. In between, what
 * was written is counted, and what is live is known within bounds. The tally is stored with every checkpoint of the
 * vector; what a crash keeps from it is made up for by what the journal has advanced since, so that a process which
 * is killed again and again still comes to a sweep.
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { LogSample } from './log-sample.ts'

/** Operations of log records. */
export interface Operations {
  all: number
  deletes: number
}

export class LogTally {
  /** Operations that the last sweep found to be live. */
  readonly live: Operations = { all: 0, deletes: 0 }
  /** Operations written since. */
  readonly written: Operations = { all: 0, deletes: 0 }
  /** Tombstones collected since, whose log records are still there. */
  forgotten = 0
  /** Of the whole log; undefined until a sweep has seen what was there when the database was opened. */
  sample: LogSample | undefined
  /** What had been written and forgotten when the last sweep began; of it, what has not been counted out since. */
  #begun = { all: 0, deletes: 0, forgotten: 0 }

  /**
   * @param stored what {@link encode} has returned
   * @param advanced operations that the log may have taken in since
   */
  constructor (stored: Buffer | undefined, advanced: number) {
    if (stored !== undefined) {
      const reader = new ByteReader(stored)
      for (const operations of [this.live, this.written]) {
        operations.all = reader.varint()
        operations.deletes = reader.varint()
      }
      this.forgotten = reader.varint()
    }
    this.wrote(advanced, advanced)
    if (this.liveMax === 0) this.sample = new LogSample()
  }

  /** How many operations the log holds that are no garbage, at most. */
  get liveMax (): number {
    return this.live.all + this.written.all
  }

  /** How many tombstones there are, at most. */
  get tombstonesMax (): number {
    return this.live.deletes + this.written.deletes
  }

  wrote (all: number, deletes: number): void {
    this.written.all += all
    this.written.deletes += deletes
  }

  /** Tombstones have been collected, whose log records are garbage from now on. */
  collected (tombstones: number): void {
    this.forgotten += tombstones
    const goneLive = countOut(this.live, tombstones)
    const gone = countOut(this.written, tombstones - goneLive)
    countOut(this.#begun, gone) // lest the end of the sweep should count it out again
  }

  /** A sweep begins. */
  begin (): void {
    this.#begun = { ...this.written, forgotten: this.forgotten }
  }

  /** The sweep that has begun has ended. */
  swept (live: Operations): void {
    Object.assign(this.live, live)
    this.written.all -= this.#begun.all
    this.written.deletes -= this.#begun.deletes
    this.forgotten -= this.#begun.forgotten
  }

  encode (): Buffer {
    const writer = new ByteWriter(32)
    for (const { all, deletes } of [this.live, this.written]) writer.varint(all).varint(deletes)
    return writer.varint(this.forgotten).take()
  }
}

/** Takes so many deletes out, as far as there are; returns how many. */
function countOut (operations: Operations, deletes: number): number {
  const gone = Math.min(deletes, operations.deletes)
  operations.all -= gone
  operations.deletes -= gone
  return gone
}
