/**
 * Writes of another log, written again in our own with their old times, in place of the old dots, whose log records go.
 */
import { decodeSiblings } from '../codec/sibling-set.ts'
import { compareSiblings, indexOfDot, type Sibling, type SiblingSet } from '../core/siblings.ts'
import type { Derivation } from './derive.ts'
import type { Survivor } from './holes.ts'
import type { InnerBatch } from './inner-batch.ts'
import { inKeyspace, keyspace, siblingKey } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

/** One that has been superseded is not written again. */
export async function writeAgain (state: ReplicaState, derivation: Derivation, batch: InnerBatch, operations: Survivor[]): Promise<void> {
  for (const { record } of operations) batch.delRaw(record)
  operations.sort((a, b) => a.hlc - b.hlc || (a.log === b.log ? a.sequence - b.sequence : a.log < b.log ? -1 : 1))
  const sets = new Map<string, { key: Buffer, before: SiblingSet, now: Sibling[], written: Map<Sibling, Sibling> }>()
  let transaction: Survivor | undefined
  let first = 0
  for (const operation of operations) {
    const text = operation.key.toString('latin1')
    let set = sets.get(text)
    if (set === undefined) {
      const before = await readSiblings(state, operation.key)
      sets.set(text, set = { key: operation.key, before, now: [...before], written: new Map() })
    }
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
  for (const { key, before, now, written } of sets.values()) {
    if (written.size > 0) await writeSet(state, derivation, batch, key, before, now, written)
  }
}

async function writeSet ({ engine }: ReplicaState, derivation: Derivation, batch: InnerBatch, key: Buffer, before: SiblingSet, now: Sibling[], written: Map<Sibling, Sibling>): Promise<void> {
  now.sort(compareSiblings)
  if (before.length === 1) {
    batch.setKey(key)
    batch.putVersion(now)
    return
  }
  const values = await Promise.all(now.map(async (sibling) => {
    const { type, log, sequence } = written.get(sibling) ?? sibling
    return type === 'put' ? await engine.get(siblingKey(key, log, sequence), buffers) as Buffer : undefined
  }))
  const outcome = derivation.outcome(key, now, values)
  batch.setKey(key)
  batch.putVersion(now)
  if (outcome.type === 'put') batch.putData(outcome.version.valueBytes!)
  else batch.delData()
  for (let index = 0; index < now.length; index++) {
    const old = written.get(now[index]!)
    if (old?.type !== 'put') continue
    batch.delSiblingValue(old.log, old.sequence)
    batch.putSiblingValue(now[index]!.log, now[index]!.sequence, values[index]!)
  }
}

async function readSiblings ({ engine }: ReplicaState, key: Buffer): Promise<SiblingSet> {
  const record = await engine.get(inKeyspace(keyspace.version, key), buffers) as Buffer | undefined
  return record === undefined ? [] : decodeSiblings(record)
}
