/**
 * Remote entries on their way into the store: the merge of `core/siblings`, made durable.
 *
 * An entry is a key's whole sibling set at its sender, with the sender's vector of that moment as context. What the
 * merge keeps is written with its values, its log records and what the key now reads as, all into one inner batch
 * together with the advance of the vector.
 *
 * What a key holds is only looked up if it matters. A sender that had seen all that this replica knows, or all but what it
 * wrote to other keys, has seen what the key holds here: its one new version stands alone.
 */
import { holdsPut, indexOfDot, mergeSiblings, noSiblings, type Sibling, type SiblingSet } from '../core/siblings.ts'
import { observe, type Hlc } from '../core/hlc.ts'
import type { LogId } from '../core/ids.ts'
import type { ReadonlyVersionVector } from '../core/version-vector.ts'
import { entriesAtOnce, fewEntriesMax, logRecordOperationsMax } from '../limits.ts'
import { malformed } from '../codec/bytes.ts'
import type { Entry } from '../codec/entry.ts'
import { EntryScan } from '../codec/entry-scan.ts'
import { decodeLogRecord } from '../codec/log-record.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import type { Version } from '../types.ts'
import type { Derivation, SiblingValues } from './derive.ts'
import { valueOf } from './data-record.ts'
import { buffers } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace, logKey, siblingKey } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'
import { readRecords, readSetSync } from './stored-sets.ts'

/** A vector of more logs takes longer to compare than a few keys take to look up. */
const contextLogsMax = 256

/** Of a key that has been looked up, or need not be. */
const nothingHeld = { record: undefined }

/** What became visible with a merge, for events. */
export interface MergeReport {
  readonly changed: Version[]
  readonly conflicts: Array<{ key: Uint8Array, siblings: SiblingSet, values: SiblingValues }>
}

/** A key that this batch has changed. */
interface KeyState {
  readonly siblings: SiblingSet
  readonly values: SiblingValues
  /** What it held before this batch: live streams have sent that. */
  readonly before: SiblingSet
}

export class Merger {
  readonly #state: ReplicaState
  readonly #batch: InnerBatch
  readonly #derivation: Derivation
  readonly #report: MergeReport | undefined
  readonly #added = new LogPairs()
  readonly #pause: () => Promise<void>
  /** Entries since the last pause. */
  #unpaused = 0
  /** State of keys as this batch leaves them. */
  readonly #keys = new Map<string, KeyState>()
  /** The last context, and whether it covers what was committed here before this batch. */
  #context: ReadonlyVersionVector | undefined
  #contextCoversAll = false
  /** The same, but for our own log. */
  #contextCoversOthers = false
  /** Keys whose sibling values come or go with this batch. */
  readonly #siblingKeys = new Map<string, boolean>()

  /** @param pause lets other work of the process have its turn. */
  constructor (state: ReplicaState, batch: InnerBatch, derivation: Derivation, pause: () => Promise<void>, report?: MergeReport) {
    this.#state = state
    this.#pause = pause
    this.#batch = batch
    this.#derivation = derivation
    this.#report = report
  }

  /**
   * Merges entries that were taken at one moment of their sender, whose vector was `context`; {@link writeLog} has to
   * follow when all of the batch have been merged.
   *
   * @param check throws if one cannot be merged; of many, others may have been by then.
   */
  async merge (entries: Iterable<Entry>, context: ReadonlyVersionVector, check: (entry: Entry) => void = () => {}): Promise<void> {
    for (const slice of slices(entries)) {
      const due = slice.filter((entry) => !this.#replaces(entry, context))
      const records = due.length > fewEntriesMax ? await readRecords(this.#state, due.map(({ key }) => key)) : undefined
      let read = 0
      for (const entry of slice) {
        check(entry)
        const isDue = entry === due[read]
        this.#mergeEntry(entry, context, isDue ? records && { record: records[read] } : nothingHeld)
        if (isDue) read++
      }
      this.#unpaused += slice.length
      if (this.needsRest) await this.rest()
    }
  }

  /** The same, at once, of entries that are few; {@link rest} is to follow when {@link needsRest} says so. */
  mergeFew (entries: readonly Entry[], context: ReadonlyVersionVector): void {
    for (const entry of entries) this.#mergeEntry(entry, context, undefined)
    this.#unpaused += entries.length
  }

  /** Whether so much has been done in a row that other work of the process should have its turn. */
  get needsRest (): boolean {
    return this.#unpaused >= entriesAtOnce
  }

  async rest (): Promise<void> {
    this.#unpaused = 0
    await this.#pause()
  }

  /** Merges one entry of a key that this batch has not changed yet, whose version record is at hand; `writeLog` has to follow. */
  mergeOne (entry: Entry, context: ReadonlyVersionVector, record: Buffer | undefined): void {
    this.#mergeEntry(entry, context, { record })
  }

  /** The same, of the entry that a scan stands at. */
  mergeScanned (scan: EntryScan, context: ReadonlyVersionVector, record: Buffer | undefined): void {
    if (record !== undefined || !this.#isPlain(scan)) this.#mergeEntry(scan.decoded(), context, { record })
    else if (!this.#batch.covers(scan.log, scan.sequence)) this.#putAlone(scan)
  }

  /**
   * Merges what a scan has before it from the entry on that it stands at: keys that this batch has not changed yet, each
   * once, taken at one moment of their sender.
   *
   * @param check as for {@link merge}
   */
  async mergeChunk (scan: EntryScan, context: ReadonlyVersionVector, check?: (scan: EntryScan) => void): Promise<void> {
    for (let more = true; more;) {
      const records = this.coversAll(context) ? undefined : await this.#readAhead(scan)
      for (let count = 0; more && count < entriesAtOnce; count++) {
        check?.(scan)
        if (records === undefined) this.#mergeUnread(scan, context)
        else this.mergeScanned(scan, context, records[count])
        more = scan.next()
      }
      if (more) await this.rest()
    }
  }

  /** The version records of as many keys as are merged in a row. */
  async #readAhead (scan: EntryScan): Promise<Array<Buffer | undefined>> {
    const keys: Buffer[] = []
    const ahead = new EntryScan(scan.bytes, scan.start)
    while (keys.length < entriesAtOnce && ahead.next()) keys.push(ahead.key)
    return await readRecords(this.#state, keys)
  }

  /** Merges the entry that a scan stands at, whose context covers all, and whose key is looked up if need be. */
  #mergeUnread (scan: EntryScan, context: ReadonlyVersionVector): void {
    if (this.#isPlain(scan) && !this.#batch.covers(scan.log, scan.sequence) && (this.#state.siblingKeys.none || !this.#mayHoldSiblings(scan.key))) this.#putAlone(scan)
    else this.#mergeEntry(scan.decoded(), context, undefined)
  }

  /** Whether it is a set of one, and no link needs more of it than its bytes. */
  #isPlain (scan: EntryScan): boolean {
    return scan.entry === undefined && !this.#batch.recordsUnit
  }

  /** A version that is to stand alone: what came is what is written. */
  #putAlone (scan: EntryScan): void {
    const batch = this.#batch
    const { bytes, log, sequence, hlc } = scan
    if (!scan.put && this.#state.collected.covers(log, sequence)) return
    batch.setKeyPart(bytes, scan.keyStart, scan.keyEnd)
    if (scan.put) batch.putEncoded(bytes, scan.valueStart, scan.end, scan.keyEnd, scan.setEnd)
    // Also where nothing is held, lest LevelDB should lose the batch that removed what was: a value counts as the later one.
    else batch.putEncodedDelete(bytes.subarray(scan.keyEnd, scan.setEnd), this.#state.vector.size > 0)
    this.#state.hlc = observe(this.#state.hlc, hlc)
    const type = scan.put ? 'put' : 'del'
    this.#added.add(log, hlc, { sequence, type, bytes, start: scan.keyStart, end: scan.keyEnd })
    this.#report?.changed.push(this.#derivation.version(Buffer.from(scan.key), { type, log, sequence, hlc }, scan.put ? bytes.subarray(scan.valueStart, scan.end) : undefined))
  }

  /** Writes the log records of what was merged. */
  async writeLog (): Promise<void> {
    for (const [log, byTime] of this.#added.transactions) {
      for (const [hlc, pairs] of byTime) {
        this.#completeRecord(log, pairs)
        for (let start = 0; start < pairs.length; start += logRecordOperationsMax) {
          const part = pairs.length <= logRecordOperationsMax ? pairs : pairs.slice(start, start + logRecordOperationsMax)
          this.#writeRecord(log, hlc, part)
          this.#unpaused += part.length
          if (this.needsRest) await this.rest()
        }
      }
    }
    this.#added.transactions.clear()
  }

  /** Lets go of the tombstones of a key that a collected vector covers. Returns how many. */
  drop (key: Buffer, collected: ReadonlyVersionVector): number {
    this.#batch.setKey(key)
    const keyText = this.#batch.keyText
    const known = this.#keys.get(keyText)
    const ours = known?.siblings ?? readSetSync(this.#state, this.#batch)
    const kept = ours.filter(({ type, log, sequence }) => type === 'put' || !collected.covers(log, sequence))
    if (kept.length === ours.length) return 0
    if (holdsPut(kept)) {
      // Of a replica that did not count: the value is not in conflict any more.
      this.#mergeEntry({ key, siblings: kept, values: kept.map(() => undefined) }, collected, undefined)
    } else {
      this.#batch.putTombstones(kept)
      if (kept.length > 0) this.#batch.changeUnlogged()
      this.#keys.set(keyText, { siblings: kept, values: kept.map(() => undefined), before: known?.before ?? ours })
    }
    return ours.length - kept.length
  }

  /** The same, of all keys that this batch has changed. */
  dropMerged (collected: ReadonlyVersionVector): number {
    let dropped = 0
    for (const [key, { siblings }] of this.#keys) {
      if (siblings.some(({ type, log, sequence }) => type === 'del' && collected.covers(log, sequence))) dropped += this.drop(Buffer.from(key, 'latin1'), collected)
    }
    return dropped
  }

  /** To be called when the batch is committed. */
  committed (): void {
    for (const [key, holds] of this.#siblingKeys) {
      if (holds) this.#state.siblingKeys.add(key)
      else this.#state.siblingKeys.delete(key)
    }
  }

  /**
   * Whether an entry takes the place of whatever stands here: its only version is new, and whoever sent it had seen all that
   * could be kept beside it. Keys that this batch has changed are known anyway.
   */
  #replaces ({ key, siblings }: Entry, context: ReadonlyVersionVector): boolean {
    if (siblings.length !== 1) return false
    const { log, sequence } = siblings[0]!
    return !this.#batch.covers(log, sequence) && this.#coversKey(key, context) && !this.#mayHoldSiblings(key)
  }

  #mayHoldSiblings (key: Buffer): boolean {
    const { siblingKeys } = this.#state
    return !siblingKeys.none && siblingKeys.mayHold(key.latin1Slice())
  }

  /** Whether a context covers all that was committed here before this batch. */
  coversAll (context: ReadonlyVersionVector): boolean {
    this.#compare(context)
    return this.#contextCoversAll
  }

  /** Whether a context covers all that was committed here to a key before this batch. */
  #coversKey (key: Buffer, context: ReadonlyVersionVector): boolean {
    this.#compare(context)
    if (this.#contextCoversAll || !this.#contextCoversOthers) return this.#contextCoversAll
    const { recentKeys, ownLog } = this.#state
    return !recentKeys.mayHold(key, ownLog, context.sequenceOf(ownLog))
  }

  #compare (context: ReadonlyVersionVector): void {
    if (context === this.#context) return
    const { vector, survivors, ownLog } = this.#state
    const beyond = survivors.empty && vector.size <= contextLogsMax ? vector.beyond(context) : undefined
    this.#context = context
    this.#contextCoversAll = beyond?.length === 0
    this.#contextCoversOthers = beyond?.every(({ log }) => log === ownLog) ?? false
  }

  /** What stands at the key of the batch, as far as it matters. */
  #held (entry: Entry, context: ReadonlyVersionVector, read: { record: Buffer | undefined } | undefined): SiblingSet {
    if (read !== undefined) return decodeSiblings(read.record)
    return this.#replaces(entry, context) ? noSiblings : readSetSync(this.#state, this.#batch)
  }

  /** @param read what the key holds, if it has been looked up, or need not be */
  #mergeEntry (entry: Entry, context: ReadonlyVersionVector, read: { record: Buffer | undefined } | undefined): void {
    const batch = this.#batch
    batch.setKey(entry.key)
    const keyText = batch.keyText
    const known = this.#keys.get(keyText)
    const ours = known?.siblings ?? this.#held(entry, context, read)
    const merged = this.#withoutCollected(mergeSiblings(ours, batch, entry.siblings, context))
    if (merged === ours) return

    const values = this.#valuesOf(merged, entry, ours, known?.values)
    let news = 0
    for (const sibling of merged) {
      if (indexOfDot(ours, sibling) !== -1) continue
      news++
      this.#state.hlc = observe(this.#state.hlc, sibling.hlc)
      this.#added.add(sibling.log, sibling.hlc, { sequence: sibling.sequence, type: sibling.type, bytes: entry.key, start: 0, end: entry.key.length })
    }
    if (news === 0 && merged.length > 0) batch.changeUnlogged()
    this.#writeValues(merged, values, ours)
    const before = known?.before ?? ours
    this.#keys.set(keyText, { siblings: merged, values, before })
    if (batch.recordsUnit) batch.addToUnit(merged, merged.map((sibling, index) => indexOfDot(before, sibling) === -1 ? values[index] : undefined))
    const conflicted = merged.length > 1 && holdsPut(merged)
    if (conflicted !== (ours.length > 1 && holdsPut(ours))) this.#siblingKeys.set(keyText, conflicted)
    if (conflicted && news > 0) this.#report?.conflicts.push({ key: entry.key, siblings: merged, values })
  }

  /** Writes the set, what the key reads as, and the values of siblings while there are several. */
  #writeValues (merged: SiblingSet, values: SiblingValues, ours: SiblingSet): void {
    const batch = this.#batch
    const apart = ours.length > 1
    if (apart) {
      for (const sibling of ours) {
        if (sibling.type === 'put' && (merged.length < 2 || indexOfDot(merged, sibling) === -1)) batch.delSiblingValue(sibling.log, sibling.sequence)
      }
    }
    if (merged.length > 1) {
      for (let index = 0; index < merged.length; index++) {
        const { type, log, sequence } = merged[index]!
        if (type === 'put') batch.putSiblingValue(log, sequence, values[index]!)
      }
    }
    if (merged.length === 1) {
      const value = values[0]
      batch.putSet(merged, value)
      this.#report?.changed.push(this.#derivation.version(this.#keyCopy(), merged[0]!, value))
      return
    }
    const key = this.#keyCopy()
    const outcome = this.#derivation.outcome(key, merged, values)
    // The resolver and who listens to its errors are foreign code, which may have written to another store meanwhile.
    batch.setKey(key)
    batch.putSet(merged, outcome.type === 'put' ? outcome.version.valueBytes : undefined)
    if (this.#report === undefined) return
    const last = merged.at(-1) ?? ours.at(-1)!
    this.#report.changed.push(outcome.type === 'put' ? outcome.version : this.#derivation.version(key, { ...last, type: 'del' }, undefined))
  }

  /** The key that the batch is at, to be kept. */
  #keyCopy (): Buffer {
    return Buffer.from(this.#batch.keyIn(keyspace.data).subarray(1))
  }

  /** The values of all puts of a set: from the entry if they are new, else from where they stand. */
  #valuesOf (merged: SiblingSet, entry: Entry, ours: SiblingSet, oursValues: SiblingValues | undefined): Array<Uint8Array | undefined> {
    return merged.map((sibling) => {
      if (sibling.type === 'del') return undefined
      const index = indexOfDot(ours, sibling)
      if (index === -1) {
        const value = entry.values[indexOfDot(entry.siblings, sibling)]
        if (value === undefined) throw malformed('A version without the value that this replica lacks')
        return value
      }
      return oursValues?.[index] ?? this.#readValue(entry.key, sibling, ours.length > 1)
    })
  }

  #readValue (key: Buffer, { log, sequence }: Sibling, apart: boolean): Buffer {
    const { engine } = this.#state
    const value = apart ? engine.getSync(siblingKey(key, log, sequence), buffers) : valueOf(engine.getSync(inKeyspace(keyspace.data, key), buffers))
    if (value === undefined) throw new Error(`The value of a version of key ${key.toString('hex')} is missing`)
    return value
  }

  /** No tombstone that has been collected comes back. */
  #withoutCollected (siblings: SiblingSet): SiblingSet {
    const { collected } = this.#state
    if (collected.size === 0) return siblings
    const kept = siblings.filter(({ type, log, sequence }) => type === 'put' || !collected.covers(log, sequence))
    return kept.length === siblings.length ? siblings : kept
  }

  #completeRecord (log: LogId, pairs: LogPair[]): void {
    if (pairs.some(({ sequence }, index) => index > 0 && sequence < pairs[index - 1]!.sequence)) pairs.sort((a, b) => a.sequence - b.sequence)
    if (!this.#state.survivors.empty) this.#addSurvivors(log, pairs[0]!.sequence, pairs)
  }

  #writeRecord (log: LogId, hlc: Hlc, pairs: readonly LogPair[]): void {
    const batch = this.#batch
    const first = pairs[0]!.sequence
    batch.beginLog(log, first, hlc)
    for (const { sequence, type, bytes, start, end } of pairs) batch.addPartToLog(sequence - first, type, bytes, start, end)
    batch.endLog()
  }

  /** What a hole has left of a transaction may stand in the record that is written over. */
  #addSurvivors (log: LogId, first: number, pairs: LogPair[]): void {
    const stored = this.#state.engine.getSync(logKey(log, first), buffers)
    if (stored === undefined) return
    for (const { sequence, type, key } of decodeLogRecord(first, stored).operations) {
      if (!pairs.some((pair) => pair.sequence === sequence)) pairs.push({ sequence, type, bytes: key, start: 0, end: key.length })
    }
    pairs.sort((a, b) => a.sequence - b.sequence)
  }
}

/** A dot and, as a part of some bytes, its key. */
interface LogPair {
  readonly sequence: number
  readonly type: Sibling['type']
  readonly bytes: Buffer
  readonly start: number
  readonly end: number
}

/** New dots, by the transaction that wrote them: what of a log has one time. */
class LogPairs {
  readonly transactions = new Map<LogId, Map<Hlc, LogPair[]>>()

  add (log: LogId, hlc: Hlc, pair: LogPair): void {
    let byTime = this.transactions.get(log)
    if (byTime === undefined) this.transactions.set(log, byTime = new Map())
    const pairs = byTime.get(hlc)
    if (pairs === undefined) byTime.set(hlc, [pair])
    else pairs.push(pair)
  }
}

function * slices (entries: Iterable<Entry>): Generator<Entry[]> {
  let slice: Entry[] = []
  for (const entry of entries) {
    slice.push(entry)
    if (slice.length < entriesAtOnce) continue
    yield slice
    slice = []
  }
  if (slice.length > 0) yield slice
}
