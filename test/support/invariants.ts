/**
 * The invariants of what stands on disk, read from the raw keyspaces of an engine at one moment.
 *
 * Named as in the design: I2 data is the fold of the siblings; I3 every dot of a sibling set is in a log record of
 * that key, with its time and type; I6 no tombstone that was collected is there; I4 every dot is covered by the vector, which is the checkpoint and the journal after it; no
 * log holds a later time than the vector says of it, from which an open takes what has been seen; and the sibling keyspace holds the values of the puts of keys with two or more siblings, and nothing else.
 */
import { ByteReader } from '../../lib/codec/bytes.ts'
import { readAdvances } from '../../lib/codec/advances.ts'
import { decodeLogRecord } from '../../lib/codec/log-record.ts'
import { decodeSiblings } from '../../lib/codec/sibling-set.ts'
import { formatLogId, logIdFrom, type LogId } from '../../lib/core/ids.ts'
import { fold, lastWriterWins } from '../../lib/core/resolve.ts'
import type { SiblingSet } from '../../lib/core/siblings.ts'
import { VersionVector, type Advance } from '../../lib/core/version-vector.ts'
import { journalSlots, stampedValueMax } from '../../lib/limits.ts'
import { isStamped, valueOf } from '../../lib/storage/data-record.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { keyspace, meta, readSequence } from '../../lib/storage/keyspaces.ts'
import { storedSet } from '../../lib/storage/stored-sets.ts'
import type { Resolver, Version } from '../../lib/types.ts'

export interface DiskState {
  readonly data: Map<string, Buffer>
  readonly versions: Map<string, SiblingSet>
  readonly vector: VersionVector
  /** `key, log and sequence` of each pair in the log. */
  readonly logged: Set<string>
  readonly staged: number
  readonly logRecords: number
  readonly journalRecords: number
}

const journalPrefix = meta.journal(0).toString('latin1', 0, 2)

function dotText (log: LogId, sequence: number): string {
  return `${formatLogId(log)}:${sequence}`
}

function fail (invariant: string, what: string): never {
  throw new Error(`${invariant} does not hold: ${what}`)
}

export interface CheckOptions {
  /** Default: the later one wins. Gets text. */
  resolver?: Resolver
  /** What an apply phase that is under way will bring. */
  alsoCovered?: VersionVector
  /** No tombstone that this covers may be there. */
  collected?: { covers (log: LogId, sequence: number): boolean }
  /** The vector in memory, which has to be the same. */
  vector?: { equals (other: VersionVector): boolean }
}

/** Reads everything, and throws if an invariant does not hold. */
export async function checkInvariants (engine: Engine, { resolver = lastWriterWins, alsoCovered, collected, vector: inMemory }: CheckOptions = {}): Promise<DiskState> {
  const data = new Map<string, Buffer>()
  const versions = new Map<string, SiblingSet>()
  const siblings = new Map<string, Buffer>()
  const logged = new Set<string>()
  const logHlc = new Map<string, number>()
  const logTimes: Advance[] = []
  const logType = new Map<string, string>()
  const metas = new Map<string, Buffer>()
  let staged = 0
  let logRecords = 0
  for await (const [key, value] of engine.iterator<Buffer, Buffer>({ keyEncoding: 'buffer', valueEncoding: 'buffer' })) {
    const rest = key.subarray(1)
    switch (key[0]) {
      case keyspace.data: {
        const text = rest.toString('latin1')
        if (isStamped(value) && versions.has(text)) fail('the format', `${text} has a version record, and a stamp`)
        if (isStamped(value)) versions.set(text, storedSet(undefined, value))
        else if (!versions.has(text)) fail('I2', `${text} is in data and has no version`)
        else if (versions.get(text)!.length === 1 && value.length - 1 <= stampedValueMax) fail('the format', `${text} has a version record of its only version`)
        data.set(text, Buffer.from(valueOf(value)))
        break
      }
      case keyspace.version: versions.set(rest.toString('latin1'), decodeSiblings(value)); break
      case keyspace.sibling: siblings.set(rest.toString('latin1'), Buffer.from(value)); break
      case keyspace.meta: metas.set(key.toString('latin1'), Buffer.from(value)); break
      case keyspace.stage: staged++; break
      case keyspace.log: {
        logRecords++
        const log = logIdFrom(rest.subarray(0, 8))
        const first = readSequence(rest, 8)
        const { hlc, operations } = decodeLogRecord(first, value)
        if (operations.length === 0 || operations[0]!.sequence !== first) fail('I3', `log record ${dotText(log, first)} does not begin with its own operation`)
        logTimes.push({ log, sequence: operations.at(-1)!.sequence, hlc })
        for (const { sequence, type, key } of operations) {
          logType.set(dotText(log, sequence), type)
          logged.add(`${key.toString('latin1')} ${dotText(log, sequence)}`)
          logHlc.set(dotText(log, sequence), hlc)
        }
        break
      }
      default: fail('the format', `a key in no keyspace, ${key.toString('hex')}`)
    }
  }

  const vector = vectorOf(metas)
  if (inMemory !== undefined && !inMemory.equals(vector)) fail('I4', 'the vector on disk is not the one in memory')

  for (const { log, sequence, hlc } of logTimes) {
    if (vector.covers(log, sequence) && hlc > vector.get(log)!.hlc) fail('the clock', `${dotText(log, sequence)} was written at ${hlc}, after ${vector.get(log)!.hlc}, where the log ends`)
  }

  for (const [key, set] of versions) {
    if (set.length === 0) fail('I3', `an empty sibling set of ${key}`)
    for (const { log, sequence, hlc, type } of set) {
      const dot = dotText(log, sequence)
      if (!logged.has(`${key} ${dot}`)) fail('I3', `${dot} of ${key} is in no log record`)
      if (logHlc.get(dot) !== hlc) fail('I3', `${dot} of ${key} has another time in the log`)
      if (logType.get(dot) !== type) fail('I3', `${dot} of ${key} is of another type in the log`)
      if (type === 'del' && collected?.covers(log, sequence) === true) fail('I6', `${dot} of ${key} has been collected`)
      if (!vector.covers(log, sequence) && alsoCovered?.covers(log, sequence) !== true) fail('I4', `${dot} of ${key} is not covered`)
      const siblingKey = key + Buffer.from(log, 'latin1').toString('latin1') + sequenceBytes(sequence)
      if (set.length > 1 && type === 'put' && !siblings.delete(siblingKey)) fail('siblings', `the value of ${dot} of ${key} is missing`)
    }
  }
  if (siblings.size > 0) fail('siblings', `${siblings.size} values belong to no key with siblings`)

  // The values of siblings are gone from the map by now: read them again.
  for (const [key, set] of versions) {
    const values = await Promise.all(set.map(async ({ log, sequence, type }) => {
      if (type === 'del') return undefined
      if (set.length === 1) return data.get(key)
      const stored = Buffer.concat([Buffer.of(keyspace.sibling), Buffer.from(key, 'latin1'), Buffer.from(log, 'latin1'), Buffer.from(sequenceBytes(sequence), 'latin1')])
      return await engine.get(stored, { keyEncoding: 'buffer', valueEncoding: 'buffer' }) as Buffer
    }))
    const outcome = fold(set.map((sibling, index) => versionOf(key, sibling, values[index])), resolver, (challenger, resolution) => ({
      ...challenger,
      ...('value' in resolution ? { type: 'put', value: resolution.value, valueBytes: Buffer.from(String(resolution.value)) } : { type: 'del', value: undefined, valueBytes: undefined })
    }) as Version, () => {})
    const stored = data.get(key)
    if (outcome.type === 'del' && stored !== undefined) fail('I2', `${key} is in data, and was deleted`)
    if (outcome.type === 'put' && (stored === undefined || stored.compare(outcome.version.valueBytes!) !== 0)) fail('I2', `${key} reads ${String(stored)}, and the fold is ${String(outcome.version.valueBytes)}`)
  }
  return { data, versions, vector, logged, staged, logRecords, journalRecords: [...metas.keys()].filter((key) => key.startsWith(journalPrefix)).length }
}

function versionOf (key: string, { type, hlc, log }: SiblingSet[number], value: Buffer | undefined): Version {
  return { key, value: value?.toString(), type, timestamp: Math.floor(hlc / 1024), origin: formatLogId(log), keyBytes: Buffer.from(key, 'latin1'), valueBytes: value } as Version
}

function sequenceBytes (sequence: number): string {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(sequence))
  return bytes.toString('latin1')
}

/** The last checkpoint, and what the journal says since. */
export function vectorOf (metas: Map<string, Buffer>): VersionVector {
  const vector = new VersionVector()
  const [first] = meta.vector(logIdFrom(new Uint8Array(8))).toString('latin1').split('\0')
  for (const [key, value] of metas) {
    if (!key.startsWith(first!) || key.length !== first!.length + 8) continue
    const reader = new ByteReader(value)
    const hlc = reader.hlc()
    vector.advance({ log: key.slice(first!.length) as LogId, hlc, sequence: reader.varint() })
  }
  const checkpoint = metas.get(meta.checkpoint.toString('latin1'))
  let number = checkpoint === undefined ? 0 : new ByteReader(checkpoint).varint()
  while (true) {
    const record = metas.get(meta.journal(++number % journalSlots).toString('latin1'))
    if (record === undefined) return vector
    const reader = new ByteReader(record)
    if (reader.varint() !== number) return vector
    vector.join(readAdvances(reader))
  }
}

/** Throws unless all engines hold the same data, sibling sets and vectors. */
export async function checkEqual (engines: readonly Engine[], options?: CheckOptions): Promise<void> {
  const states: DiskState[] = []
  for (const engine of engines) states.push(await checkInvariants(engine, options))
  const text = ({ data, versions }: DiskState): string => JSON.stringify([
    [...data].map(([key, value]) => [key, value.toString('latin1')]),
    [...versions].sort(([a], [b]) => a < b ? -1 : 1).map(([key, set]) => [key, set.map(({ type, log, sequence, hlc }) => [type, dotText(log, sequence), hlc])])
  ])
  for (let index = 1; index < states.length; index++) {
    if (!states[0]!.vector.equals(states[index]!.vector)) fail('convergence', `the vectors of replicas 0 and ${index} differ`)
    const [first, other] = [text(states[0]!), text(states[index]!)]
    if (first !== other) fail('convergence', `replicas 0 and ${index} differ: ${first.slice(0, 2000)} and ${other.slice(0, 2000)}`)
  }
}
