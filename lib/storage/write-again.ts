/**
 * Writes of another log, written again in our own with their old times, in place of the old dots, whose log records go.
 *
 * Times in a log do not go back: a replica knows by its last one what it has seen. So our own is another one from then on, if it
 * holds later ones already.
 */
import { compareSiblings, indexOfDot, type Sibling, type SiblingSet } from '../core/siblings.ts'
import type { Derivation } from './derive.ts'
import { valueOf } from './data-record.ts'
import { buffers, writeOut } from './engine.ts'
import type { Survivor } from './holes.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace, siblingKey } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'
import { readSet } from './stored-sets.ts'

interface ChangingSet {
  readonly key: Buffer
  readonly before: SiblingSet
  readonly now: Sibling[]
  /** New versions, and which each replaces. */
  readonly written: Map<Sibling, Sibling>
}

/** One that has been superseded is not written again. In the writer's turn. */
export async function writeAgain (state: ReplicaState, derivation: Derivation, batch: InnerBatch, operations: Survivor[]): Promise<void> {
  // Lest LevelDB should lose, from its write-ahead log, what one stands for whose log record goes, or what has superseded it.
  await writeOut(state.engine)
  for (const { record } of operations) batch.delRaw(record)
  operations.sort((a, b) => a.hlc - b.hlc || (a.log === b.log ? a.sequence - b.sequence : a.log < b.log ? -1 : 1))
  if (operations.length > 0 && operations[0]!.hlc < (state.vector.get(state.ownLog)?.hlc ?? 0)) state.replaceLog()
  const sets = await readSets(state, operations)
  let transaction: Survivor | undefined
  let first = 0
  for (const operation of operations) {
    const set = sets.get(operation.key.toString('latin1'))!
    const index = indexOfDot(set.now, operation)
    if (index === -1) continue
    if (transaction?.log !== operation.log || transaction.hlc !== operation.hlc) {
      if (transaction !== undefined) batch.endLog()
      transaction = operation
      first = state.ownSequence + 1
      batch.beginLog(state.ownLog, first, operation.hlc)
    }
    const old = set.now[index]!
    const written = { ...old, log: state.ownLog, sequence: ++state.ownSequence }
    set.now[index] = written
    set.written.set(written, old)
    batch.setKey(operation.key)
    batch.addToLog(written.sequence - first, written.type)
    batch.advance(written)
  }
  if (transaction !== undefined) batch.endLog()
  for (const set of sets.values()) {
    if (set.written.size > 0) await writeSet(state, derivation, batch, set)
  }
}

async function writeSet ({ engine }: ReplicaState, derivation: Derivation, batch: InnerBatch, { key, before, now, written }: ChangingSet): Promise<void> {
  now.sort(compareSiblings)
  if (before.length === 1) {
    const value = valueOf(await engine.get(inKeyspace(keyspace.data, key), buffers))
    batch.setKey(key)
    batch.putSet(now, value)
    return
  }
  const values = await Promise.all(now.map(async (sibling) => {
    const { type, log, sequence } = written.get(sibling) ?? sibling
    return type === 'put' ? await engine.get(siblingKey(key, log, sequence), buffers) : undefined
  }))
  const outcome = derivation.outcome(key, now, values)
  batch.setKey(key)
  batch.putSet(now, outcome.type === 'put' ? outcome.version.valueBytes : undefined)
  for (let index = 0; index < now.length; index++) {
    const old = written.get(now[index]!)
    if (old?.type !== 'put') continue
    batch.delSiblingValue(old.log, old.sequence)
    batch.putSiblingValue(now[index]!.log, now[index]!.sequence, values[index]!)
  }
}

/** Of the keys of all operations: all before a log record is begun, which is made in one go. */
async function readSets (state: ReplicaState, operations: Survivor[]): Promise<Map<string, ChangingSet>> {
  const sets = new Map<string, ChangingSet>()
  for (const { key } of operations) {
    const text = key.toString('latin1')
    if (sets.has(text)) continue
    const before = await readSet(state, key)
    sets.set(text, { key, before, now: [...before], written: new Map() })
  }
  return sets
}
