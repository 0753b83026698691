/**
 * One inner batch: the atomic LevelDB write in which data, version, sibling, log and vector change together.
 *
 * It is filled by local transactions or by remote units, never by both. What it advances is its context for what
 * is added to it later; the replica's own vector follows when it is committed. Every inner batch has a record in the
 * journal, which says what it advances.
 */
import { ByteWriter } from '../codec/bytes.ts'
import { writeSiblings } from '../codec/sibling-set.ts'
import { writeEntryBody, writeValue } from '../codec/entry.ts'
import { encodeLogOffset } from '../codec/log-record.ts'
import type { LogId } from '../core/ids.ts'
import type { Sibling, SiblingSet } from '../core/siblings.ts'
import type { Advance, Context } from '../core/version-vector.ts'
import type { Bytes, EngineBatch } from './engine.ts'
import { writeStoredAdvance } from './journal.ts'
import { keyspace, logKey, meta, siblingKey, writeDot } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'
import { UnitEntries, type Unit } from './unit.ts'

/** Bytes on their way into the engine's batch, which copies them. */
const scratch = { key: Buffer.allocUnsafe(1024), version: new ByteWriter(64), log: new ByteWriter(1024), logKey: logKey('' as LogId, 0) }

/** Views of the beginning of `scratch.key`, by their length: most keys are of a few lengths. */
let keyViews: Buffer[] = []
const viewsMax = 256

/** The version record of a set of one, as `codec/sibling-set` writes it; the sequence is last, and varies. */
const single = Buffer.alloc(1 + 1 + 8 + 7 + 8)
const singleHeader = 17
const singleViews = Array.from({ length: 9 }, (_, bytes) => single.subarray(0, singleHeader + bytes))

export class InnerBatch implements Context {
  readonly engineBatch: EngineBatch
  readonly #state: ReplicaState
  readonly #changes: Advance[] = []
  /** Where the change of each log stands, once there are several. */
  #indexOfLog: Map<LogId, number> | undefined
  readonly #collected: Advance[] = []
  #rewound: Advance | undefined
  readonly #entries: UnitEntries | undefined
  #keyLength = 0
  #keyView: Buffer = scratch.key
  /** The version record that was written last by {@link putSingle}. */
  #single = single
  #body: Buffer | undefined
  /** The log record in the making. */
  #log = '' as LogId
  #logFirst = 0
  /** Operations added to the log, and how many of them are deletes. */
  #logged = 0
  #loggedDeletes = 0
  /** Keys that change without a log record. */
  #unlogged: Buffer[] | undefined
  /** What it says of who this replica is. */
  #saves: ReplicaState['unsaved']
  /** A rough count of bytes, to bound the batch. */
  bytes = 0
  sync = false
  /** How many tombstones go with it. */
  dropped = 0
  /** Whether it is no unit that a live stream could pass on. */
  gap = false

  /** @param batch an empty one. */
  constructor (state: ReplicaState, batch: EngineBatch, recordUnit: boolean) {
    this.#state = state
    this.engineBatch = batch
    this.#entries = recordUnit ? new UnitEntries() : undefined
  }

  /** Whether this batch, or what was committed before it, has the write. */
  covers (log: LogId, sequence: number): boolean {
    return this.reaches(log, sequence) || this.#state.survivors.covers(log, sequence)
  }

  /** Whether it has that write and all before it in its log. */
  reaches (log: LogId, sequence: number): boolean {
    const index = this.#indexOf(log)
    return (index !== undefined && this.#changes[index]!.sequence >= sequence) || this.#state.vector.covers(log, sequence)
  }

  #indexOf (log: LogId): number | undefined {
    if (this.#indexOfLog !== undefined) return this.#indexOfLog.get(log)
    return this.#changes[0]?.log === log ? 0 : undefined
  }

  /** Whether it advances nothing. */
  get empty (): boolean {
    return this.#changes.length === 0
  }

  /** Whether nothing at all is in it. */
  get untouched (): boolean {
    return this.empty && this.#collected.length === 0 && this.bytes === 0
  }

  advance (entry: Advance): void {
    if (this.reaches(entry.log, entry.sequence)) return
    if (entry.log === this.#state.ownLog && entry.sequence > this.#state.ownSequence) this.#state.replaceLog()
    const index = this.#indexOf(entry.log) ?? this.#changes.length
    this.#changes[index] = entry
    if (index === 1) this.#indexOfLog ??= new Map([[this.#changes[0]!.log, 0]])
    this.#indexOfLog?.set(entry.log, index)
  }

  /** Moves the collected vector on: no tombstone up to there is left when this batch is committed. */
  collect (entry: Advance): void {
    this.#collected.push(entry)
    this.engineBatch.put(meta.collected(entry.log), writeStoredAdvance(scratch.version.reset(), entry).view())
  }

  /** Goes back in a log, as the checkpoint does that this batch writes. */
  rewind (entry: Advance): void {
    this.#rewound = entry
    if (!this.#state.collected.covers(entry.log, entry.sequence + 1)) return
    const key = meta.collected(entry.log)
    if (entry.sequence === 0) this.delRaw(key)
    else this.engineBatch.put(key, writeStoredAdvance(scratch.version.reset(), entry).view())
  }

  /** Makes `key` the one that the following calls are about. */
  setKey (key: Bytes): void {
    const bytesMax = 1 + (typeof key === 'string' ? key.length * 3 : key.length)
    if (scratch.key.length < bytesMax) {
      scratch.key = Buffer.allocUnsafe(bytesMax * 2)
      keyViews = []
    }
    if (typeof key === 'string') {
      this.#keyLength = scratch.key.utf8Write(key, 1)
    } else {
      scratch.key.set(key, 1)
      this.#keyLength = key.length
    }
    const length = 1 + this.#keyLength
    this.#keyView = length < viewsMax ? (keyViews[length] ??= scratch.key.subarray(0, length)) : scratch.key.subarray(0, length)
  }

  /** The same, of a part of some bytes. */
  setKeyPart (bytes: Buffer, start: number, end: number): void {
    if (scratch.key.length <= end - start) {
      scratch.key = Buffer.allocUnsafe((end - start) * 2)
      keyViews = []
    }
    for (let index = start; index < end; index++) scratch.key[1 + index - start] = bytes[index]!
    this.#keyLength = end - start
    const length = 1 + this.#keyLength
    this.#keyView = length < viewsMax ? (keyViews[length] ??= scratch.key.subarray(0, length)) : scratch.key.subarray(0, length)
  }

  /** Whether {@link addToUnit} does anything. */
  get recordsUnit (): boolean {
    return this.#entries !== undefined
  }

  /** The key as a binary string. */
  get keyText (): string {
    return this.#keyView.latin1Slice(1)
  }

  /** The key in a keyspace; valid until the next call. */
  keyIn (space: number): Buffer {
    this.#keyView[0] = space
    return this.#keyView
  }

  putData (value: Uint8Array | string): void {
    this.engineBatch.put(this.keyIn(keyspace.data), value)
    this.bytes += this.#keyLength + value.length
  }

  delData (): void {
    this.engineBatch.del(this.keyIn(keyspace.data))
  }

  /** Writes the version record, or removes it if the set is empty. */
  putVersion (siblings: SiblingSet): void {
    this.bytes += 64 + this.#keyLength
    if (siblings.length === 0) {
      this.engineBatch.del(this.keyIn(keyspace.version))
    } else {
      writeSiblings(scratch.version.reset(), siblings)
      this.engineBatch.put(this.keyIn(keyspace.version), scratch.version.view())
    }
  }

  /** Writes a version record that is encoded already. */
  putVersionRecord (record: Uint8Array): void {
    this.bytes += record.length + 32 + this.#keyLength
    this.engineBatch.put(this.keyIn(keyspace.version), record)
  }

  /** Names the transaction that the following calls of {@link putSingle} belong to. */
  beginSingle (log: LogId, hlc: number): void {
    single[0] = 1
    single.latin1Write(log, 2)
    const high = Math.floor(hlc / 0x1_0000_0000)
    single.writeUInt16BE(high >>> 8, 10)
    single[12] = high & 0xff
    single.writeUInt32BE(hlc % 0x1_0000_0000, 13)
  }

  /** Writes the version record of a key whose only version is this one. */
  putSingle (type: 'put' | 'del', sequence: number): void {
    this.bytes += 64 + this.#keyLength
    single[1] = type === 'put' ? 1 : 0
    let length = singleHeader
    while (sequence >= 0x80) {
      single[length++] = (sequence % 0x80) | 0x80
      sequence = Math.floor(sequence / 0x80)
    }
    single[length++] = sequence
    this.#single = singleViews[length - singleHeader]!
    this.engineBatch.put(this.keyIn(keyspace.version), this.#single)
  }

  putSiblingValue (log: LogId, sequence: number, value: Uint8Array): void {
    this.engineBatch.put(siblingKey(this.#keyView.subarray(1), log, sequence), value)
    this.bytes += this.#keyLength + value.length
  }

  delSiblingValue (log: LogId, sequence: number): void {
    this.engineBatch.del(siblingKey(this.#keyView.subarray(1), log, sequence))
  }

  /** Begins the log record of a transaction, by its first operation; {@link addToLog} and {@link endLog} follow. */
  beginLog (log: LogId, first: number, hlc: number): void {
    scratch.log.reset().hlc(hlc)
    this.#log = log
    this.#logFirst = first
  }

  addToLog (offset: number, type: Sibling['type']): void {
    this.#countLogged(offset, type, this.#keyView, 1, 1 + this.#keyLength)
    scratch.log.varint(encodeLogOffset(offset, type)).varint(this.#keyLength).part(this.#keyView, 1, 1 + this.#keyLength)
  }

  /** The same, of a key that is a part of some bytes. */
  addPartToLog (offset: number, type: Sibling['type'], bytes: Buffer, start: number, end: number): void {
    this.#countLogged(offset, type, bytes, start, end)
    scratch.log.varint(encodeLogOffset(offset, type)).varint(end - start).part(bytes, start, end)
  }

  #countLogged (offset: number, type: Sibling['type'], bytes: Buffer, start: number, end: number): void {
    this.#logged++
    if (type === 'del') this.#loggedDeletes++
    this.#state.tally.sample?.offer(this.#log, this.#logFirst + offset, bytes, start, end)
  }

  endLog (): void {
    writeDot(scratch.logKey, 1, this.#log, this.#logFirst)
    this.engineBatch.put(scratch.logKey, scratch.log.view())
    this.bytes += scratch.log.length
  }

  /** Notes that the key changes without a log record. */
  changeUnlogged (): void {
    this.#unlogged ??= []
    this.#unlogged.push(Buffer.from(this.#keyView.subarray(1)))
  }

  /** Adds the key to the unit that live streams will get: its whole set, and the values that are new. */
  addToUnit (siblings: SiblingSet, values: ReadonlyArray<Uint8Array | undefined>): void {
    const entry = this.#entries?.begin(this.keyText, this.#keyView, 1, 1 + this.#keyLength)
    if (entry !== undefined) writeEntryBody(entry, siblings, values)
  }

  /** The same, of the version that {@link putSingle} wrote last. */
  addSingleToUnit (value: Bytes | undefined): void {
    const entry = this.#entries?.begin(this.keyText, this.#keyView, 1, 1 + this.#keyLength)
    if (entry === undefined) return
    entry.raw(this.#single)
    if (value !== undefined) writeValue(entry, value)
  }

  /** Anything else that has to be in the same atomic write. */
  putRaw (key: Buffer, value: Uint8Array): void {
    this.engineBatch.put(key, value)
    this.bytes += key.length + value.length
  }

  delRaw (key: Buffer): void {
    this.engineBatch.del(key)
    this.bytes += key.length
  }

  /**
   * Hands it to the engine. {@link committed} is to follow when that has succeeded; if it fails, the number is used
   * again: a gap would betray a batch that was lost.
   */
  write (): Promise<void> {
    const { journal, tally, unsaved } = this.#state
    this.#saves = unsaved
    unsaved?.(this)
    tally.wrote(this.#logged, this.#loggedDeletes)
    if (journal.writesCheckpoint) this.engineBatch.put(meta.tally, tally.encode())
    journal.add(this.engineBatch, this.#changes, this.#unlogged)
    const written = this.engineBatch.write(this.sync)
    // While LevelDB's thread is at work.
    if (this.#entries !== undefined && !this.gap) this.#body = this.#entries.encode(this.#changes, this.#collected)
    return written
  }

  /** Lets the replica's state follow. */
  committed (): Unit {
    const changes = this.#changes
    if (this.#saves === this.#state.unsaved) this.#state.unsaved = undefined
    this.#state.journal.committed(changes)
    this.#state.vector.join(changes)
    if (this.#rewound !== undefined) {
      this.#state.vector.rewind(this.#rewound)
      this.#state.collected.rewind(this.#rewound)
    }
    this.#state.collected.join(this.#collected)
    this.#state.tally.collected(this.dropped)
    return { changes, collected: this.#collected, body: this.#body }
  }
}
