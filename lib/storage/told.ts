/**
 * What others have of our log, and whether what they know can be what we know.
 *
 * Up to where data of our log has been sent is remembered before it leaves. What a peer has beyond that is not from us: a
 * snapshot of this disk has been put back, or goes on beside it. The same shows where a write at the same place in a log
 * has another time, or a transaction another end, of our log or of any other, as far as log records still tell; what is
 * superseded leaves them, and what LevelDB has not got yet, a few milliseconds of writes, is not in them.
 */
import { ByteReader } from '../codec/bytes.ts'
import { endOfLogRecord } from '../codec/log-record.ts'
import type { Hlc } from '../core/hlc.ts'
import type { LogId } from '../core/ids.ts'
import type { Advance } from '../core/version-vector.ts'
import { logsComparedMax } from '../limits.ts'
import { buffers } from './engine.ts'
import type { IdentityStore } from './identity.ts'
import { logKey, meta, readSequence } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'

export class Told {
  readonly #state: ReplicaState
  readonly #identity: IdentityStore
  #last: Advance

  constructor (state: ReplicaState, identity: IdentityStore, last: Advance) {
    this.#state = state
    this.#identity = identity
    this.#last = last
  }

  /** Up to where in our log peers may have data; sequence 0 if nowhere. */
  get last (): Advance {
    const { ownLog } = this.#state
    return this.#last.log === ownLog ? this.#last : { log: ownLog, sequence: 0, hlc: 0 }
  }

  /** Data is about to leave for a peer. */
  tell (): void {
    const own = this.#state.vector.get(this.#state.ownLog)
    if (own !== undefined && own.sequence > this.last.sequence) this.note(own)
  }

  note (last: Advance): void {
    this.#identity.tell(last)
    this.#last = last
  }

  /** LevelDB has been opened again after a failed write: what is remembered has to be there, too. */
  reopened (): void {
    this.#identity.letGo()
    try { this.note(this.#last) } catch {} // nothing more is told before it can be
  }

  /** Looks for a log of which a peer with this vector knows something else than we do. */
  async contradiction (vector: readonly Advance[]): Promise<LogId | undefined> {
    let lookedUp = 0
    const found: Array<LogId | Promise<LogId | undefined>> = []
    for (const { log, sequence, hlc } of vector) {
      const own = this.#state.vector.get(log)
      const isBeyond = own === undefined || sequence > own.sequence
      if (log === this.#state.ownLog) {
        found.push(isBeyond ? log : this.#isOurs({ log, sequence, hlc }, own).then((isOurs) => isOurs ? undefined : log))
      } else if (sequence === own?.sequence) {
        if (hlc !== own.hlc) found.push(log)
      } else if (!isBeyond && ++lookedUp <= logsComparedMax) {
        found.push(this.#timeAt(own, sequence).then((time) => (time ?? hlc) === hlc ? undefined : log))
      }
    }
    return (await Promise.all(found)).find((log) => log !== undefined)
  }

  async #isOurs (entry: Advance, own: Advance): Promise<boolean> {
    const { last } = this
    if (entry.sequence === last.sequence && entry.hlc === last.hlc) return true // as it mostly is: the peer has what it was sent
    const time = await this.#timeAt(own, entry.sequence) ?? await this.#timeAtEnd(entry)
    if (entry.sequence <= last.sequence) return time === undefined || time === entry.hlc
    if (time !== entry.hlc) return false
    this.note(entry) // it has come there by a copy of this directory
    return true
  }

  /** When our log ended there, if it did at an open, and that had not been sent then. */
  async #timeAtEnd ({ log, sequence }: Advance): Promise<Hlc | undefined> {
    const stored = await this.#state.engine.get(meta.end(log, sequence), buffers)
    return stored === undefined ? undefined : new ByteReader(stored).hlc()
  }

  /** When a transaction of a log was made that ends there, if that can still be told; no time if none does. */
  async #timeAt (own: Advance, sequence: number): Promise<Hlc | undefined> {
    if (sequence === own.sequence) return own.hlc
    const range = { gte: logKey(own.log, 1), lte: logKey(own.log, sequence), reverse: true, limit: 1 }
    const [stored] = await this.#state.engine.iterator<Buffer, Buffer>({ ...range, ...buffers }).all()
    if (stored === undefined) return undefined
    const end = endOfLogRecord(readSequence(stored[0], 9), stored[1])
    if (end.sequence > sequence) return NaN
    return end.sequence === sequence ? end.hlc : undefined
  }
}
