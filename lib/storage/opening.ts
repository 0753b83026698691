/**
 * From an engine that is open to the state of a replica: the format and the identity checked, the vector read, and the
 * log kept or begun anew; what LevelDB has lost is found out.
 *
 * What must hold: nothing is changed in a database that is not a replica's, or of another format; nothing is written
 * under an identity before it is on disk. The identity is renewed last, and the first batch names it at once; the new one is
 * drafted before, while the database is read: disks are slow.
 */
import { ByteWriter } from '../codec/bytes.ts'
import { DotSet } from '../core/dot-set.ts'
import { observe, type Hlc } from '../core/hlc.ts'
import { logIdBytes, logIdFrom, newLogId, replicaIdBytes, replicaIdFrom } from '../core/ids.ts'
import { VersionVector, type Advance } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { endsMax } from '../limits.ts'
import type { System } from '../types.ts'
import { buffers, writeOut, type Engine } from './engine.ts'
import { decodeLeaving } from './leaving.ts'
import { mendHole, readSurvivors } from './holes.ts'
import { decodeIdentity, encodeIdentity, judge, lastFound, type Identity, type IdentityStore } from './identity.ts'
import type { InnerBatch } from './inner-batch.ts'
import { Journal, loadJournal, readStoredAdvance, writeStoredAdvance, type LoadedJournal } from './journal.ts'
import { formatVersion, meta, readSequence, tallied } from './keyspaces.ts'
import { LogTally } from './log-tally.ts'
import { redo, RedoLog, seedOf, type RedoFile } from './redo-log.ts'
import { ReplicaState } from './state.ts'

export interface OpeningOptions {
  readonly engine: Engine
  readonly identity: IdentityStore
  readonly redoFile?: RedoFile | undefined
  readonly system: System
}

export interface Opening {
  readonly state: ReplicaState
  readonly redo: RedoLog | undefined
  /** Whether the database has just been made. */
  readonly fresh: boolean
  /** How many of the last batches LevelDB has lost from its write-ahead log. */
  readonly hole: { readonly lost: number, readonly since: number } | undefined
  /** Whether a hole, this one or an earlier one, is to be made up for. */
  readonly repairing: boolean
  /** Up to where data of our log has been sent. */
  readonly told: Advance
  /** Whether LevelDB has lost the end of its write-ahead log, of which peers had been told. */
  readonly tailLost: boolean
  /** Renews the identity, and adds what the first batch has to say before any other. */
  save (batch: InnerBatch): Promise<void>
}

/**
 * Ticks that the clock skips at an open, at most: a second. Where it is ahead of the wall clock, it counts; two snapshots of a disk,
 * opened one after the other, would give the same times to what they write in the same places.
 */
const clockSkipMax = 2 ** 20

/** @throws `REPLICATION_NOT_A_REPLICA`, `REPLICATION_FORMAT_UNKNOWN`, `REPLICATION_CORRUPT` */
export async function openState (options: OpeningOptions): Promise<Opening> {
  const { engine, identity, system } = options
  const format = await engine.get(meta.format, buffers)
  const fresh = format === undefined
  if (fresh) await assertEmpty(engine)
  else if (format[0] !== formatVersion) throw new ReplicationError(`The database has format ${format[0] ?? 'none'}, this version reads format ${formatVersion}`, { code: 'REPLICATION_FORMAT_UNKNOWN' })
  const nonce = Buffer.from(system.randomBytes(16)).toString('hex')
  const [opening, drafted] = await Promise.allSettled([readState(options, fresh, nonce), identity.draft(nonce)])
  if (opening.status === 'rejected') throw opening.reason
  if (drafted.status === 'rejected') throw drafted.reason
  return opening.value
}

/** @param nonce what the identity is to be renewed to */
async function readState ({ engine, identity, redoFile, system }: OpeningOptions, fresh: boolean, nonce: string): Promise<Opening> {
  const [[storedIdentity, cleanClose], found, told] = await Promise.all([engine.getMany<Buffer, Buffer>([meta.identity, meta.cleanClose], buffers), identity.read(), identity.told()])
  const remembered = storedIdentity === undefined ? undefined : decodeIdentity(storedIdentity)
  const verdict = judge(remembered, found, cleanClose !== undefined)

  const journal = await loadWhole(engine, redoFile, remembered)
  const { number, checkpoint, vector, operations, lost, keys } = journal
  const [[hole, storedTally, storedReplica, storedLog, leaving], ends, forgotten] = await Promise.all([
    engine.getMany<Buffer, Buffer>([meta.hole, meta.tally, meta.replica, meta.ownLog, meta.leaving], buffers),
    engine.keys<Buffer>({ ...meta.all('E'), keyEncoding: 'buffer' }).all(),
    engine.iterator<Buffer, Buffer>({ ...meta.all('C'), ...buffers }).all()
  ])
  const repairing = lost > 0 || hole !== undefined
  const { survivors, count, hlc } = repairing ? await readSurvivors(engine, vector) : { survivors: new DotSet(), count: 0, hlc: 0 }
  const mends = lost > 0 ? await mendHole(engine, vector, survivors, keys) : []

  const isTallied = lost === 0 && cleanClose?.[0] === tallied
  const tally = new LogTally(storedTally, isTallied ? 0 : operations + count)
  const keepsReplica = verdict !== 'new-replica' && storedReplica !== undefined
  const isTold = storedLog !== undefined && told?.log === logIdFrom(storedLog)
  const tailLost = isTold && told.sequence > vector.sequenceOf(told.log)
  const keepsLog = verdict === 'same' && isTold && lost === 0 && !tailLost
  const collected = collectedOf(forgotten, vector)
  const ownLog = keepsLog ? logIdFrom(storedLog) : newLogId(system.randomBytes(logIdBytes))
  const state = new ReplicaState({
    engine,
    replica: keepsReplica ? replicaIdFrom(storedReplica) : replicaIdFrom(system.randomBytes(replicaIdBytes)),
    ownLog,
    hlc: Math.max(latest(vector, hlc), vector.get(ownLog)?.hlc ?? 0) + Math.floor(system.random() * clockSkipMax),
    vector,
    collected,
    journal: new Journal(journal),
    survivors,
    leaving: leaving === undefined ? undefined : decodeLeaving(leaving),
    tally
  }, (size) => system.randomBytes(size))
  const redoLog = redoFile === undefined ? undefined : new RedoLog(redoFile)
  return {
    state,
    redo: redoLog,
    fresh,
    repairing,
    told: keepsLog ? told : { log: ownLog, sequence: 0, hlc: 0 },
    tailLost: tailLost && verdict === 'same' && lost === 0,
    hole: lost > 0 ? { lost, since: number - checkpoint } : undefined,
    save: async (batch) => {
      const renewed = await identity.renew(nonce, verdict === 'new-replica' ? undefined : lastFound(remembered!, found!))
      redoLog?.begin(renewed.nonce)
      batch.sync = true
      if (fresh) batch.putRaw(meta.format, Buffer.of(formatVersion))
      batch.putRaw(meta.replica, Buffer.from(state.replica, 'hex'))
      batch.putRaw(meta.ownLog, Buffer.from(state.ownLog, 'latin1'))
      batch.delRaw(meta.cleanClose)
      batch.putRaw(meta.identity, encodeIdentity(renewed))
      const own = keepsLog ? vector.get(ownLog) : undefined
      // Copies of the directory may end there.
      if (own !== undefined && own.sequence > told!.sequence) batch.putRaw(meta.end(ownLog, own.sequence), new ByteWriter().hlc(own.hlc).take())
      for (const [index, key] of ends.entries()) {
        if (index < ends.length - endsMax || logIdFrom(key.subarray(2, 10)) !== state.ownLog || readSequence(key, 10) <= told!.sequence) batch.delRaw(key)
      }
      if (repairing) batch.putRaw(meta.hole, Buffer.of(1))
      if (lost === 0) return
      // A delivery that was on its way in may lack a part.
      batch.delRaw(meta.stage)
      for (const advance of collected) batch.putRaw(meta.collected(advance.log), writeStoredAdvance(new ByteWriter(), advance).take())
      for (const { key, value } of mends) {
        if (value === undefined) batch.delRaw(key)
        else batch.putRaw(key, value)
      }
    }
  }
}

/** The journal, once LevelDB has been given what counts already and did not reach it before the process ended. */
async function loadWhole (engine: Engine, redoFile: RedoFile | undefined, remembered: Identity | undefined): Promise<LoadedJournal> {
  const [journal, bytes] = await Promise.all([loadJournal(engine), redoFile?.read()])
  if (bytes === undefined || bytes.length === 0 || remembered === undefined) return journal
  if (!await redo(engine, bytes, seedOf(remembered.nonce), journal.number)) return journal
  await writeOut(engine) // as LevelDB has done with all else that it holds, so that a checkpoint may tell of it
  return await loadJournal(engine)
}

async function assertEmpty (engine: Engine): Promise<void> {
  const [key] = await engine.keys<Buffer>({ limit: 1, keyEncoding: 'buffer' }).all()
  if (key !== undefined) throw new ReplicationError(`The database is not empty (its first key is ${key.toString('hex')}) and not a replica`, { code: 'REPLICATION_NOT_A_REPLICA' })
}

/** What is known to have been forgotten. After a hole that is less: no replica has forgotten what it does not know. */
function collectedOf (entries: ReadonlyArray<[key: Buffer, value: Buffer]>, vector: VersionVector): VersionVector {
  const collected = new VersionVector()
  for (const [key, value] of entries) {
    const stored = readStoredAdvance(key, value)
    const known = vector.get(stored.log)
    if (known !== undefined) collected.advance(known.sequence < stored.sequence ? known : stored)
  }
  return collected
}

function latest (vector: VersionVector, seen: Hlc): Hlc {
  let hlc = seen
  for (const advance of vector) hlc = observe(hlc, advance.hlc)
  return hlc
}
