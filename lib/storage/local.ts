/**
 * Local transactions: what `put`, `del` and `batch` become.
 *
 * A transaction takes consecutive sequences of the replica's own log and one timestamp. It writes without reading:
 * a local write supersedes every sibling that its replica holds, so the new set is the new dot alone. Two cases
 * have to look first: a `del`, which writes nothing if no sibling is a put, and a write to a key that may have
 * sibling values to be removed.
 */
import { holdsPut } from '../core/siblings.ts'
import { hlcFollowedMax, isPossible, tick, timeMaxMs, type Hlc } from '../core/hlc.ts'
import type { Advance } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { logRecordOperationsMax } from '../limits.ts'
import { bytesOf, type Bytes } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { Memtable } from './memtable.ts'
import type { ReplicaState } from './state.ts'
import { readSetSync } from './stored-sets.ts'

export type Operation =
  | { readonly type: 'put', readonly key: Bytes, readonly value: Bytes }
  | { readonly type: 'del', readonly key: Bytes, readonly value?: undefined }

/** What waits must not change when the caller reuses a buffer; text cannot. */
export function copyOperation (operation: Operation): Operation {
  const key = copyOf(operation.key)
  if (operation.type === 'del') return key === operation.key ? operation : { type: 'del', key }
  const value = copyOf(operation.value)
  return key === operation.key && value === operation.value ? operation : { type: 'put', key, value }
}

export function copyOf (bytes: Bytes): Bytes {
  return typeof bytes === 'string' ? bytes : Buffer.from(bytes)
}

/** The same, with its key and value as text or bytes. */
export function inBytes (operation: Operation): Operation {
  const key = bytesOf(operation.key)
  if (operation.type === 'del') return key === operation.key ? operation : { type: 'del', key }
  const value = bytesOf(operation.value)
  return key === operation.key && value === operation.value ? operation : { type: 'put', key, value }
}

/** What a group of transactions has to remember of its own earlier operations. */
export interface LocalGroup {
  /** The last operation on a key, as a binary string, in this group or in what is still on its way before it. */
  latest (key: string): Operation['type'] | undefined
  /** What is noted from now on is this write and those that follow it. */
  begin (first: Advance): void
  /** Notes what is written. */
  note (operation: Operation): void
  /** Keys whose sibling values go with this batch. */
  readonly settled: string[]
}

/** A group of one transaction that has the writer to itself. */
export function newGroup (): LocalGroup {
  const memtable = new Memtable()
  return { latest: (key) => memtable.latest(key), begin: (first) => { memtable.begin(first) }, note: (operation) => { memtable.add(operation) }, settled: [] }
}

/**
 * Adds one transaction to a batch. Synchronous, so that the caller's bytes are copied before it returns.
 *
 * @param hlc what {@link nextTime} has returned
 */
export function addTransaction (state: ReplicaState, batch: InnerBatch, group: LocalGroup, operations: readonly Operation[], hlc: Hlc): void {
  const log = state.ownLog
  let first = 0
  for (let index = 0; index < operations.length; index++) {
    const operation = operations[index]!
    batch.setKey(operation.key)
    if (!prepareKey(state, batch, group, operation)) continue
    const sequence = ++state.ownSequence
    if (first === 0) {
      group.begin({ log, hlc, sequence })
      batch.beginSingle(log, hlc)
    }
    group.note(operation)
    if (first === 0 || sequence - first >= logRecordOperationsMax) {
      if (first !== 0) batch.endLog()
      first = sequence
      batch.beginLog(log, sequence, hlc)
    }
    const value = operation.type === 'put' ? operation.value : undefined // which a caller may give with a delete
    batch.putSingle(sequence, value)
    batch.addToLog(sequence - first, operation.type)
    batch.addSingleToUnit(value)
  }
  if (first === 0) return
  state.hlc = hlc
  batch.endLog()
  batch.advance({ log, sequence: state.ownSequence, hlc })
}

/**
 * The time of the next transaction. A log that has come to the end of time, since our own clock once stood there, is followed
 * by another one.
 *
 * @throws `REPLICATION_CLOCK_IMPOSSIBLE`
 */
export function nextTime (state: ReplicaState, nowMs: number): Hlc {
  if (Math.floor(nowMs) > timeMaxMs) throw new ReplicationError(`The clock says ${nowMs} ms since 1970: beyond the year 2200, which no replica would accept`, { code: 'REPLICATION_CLOCK_IMPOSSIBLE' })
  const hlc = tick(state.hlc, nowMs)
  if (isPossible(hlc)) return hlc
  state.replaceLog()
  state.hlc = hlcFollowedMax
  return tick(state.hlc, nowMs)
}

/** Looks at what the key holds, if that is needed. Returns false if there is nothing to write. */
function prepareKey (state: ReplicaState, batch: InnerBatch, group: LocalGroup, { type }: Operation): boolean {
  if (type === 'put' && state.siblingKeys.none) return true
  const key = batch.keyText
  const earlier = group.latest(key)
  if (type === 'del' && earlier === 'del') return false
  if (earlier !== undefined || (type === 'put' && !state.siblingKeys.mayHold(key))) return true
  const siblings = readSetSync(state, batch)
  if (type === 'del' && !holdsPut(siblings)) return false
  if (siblings.length > 1) {
    for (const sibling of siblings) if (sibling.type === 'put') batch.delSiblingValue(sibling.log, sibling.sequence)
    group.settled.push(key)
  }
  return true
}
