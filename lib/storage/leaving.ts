/**
 * Leaving a log that is in other hands, too: a snapshot of the whole disk was put back, or goes on beside it.
 *
 * Up to where data of the log has been sent to peers it is everybody's. What this replica alone has beyond that is written
 * again in a new log, with its old times, and the vector goes back: so every dot names one write, whatever the other one
 * has written. Nobody is linked meanwhile. It is done in steps of bounded size; a record in meta says that it is under way,
 * and an open goes on with it before anything else.
 *
 * A delete of ours that has been forgotten already has no dot any more by which others could hear of it. So the new log
 * begins with a sequence that counts as collected: whoever does not know it is sent the whole state.
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import type { Advance } from '../core/version-vector.ts'
import type { Derivation } from './derive.ts'
import type { InnerBatch } from './inner-batch.ts'
import { meta } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'
import { readLogRecords } from './sweeper.ts'
import { writeAgain } from './write-again.ts'

/** Log records taken at once, at most. */
const recordsPerStep = 500

/** Becomes another replica, in a new log; the next batch says so. */
export function beginLeaving (state: ReplicaState, kept: Advance): void {
  state.saveWithNext((batch) => { batch.putRaw(meta.leaving, encodeLeaving(kept)) })
  state.replaceReplica()
  if (!state.collected.covers(kept.log, kept.sequence + 1)) return
  const fence = { log: state.ownLog, sequence: ++state.ownSequence, hlc: kept.hlc } // before what is written again behind it
  state.saveWithNext((batch) => {
    batch.advance(fence)
    batch.collect(fence)
  })
}

/** Writes some of it again; false if that was the end of it, and this batch goes back in the old log. */
export async function leaveStep (state: ReplicaState, derivation: Derivation, batch: InnerBatch, kept: Advance): Promise<boolean> {
  const { engine, journal, vector } = state
  const { log, sequence } = kept
  const records = await readLogRecords(engine, log, sequence + 1, Number.MAX_SAFE_INTEGER, recordsPerStep)
  if (records.length > 0) {
    await writeAgain(state, derivation, batch, records.flatMap(({ key, hlc, operations }) => operations.map((operation) => ({ ...operation, log, hlc, record: key }))))
    return true
  }
  await journal.rewind(engine, vector, kept)
  batch.sync = true
  batch.rewind(kept)
  batch.delRaw(meta.leaving)
  batch.delRaw(meta.stage)
  return false
}

function encodeLeaving (kept: Advance): Buffer {
  return new ByteWriter().logId(kept.log).hlc(kept.hlc).varint(kept.sequence).take()
}

export function decodeLeaving (bytes: Buffer): Advance {
  const reader = new ByteReader(bytes)
  return { log: reader.logId(), hlc: reader.hlc(), sequence: reader.varint() }
}
