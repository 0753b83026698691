/**
 * What is left after LevelDB has lost batches from the middle of its write-ahead log.
 *
 * The vector goes back to before the first loss. Writes of later batches that survived are known one by one, from
 * their log records. Each batch is there as a whole or not at all, and whatever changes a key writes its version record,
 * what it reads as and the values of all its siblings: so each key is as the last batch left it that touched it and
 * survived. What an earlier one should have added or removed may be wrong: so every key of a survivor is looked at, and
 * every key that has values of siblings, since the last survivor may have forgotten its deletes and their log records. A log
 * record that is missing is written again, and a value that belongs to no version goes. The cost is that of what the
 * write-ahead log can hold, and of all conflicts.
 */
import { decodeLogRecord, encodeLogRecord, type LogOperation } from '../codec/log-record.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import { DotSet } from '../core/dot-set.ts'
import { observe, type Hlc } from '../core/hlc.ts'
import { logIdFrom, type LogId } from '../core/ids.ts'
import type { SiblingSet } from '../core/siblings.ts'
import type { ReadonlyVersionVector } from '../core/version-vector.ts'
import { buffers, type Engine } from './engine.ts'
import { dotBytes, inKeyspace, keyspace, logKey, readSequence, siblingKey, wholeKeyspace } from './keyspaces.ts'
import { recordOfData } from './stored-sets.ts'

/** An operation of a log record that no vector covers. */
export interface Survivor extends LogOperation {
  readonly log: LogId
  readonly hlc: Hlc
  /** The key of its log record. */
  readonly record: Buffer
}

/** A change of the engine; without a value, a removal. */
export interface Mend {
  readonly key: Buffer
  readonly value?: Buffer
}

/** The operations of all log records that a vector does not cover. */
export async function * survivorsAbove (engine: Engine, vector: ReadonlyVersionVector): AsyncGenerator<Survivor> {
  const { gte, lt } = wholeKeyspace(keyspace.log)
  let from: Buffer = gte
  while (true) {
    const [head] = await engine.keys<Buffer>({ gte: from, lt, limit: 1, keyEncoding: 'buffer' }).all()
    if (head === undefined) return
    const log = logIdFrom(head.subarray(1, 9))
    const known = vector.sequenceOf(log)
    for await (const [key, value] of engine.iterator<Buffer, Buffer>({ gte: logKey(log, known + 1), lte: logKey(log, Number.MAX_SAFE_INTEGER), ...buffers })) {
      const { hlc, operations } = decodeLogRecord(readSequence(key, 9), value)
      for (const operation of operations) yield { ...operation, log, hlc, record: key }
    }
    from = Buffer.concat([logKey(log, Number.MAX_SAFE_INTEGER), Buffer.of(0)])
  }
}

/** What survived, how much that is, and the clock that it was written by. */
export async function readSurvivors (engine: Engine, vector: ReadonlyVersionVector): Promise<{ survivors: DotSet, count: number, hlc: Hlc }> {
  const survivors = new DotSet()
  let count = 0
  let latest: Hlc = 0
  for await (const { log, sequence, hlc } of survivorsAbove(engine, vector)) {
    survivors.add(log, sequence)
    count++
    latest = observe(latest, hlc)
  }
  return { survivors, count, hlc: latest }
}

/**
 * Makes one state of what survived; versions whose log records are lost survive too.
 *
 * @param vector up to the first loss
 * @param keys what survivors changed without a log record
 * @returns what is to be written with the first batch.
 */
export async function mendHole (engine: Engine, vector: ReadonlyVersionVector, survivors: DotSet, keys: readonly Buffer[]): Promise<Mend[]> {
  const mends: Mend[] = []
  const texts = new Set(keys.map((key) => key.toString('latin1')))
  for await (const { key } of survivorsAbove(engine, vector)) texts.add(key.toString('latin1'))
  for await (const stored of engine.keys<Buffer>({ ...wholeKeyspace(keyspace.sibling), keyEncoding: 'buffer' })) texts.add(stored.latin1Slice(1, stored.length - dotBytes))
  for (const text of texts) {
    const key = Buffer.from(text, 'latin1')
    const siblings = decodeSiblings(await setOf(engine, key, mends))
    mends.push(...mendLog(key, siblings, vector, survivors), ...await mendValues(engine, key, siblings))
  }
  return mends
}

/** The version record of a key. A value with a stamp came later than a record that is there beside it: the batch that removed that is lost. */
async function setOf (engine: Engine, key: Buffer, mends: Mend[]): Promise<Buffer | undefined> {
  const [record, data] = await engine.getMany([inKeyspace(keyspace.version, key), inKeyspace(keyspace.data, key)], buffers)
  const stamped = recordOfData(data)
  if (stamped !== undefined && record !== undefined) mends.push({ key: inKeyspace(keyspace.version, key) })
  return stamped ?? record
}

/** Log records for versions whose own are lost. */
function mendLog (key: Buffer, siblings: SiblingSet, vector: ReadonlyVersionVector, survivors: DotSet): Mend[] {
  const mends: Mend[] = []
  for (const { log, sequence, hlc, type } of siblings) {
    if (vector.covers(log, sequence) || survivors.covers(log, sequence)) continue
    survivors.add(log, sequence)
    mends.push({ key: logKey(log, sequence), value: encodeLogRecord({ hlc, operations: [{ sequence, type, key }] }) })
  }
  return mends
}

/** No other values are kept apart than those of the set. */
async function mendValues (engine: Engine, key: Buffer, siblings: SiblingSet): Promise<Mend[]> {
  const apart = siblings.length > 1 ? siblings.filter(({ type }) => type === 'put') : []
  const texts = new Set(apart.map(({ log, sequence }) => siblingKey(key, log, sequence).toString('latin1')))
  const prefix = inKeyspace(keyspace.sibling, key)
  const mends: Mend[] = []
  for await (const stored of engine.keys<Buffer>({ gte: prefix, lte: Buffer.concat([prefix, Buffer.alloc(dotBytes, 0xff)]), keyEncoding: 'buffer' })) {
    // Longer keys that begin with this one lie in between.
    if (stored.length === prefix.length + dotBytes && !texts.has(stored.toString('latin1'))) mends.push({ key: stored })
  }
  return mends
}
