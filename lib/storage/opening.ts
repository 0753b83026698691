/**
 * From an engine that is open to the state of a replica: the format checked, the identity renewed, the vector read,
 * and the log kept or begun anew.
 *
 * What must hold: nothing is changed in a database that is not a replica's, or of another format; nothing is written
 * under an identity before it is on disk.
 */
import { ByteReader } from '../codec/bytes.ts'
import { readAdvance } from '../codec/advances.ts'
import { observe, type Hlc } from '../core/hlc.ts'
import { logIdFrom, replicaIdFrom, type LogId } from '../core/ids.ts'
import { VersionVector, type Advance } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { journalSlots } from '../limits.ts'
import type { System } from '../types.ts'
import type { Engine } from './engine.ts'
import { decodeIdentity, encodeIdentity, judge, type Identity, type IdentityStore, type Verdict } from './identity.ts'
import type { InnerBatch } from './inner-batch.ts'
import { formatVersion, meta } from './keyspaces.ts'
import { LogTally } from './log-tally.ts'
import { SiblingKeys } from './sibling-keys.ts'
import type { ReplicaState } from './state.ts'

export interface OpeningOptions {
  readonly engine: Engine
  readonly identity: IdentityStore
  readonly system: System
}

export interface Opening {
  readonly state: ReplicaState
  /** Adds what the first batch has to say before any other: who this is. */
  save (batch: InnerBatch): void
}

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

/** @throws `REPLICATION_NOT_A_REPLICA`, `REPLICATION_FORMAT_UNKNOWN`, `REPLICATION_CORRUPT` */
export async function openState (options: OpeningOptions): Promise<Opening> {
  const { engine } = options
  const format = await engine.get(meta.format, buffers) as Buffer | undefined
  const fresh = format === undefined
  if (fresh) await assertEmpty(engine)
  else if (format[0] !== formatVersion) throw new ReplicationError(`The database has format ${format[0] ?? 'none'}, this version reads format ${formatVersion}`, { code: 'REPLICATION_FORMAT_UNKNOWN' })
  const { verdict, identity } = await renewIdentity(options, fresh)
  const state = await loadState(options, verdict)
  return {
    state,
    save: (batch) => {
      batch.sync = true
      batch.last = true
      if (fresh) batch.putRaw(meta.format, Buffer.of(formatVersion))
      batch.putRaw(meta.replica, Buffer.from(state.replica, 'hex'))
      batch.putRaw(meta.ownLog, Buffer.from(state.ownLog, 'latin1'))
      batch.delRaw(meta.cleanClose)
      batch.putRaw(meta.identity, encodeIdentity(identity))
    }
  }
}

async function assertEmpty (engine: Engine): Promise<void> {
  const [key] = await engine.keys({ limit: 1, keyEncoding: 'buffer' }).all() as unknown as Buffer[]
  if (key !== undefined) throw new ReplicationError(`The database is not empty (its first key is ${key.toString('hex')}) and not a replica`, { code: 'REPLICATION_NOT_A_REPLICA' })
}

async function renewIdentity ({ engine, identity, system }: OpeningOptions, fresh: boolean): Promise<{ verdict: Verdict, identity: Identity }> {
  const remembered = await engine.get(meta.identity, buffers) as Buffer | undefined
  const clean = await engine.get(meta.cleanClose, buffers) !== undefined
  const found = await identity.read()
  const verdict = fresh ? 'new-replica' : judge(remembered === undefined ? undefined : decodeIdentity(remembered), found, clean)
  return { verdict, identity: await identity.renew(Buffer.from(system.randomBytes(16)).toString('hex')) }
}

async function loadState ({ engine, system }: OpeningOptions, verdict: Verdict): Promise<ReplicaState> {
  const { vector, batchNumber, uncheckpointed, operations } = await loadVector(engine)
  const collected = new VersionVector()
  for await (const [key, value] of engine.iterator({ ...meta.all('C'), ...buffers })) collected.advance(readStoredAdvance(key as Buffer, value as Buffer))
  const storedReplica = await engine.get(meta.replica, buffers) as Buffer | undefined
  const storedLog = await engine.get(meta.ownLog, buffers) as Buffer | undefined
  const replica = verdict === 'new-replica' || storedReplica === undefined ? replicaIdFrom(system.randomBytes(16)) : replicaIdFrom(storedReplica)
  const ownLog = verdict !== 'same' || storedLog === undefined ? logIdFrom(system.randomBytes(8)) : logIdFrom(storedLog)
  const tally = new LogTally(await engine.get(meta.tally, buffers) as Buffer | undefined)
  tally.wrote(operations, operations)
  let hlc: Hlc = 0
  for (const advance of vector) hlc = observe(hlc, advance.hlc)
  return { engine, replica, ownLog, ownSequence: vector.sequenceOf(ownLog), hlc, vector, collected, batchNumber, uncheckpointed, siblingKeys: new SiblingKeys(), tally }
}

/** The vector of the last checkpoint, and what the journal has advanced since: by so many operations. */
async function loadVector (engine: Engine): Promise<{ vector: VersionVector, batchNumber: number, uncheckpointed: Set<LogId>, operations: number }> {
  const vector = new VersionVector()
  const uncheckpointed = new Set<LogId>()
  for await (const [key, value] of engine.iterator({ ...meta.all('V'), ...buffers })) vector.advance(readStoredAdvance(key as Buffer, value as Buffer))
  const stored = await engine.get(meta.checkpoint, buffers) as Buffer | undefined
  const checkpoint = vector.clone()
  let batchNumber = stored === undefined ? 0 : new ByteReader(stored).varint()
  while (true) {
    const record = await engine.get(meta.journal((batchNumber + 1) % journalSlots), buffers) as Buffer | undefined
    if (record === undefined) break
    const reader = new ByteReader(record)
    if (reader.varint() !== batchNumber + 1) break
    batchNumber++
    while (reader.remaining > 0) {
      const advance = readAdvance(reader)
      vector.advance(advance)
      uncheckpointed.add(advance.log)
    }
  }
  return { vector, batchNumber, uncheckpointed, operations: vector.operationsBeyond(checkpoint) }
}

function readStoredAdvance (key: Buffer, value: Buffer): Advance {
  const reader = new ByteReader(value)
  const hlc = reader.hlc()
  return { log: logIdFrom(key.subarray(2)), hlc, sequence: reader.varint() }
}
