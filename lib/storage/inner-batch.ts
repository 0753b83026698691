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
import { stampOffset } from '../codec/entry-scan.ts'
import { stampBytesMax, writeStamp, writeStampSequence, writeStampTime } from '../codec/stamp.ts'
import { encodeLogOffset } from '../codec/log-record.ts'
import { logIdBytes, type LogId } from '../core/ids.ts'
import type { Sibling, SiblingSet } from '../core/siblings.ts'
import type { Advance, Context } from '../core/version-vector.ts'
import { stampedValueMax } from '../limits.ts'
import { unstamped } from './data-record.ts'
import type { Bytes, Changes, EngineBatch } from './engine.ts'
import { putRecord, writeStoredAdvance } from './journal.ts'
import { keyspace, logKey, meta, siblingKey, writeDot } from './keyspaces.ts'
import type { Memtable } from './memtable.ts'
import type { RedoLog } from './redo-log.ts'
import type { ReplicaState } from './state.ts'
import { UnitEntries, type Unit } from './unit.ts'

/** A Buffer whose beginning is handed on: most beginnings are of a few lengths, of which views are kept. */
class Scratch {
  bytes: Buffer
  #views: Buffer[] = []

  constructor (size: number) {
    this.bytes = Buffer.allocUnsafe(size)
  }

  reserve (size: number): void {
    if (this.bytes.length >= size) return
    this.bytes = Buffer.allocUnsafe(size * 2)
    this.#views = []
  }

  view (length: number): Buffer {
    return length < viewsMax ? (this.#views[length] ??= this.bytes.subarray(0, length)) : this.bytes.subarray(0, length)
  }
}

const viewsMax = 256
/** A unit of text takes at most three bytes. */
const stampedBytesMax = stampedValueMax * 3 + stampBytesMax

/** Bytes on their way into the engine's batch, which copies them. */
const scratch = { key: new Scratch(1024), data: new Scratch(stampedBytesMax), version: new ByteWriter(64), log: new ByteWriter(1024), logKey: logKey('' as LogId, 0) }

/** The version record of a set of one, as `codec/sibling-set` writes it. */
const single = new Scratch(stampOffset + stampBytesMax)
single.bytes[0] = 1
/** The time of its stamp. */
const singleTime = Buffer.alloc(8)

export class InnerBatch implements Context {
  readonly engineBatch: EngineBatch
  readonly #state: ReplicaState
  /** The engine's batch, and the redo log if the changes get there, too. */
  readonly #target: Changes
  readonly #memtable: Memtable | undefined
  readonly #changes: Advance[] = []
  /** What of them is a part of the state already. */
  #revealed: readonly Advance[] = []
  /** Where the change of each log stands, once there are several. */
  #indexOfLog: Map<LogId, number> | undefined
  readonly #collected: Advance[] = []
  #rewound: Advance | undefined
  readonly #entries: UnitEntries | undefined
  #keyLength = 0
  #keyView: Buffer = scratch.key.bytes
  /** The version record of what {@link putSingle} wrote last, and how long its value is if that stands in `scratch.data`; else -1. */
  #single = single.bytes
  #stampedLength = -1
  /** What live streams have been told of it, and what they will be told next if that is encoded. */
  #told: readonly Advance[] = []
  #unit: Unit | undefined
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
  /** Whether each key that {@link putSet} has written has one version and had one at most, and nothing is collected. */
  isPlain = true

  /**
   * @param batch an empty one
   * @param redo where what changes is to stand, too
   * @param memtable where {@link putSet} notes what it has written
   */
  constructor (state: ReplicaState, batch: EngineBatch, recordUnit: boolean, redo?: RedoLog, memtable?: Memtable) {
    this.#state = state
    this.engineBatch = batch
    this.#target = redo?.recording(batch) ?? batch
    this.#memtable = memtable
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
    this.isPlain = false
    this.#collected.push(entry)
    this.#target.put(meta.collected(entry.log), writeStoredAdvance(scratch.version.reset(), entry).view())
  }

  /** Goes back in a log, as the checkpoint does that this batch writes. */
  rewind (entry: Advance): void {
    this.#rewound = entry
    if (!this.#state.collected.covers(entry.log, entry.sequence + 1)) return
    const key = meta.collected(entry.log)
    if (entry.sequence === 0) this.delRaw(key)
    else this.#target.put(key, writeStoredAdvance(scratch.version.reset(), entry).view())
  }

  /** Makes `key` the one that the following calls are about. */
  setKey (key: Bytes): void {
    scratch.key.reserve(1 + (typeof key === 'string' ? key.length * 3 : key.length))
    const { bytes } = scratch.key
    if (typeof key === 'string') {
      this.#keyLength = bytes.utf8Write(key, 1)
    } else {
      bytes.set(key, 1)
      this.#keyLength = key.length
    }
    this.#keyView = scratch.key.view(1 + this.#keyLength)
  }

  /** The same, of a part of some bytes. */
  setKeyPart (bytes: Buffer, start: number, end: number): void {
    scratch.key.reserve(1 + end - start)
    const target = scratch.key.bytes
    for (let index = start; index < end; index++) target[1 + index - start] = bytes[index]!
    this.#keyLength = end - start
    this.#keyView = scratch.key.view(1 + this.#keyLength)
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

  /**
   * Writes the whole set of the key, and what the key reads as.
   *
   * @param value undefined if it reads as nothing
   */
  putSet (siblings: SiblingSet, value: Bytes | undefined): void {
    if (siblings.length === 1) this.#note(siblings[0]!, value)
    else this.isPlain = false
    if (siblings.length === 1 && value !== undefined && value.length <= stampedValueMax) {
      const { log, hlc, sequence } = siblings[0]!
      const length = this.#copyValue(value)
      this.#putStamped(writeStamp(scratch.data.bytes, length, log, hlc, sequence))
      return
    }
    this.#putSiblings(siblings)
    this.#putUnstamped(value)
  }

  #note (sibling: Sibling, value: Bytes | undefined): void {
    this.#memtable?.begin(sibling)
    this.#memtable?.add({ type: sibling.type, key: Buffer.from(this.#keyView.subarray(1)), value: value && Buffer.from(value as string) })
  }

  /** The same, of a key that reads as nothing, and of which nothing but the set has changed. */
  putTombstones (siblings: SiblingSet): void {
    this.#putSiblings(siblings)
  }

  /**
   * Writes a set of one put that is encoded already.
   *
   * @param valueStart where the value stands, up to `valueEnd`
   * @param setStart where its version record stands, up to `setEnd`
   */
  putEncoded (bytes: Buffer, valueStart: number, valueEnd: number, setStart: number, setEnd: number): void {
    const length = valueEnd - valueStart
    if (length > stampedValueMax) {
      this.#putVersionRecord(bytes.subarray(setStart, setEnd))
      this.#putUnstamped(bytes.subarray(valueStart, valueEnd))
      return
    }
    bytes.copy(scratch.data.bytes, 0, valueStart, valueEnd)
    this.#putStamped(this.#copyStamp(length, bytes, setStart + stampOffset, setEnd))
  }

  /** Writes a set of one delete that is encoded already. @param mayHoldData whether there may be a value */
  putEncodedDelete (record: Buffer, mayHoldData: boolean): void {
    this.#putVersionRecord(record)
    if (mayHoldData) this.#target.del(this.keyIn(keyspace.data))
  }

  /** Names the transaction that the following calls of {@link putSingle} belong to. */
  beginSingle (log: LogId, hlc: number): void {
    single.bytes.latin1Write(log, stampOffset)
    writeStampTime(singleTime, 0, hlc)
  }

  /** Writes a key whose only version is this one, a delete if there is no value. */
  putSingle (sequence: number, value: Bytes | undefined): void {
    const { bytes } = single
    bytes[1] = value === undefined ? 0 : 1
    const timeStart = writeStampSequence(bytes, stampOffset + logIdBytes, sequence)
    const end = timeStart + singleTime.length
    for (let index = 0; index < singleTime.length; index++) bytes[timeStart + index] = singleTime[index]!
    this.#single = single.view(end)
    this.#stampedLength = -1
    if (value === undefined || value.length > stampedValueMax) {
      this.#putVersionRecord(this.#single)
      this.#putUnstamped(value)
      return
    }
    this.#stampedLength = this.#copyValue(value)
    this.#putStamped(this.#copyStamp(this.#stampedLength, bytes, stampOffset, end))
  }

  /** Returns how many bytes of `scratch.data` it takes. */
  #copyValue (value: Bytes): number {
    if (typeof value === 'string') return scratch.data.bytes.utf8Write(value, 0)
    scratch.data.bytes.set(value, 0)
    return value.length
  }

  /** Copies a stamp behind a value of so many bytes in `scratch.data`. Returns where it ends. */
  #copyStamp (length: number, bytes: Buffer, start: number, end: number): number {
    const data = scratch.data.bytes
    for (let index = start; index < end; index++) data[length + index - start] = bytes[index]!
    return length + end - start
  }

  /** Writes a value with its stamp, from the beginning of `scratch.data`; it needs no version record. */
  #putStamped (length: number): void {
    this.bytes += 32 + this.#keyLength + length
    this.#target.put(this.keyIn(keyspace.data), scratch.data.view(length))
    const { versionKeys } = this.#state
    if (!versionKeys.none && versionKeys.mayHold(this.keyText)) this.#target.del(this.keyIn(keyspace.version))
  }

  #putUnstamped (value: Bytes | undefined): void {
    if (value === undefined) {
      this.#target.del(this.keyIn(keyspace.data))
    } else {
      this.bytes += this.#keyLength + value.length
      this.#target.put(this.keyIn(keyspace.data), unstamped(value))
    }
  }

  #putSiblings (siblings: SiblingSet): void {
    writeSiblings(scratch.version.reset(), siblings)
    this.#putVersionRecord(siblings.length === 0 ? undefined : scratch.version.view())
  }

  #putVersionRecord (record: Buffer | undefined): void {
    this.bytes += 64 + this.#keyLength
    if (record === undefined) {
      this.#target.del(this.keyIn(keyspace.version))
    } else {
      this.#target.put(this.keyIn(keyspace.version), record)
      this.#state.versionKeys.add(this.keyText)
    }
  }

  putSiblingValue (log: LogId, sequence: number, value: Uint8Array): void {
    this.isPlain = false
    this.#target.put(siblingKey(this.#keyView.subarray(1), log, sequence), value)
    this.bytes += this.#keyLength + value.length
  }

  delSiblingValue (log: LogId, sequence: number): void {
    this.isPlain = false
    this.#target.del(siblingKey(this.#keyView.subarray(1), log, sequence))
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
    this.#target.put(scratch.logKey, scratch.log.view())
    this.bytes += scratch.log.length
  }

  /** Notes that the key changes without a log record. */
  changeUnlogged (): void {
    this.#unlogged ??= []
    this.#unlogged.push(Buffer.from(this.#keyView.subarray(1)))
  }

  /** Adds the key to the unit that live streams will get: its whole set, and the values that are new. */
  addToUnit (siblings: SiblingSet, values: ReadonlyArray<Uint8Array | undefined>): void {
    const entry = this.#entries?.begin(this.#keyView, 1, 1 + this.#keyLength)
    if (entry !== undefined) writeEntryBody(entry, siblings, values)
  }

  /** The same, of what {@link putSingle} wrote last. */
  addSingleToUnit (value: Bytes | undefined): void {
    const entry = this.#entries?.begin(this.#keyView, 1, 1 + this.#keyLength)
    if (entry === undefined) return
    entry.raw(this.#single)
    if (this.#stampedLength >= 0) entry.varint(this.#stampedLength + 1).raw(scratch.data.view(this.#stampedLength))
    else if (value !== undefined) writeValue(entry, value)
  }

  /** Anything else that has to be in the same atomic write. */
  putRaw (key: Buffer, value: Uint8Array): void {
    this.#target.put(key, value)
    this.bytes += key.length + value.length
  }

  delRaw (key: Buffer): void {
    this.#target.del(key)
    this.bytes += key.length
  }

  /**
   * Hands it to the engine. {@link committed} is to follow when that has succeeded; if it fails, the number is used
   * again: a gap would betray a batch that was lost.
   */
  write (): Promise<void> {
    const { journal, tally } = this.#state
    this.#save()
    tally.wrote(this.#logged, this.#loggedDeletes)
    if (journal.writesCheckpoint) this.engineBatch.put(meta.tally, tally.encode())
    journal.add(this.engineBatch, this.#changes, this.#unlogged)
    const written = this.engineBatch.write(this.sync)
    // While LevelDB's thread is at work.
    if (this.hasNews) this.#unit = this.#encode()
    return written
  }

  /** Writes what has been added since the last time to the redo log; {@link reveal} is to follow. @param number that the batch will have */
  append (redo: RedoLog, number: number): void {
    this.#save()
    putRecord(redo, number, this.#changes, this.#unlogged)
    redo.append(number)
  }

  /** Adds what is not on disk yet of who this replica is. */
  #save (): void {
    const { unsaved } = this.#state
    this.#saves = unsaved
    unsaved?.(this)
  }

  #encode (): Unit {
    const changes = without(this.#changes, this.#told)
    const body = this.#entries?.encode(changes, this.#collected)
    return { changes, collected: this.#collected, body: this.gap ? undefined : body }
  }

  /** What live streams have not been told, if all of it is revealed. */
  unit (): Unit {
    const unit = this.#unit ?? this.#encode()
    this.#unit = undefined
    this.#told = [...this.#changes]
    return unit
  }

  /** The same, of what is revealed, if there is more: whoever needs it has to look it up. */
  unitWithoutBody (): Unit {
    const changes = without(this.#revealed, this.#told)
    this.#told = this.#revealed
    return { changes, collected: [], body: undefined }
  }

  /** Whether live streams have been told of all that is revealed. */
  get isTold (): boolean {
    return isAmong(this.#revealed, this.#told)
  }

  /** Whether it advances something beyond what is revealed. */
  get hasNews (): boolean {
    return !isAmong(this.#changes, this.#revealed)
  }

  /** Lets the replica's state follow what has been added since the last time: all of it survives the end of the process. */
  reveal (): void {
    if (this.#saves === this.#state.unsaved) this.#state.unsaved = undefined
    this.#state.vector.join(without(this.#changes, this.#revealed))
    this.#state.collected.join(this.#collected)
    this.#revealed = [...this.#changes]
  }

  /** The engine has what is revealed of it, and is to be given nothing more of it. */
  landed (): void {
    this.#state.journal.committed(this.#revealed)
  }

  /** The same, of a batch that the engine has got from the redo log. */
  redone (): void {
    this.#state.journal.redone(this.#revealed)
  }

  /** Lets the replica's state follow: the engine has all of it. Returns what live streams have not been told. */
  committed (): Unit {
    const unit = this.unit()
    this.reveal()
    this.landed()
    if (this.#rewound !== undefined) {
      this.#state.vector.rewind(this.#rewound)
      this.#state.collected.rewind(this.#rewound)
    }
    this.#state.tally.collected(this.dropped)
    this.#state.versionKeys.removed(this.dropped)
    return unit
  }
}

/** Whether all of some advances are among others. */
function isAmong (some: readonly Advance[], others: readonly Advance[]): boolean {
  return some.every((advance) => others.includes(advance))
}

/** Those of some advances that are not among others, in an array of their own. */
function without (some: readonly Advance[], others: readonly Advance[]): Advance[] {
  return some.filter((advance) => !others.includes(advance))
}
