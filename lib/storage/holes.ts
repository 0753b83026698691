/**
 * What is left after LevelDB has lost batches from the middle of its write-ahead log.
 *
 * The vector goes back to before the first loss. Writes of later batches that survived are known one by one, from
 * their log records. Each batch is there as a whole or not at all, but a batch may have relied on an earlier one: on a
 * log record or on the value of a sibling. So every key of a survivor is looked at: a log record that is missing is
 * written again; a version without its value is dropped, and its log is fetched anew. A key that no survivor touched
 * is as some earlier moment left it. The cost is that of what the write-ahead log can hold.
 */
import { decodeLogRecord, encodeLogRecord, type LogOperation } from '../codec/log-record.ts'
import { ByteWriter } from '../codec/bytes.ts'
import { decodeSiblings, writeSiblings } from '../codec/sibling-set.ts'
import { DotSet } from '../core/dot-set.ts'
import { observe, type Hlc } from '../core/hlc.ts'
import { logIdFrom, type LogId } from '../core/ids.ts'
import { indexOfDot, type Sibling, type SiblingSet } from '../core/siblings.ts'
import type { ReadonlyVersionVector, VersionVector } from '../core/version-vector.ts'
import type { Derivation } from './derive.ts'
import type { Engine } from './engine.ts'
import { dotBytes, inKeyspace, keyspace, logKey, meta, readSequence, siblingKey, wholeKeyspace } from './keyspaces.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

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

/** What survived; the clock that it was written by. */
export async function readSurvivors (engine: Engine, vector: ReadonlyVersionVector): Promise<{ survivors: DotSet, hlc: Hlc }> {
  const survivors = new DotSet()
  let latest: Hlc = 0
  for await (const { log, sequence, hlc } of survivorsAbove(engine, vector)) {
    survivors.add(log, sequence)
    latest = observe(latest, hlc)
  }
  return { survivors, hlc: latest }
}

/**
 * Makes one state of what survived.
 *
 * @param vector up to the first loss; entries of logs that have to be fetched anew are taken out.
 * @param keys what survivors changed without a log record
 * @returns what is to be written with the first batch.
 */
export async function mendHole (engine: Engine, vector: VersionVector, survivors: DotSet, keys: readonly Buffer[], derivation: Derivation): Promise<Mend[]> {
  const mends: Mend[] = []
  const texts = new Set(keys.map((key) => key.toString('latin1')))
  for await (const { key } of survivorsAbove(engine, vector)) texts.add(key.toString('latin1'))
  for (const text of texts) {
    const key = Buffer.from(text, 'latin1')
    const record = await engine.get(inKeyspace(keyspace.version, key), buffers) as Buffer | undefined
    const siblings = record === undefined ? [] : decodeSiblings(record)
    mends.push(...mendLog(key, siblings, vector, survivors), ...await mendValues(engine, key, siblings, vector, survivors, derivation))
  }
  return mends
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

/** The values kept apart for siblings are exactly those of the set. */
async function mendValues (engine: Engine, key: Buffer, siblings: SiblingSet, vector: VersionVector, survivors: DotSet, derivation: Derivation): Promise<Mend[]> {
  const apart = await valuesApart(engine, key)
  const isApart = siblings.length > 1
  const needs = (sibling: Sibling): boolean => isApart && sibling.type === 'put'
  const mends: Mend[] = []
  for (const stored of apart.keys()) {
    if (!siblings.some((sibling) => needs(sibling) && siblingText(key, sibling) === stored)) mends.push({ key: Buffer.from(stored, 'latin1') })
  }
  const lost = siblings.filter((sibling) => needs(sibling) && !apart.has(siblingText(key, sibling)))
  if (lost.length === 0) return mends

  for (const { log, sequence } of lost) {
    const known = vector.sequenceOf(log)
    if (known < sequence) continue
    vector.remove(log)
    survivors.add(log, 1, known)
    mends.push({ key: meta.vector(log) })
  }
  for (const { log, sequence } of lost) survivors.remove(log, sequence)
  const left = siblings.filter((sibling) => indexOfDot(lost, sibling) === -1)
  const values = left.map((sibling) => apart.get(siblingText(key, sibling)))
  const outcome = derivation.outcome(key, left, values)
  const data = inKeyspace(keyspace.data, key)
  mends.push(outcome.type === 'put' ? { key: data, value: Buffer.from(outcome.version.valueBytes!) } : { key: data })
  const version = inKeyspace(keyspace.version, key)
  if (left.length === 0) return [...mends, { key: version }]
  const writer = new ByteWriter()
  writeSiblings(writer, left)
  mends.push({ key: version, value: writer.take() })
  if (left.length === 1) mends.push({ key: siblingKey(key, left[0]!.log, left[0]!.sequence) })
  return mends
}

async function valuesApart (engine: Engine, key: Buffer): Promise<Map<string, Buffer>> {
  const prefix = inKeyspace(keyspace.sibling, key)
  const values = new Map<string, Buffer>()
  for await (const [stored, value] of engine.iterator<Buffer, Buffer>({ gte: prefix, lte: Buffer.concat([prefix, Buffer.alloc(dotBytes, 0xff)]), ...buffers })) {
    // Longer keys that begin with this one lie in between.
    if (stored.length === prefix.length + dotBytes) values.set(stored.toString('latin1'), value)
  }
  return values
}

function siblingText (key: Buffer, { log, sequence }: Sibling): string {
  return siblingKey(key, log, sequence).toString('latin1')
}
