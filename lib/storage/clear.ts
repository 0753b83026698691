/**
 * `clear`: a tombstone for every key in a range, as of one moment in the writer's order, in bounded transactions.
 *
 * What is written to the range after that moment survives: a key is deleted only while its sibling set is still
 * the one that the snapshot of that moment holds. The first part is committed in the same turn of the writer as the
 * snapshot is taken, so that a small range goes atomically.
 */
import { MiB } from '../limits.ts'
import type { Engine } from './engine.ts'
import { addTransaction, newGroup, type Operation } from './local.ts'
import { inDataBytes, type RangeOptions } from './range.ts'
import type { ReplicaState } from './state.ts'
import { readRecords } from './stored-sets.ts'
import type { Writer } from './writer.ts'

type Snapshot = ReturnType<Engine['snapshot']>

const keysPerTransaction = 1000
const bytesPerTransaction = MiB

export async function clearRange (state: ReplicaState, writer: Writer, options: RangeOptions, sync: boolean, nowMs: () => number): Promise<void> {
  const { engine } = state
  const range = inDataBytes(options)
  let snapshot: Snapshot | undefined
  let keys: ReturnType<Engine['keys']> | undefined
  let more = true
  try {
    while (more) {
      const group = newGroup(true)
      await writer.runInOrder(async (batch) => {
        snapshot ??= engine.snapshot()
        keys ??= engine.keys<Buffer>({ ...range, snapshot: options.snapshot ?? snapshot, fillCache: false } as object)
        const page = await nextPage(keys as unknown as KeyPages)
        more = page.more
        const operations = await unchangedSince(state, snapshot, page.keys)
        addTransaction(state, batch, group, operations, nowMs())
        batch.sync = sync && !more
        return !batch.empty || batch.sync
      })
      for (const key of group.settled) state.siblingKeys.delete(key)
    }
  } finally {
    await keys?.close()
    await snapshot?.close()
  }
}

interface KeyPages {
  nextv (size: number): Promise<Buffer[]>
}

/** The next keys to delete, without the prefix. */
async function nextPage (iterator: KeyPages): Promise<{ keys: Buffer[], more: boolean }> {
  const keys: Buffer[] = []
  let bytes = 0
  while (keys.length < keysPerTransaction && bytes < bytesPerTransaction) {
    const page = await iterator.nextv(keysPerTransaction - keys.length)
    if (page.length === 0) return { keys, more: false }
    for (const key of page) {
      keys.push(key.subarray(1))
      bytes += key.length
    }
  }
  return { keys, more: true }
}

async function unchangedSince (state: ReplicaState, snapshot: Snapshot, keys: Buffer[]): Promise<Operation[]> {
  if (keys.length === 0) return []
  const [then, now] = await Promise.all([readRecords(state, keys, { snapshot }), readRecords(state, keys)])
  return keys
    .filter((_key, index) => then[index] !== undefined && now[index] !== undefined && then[index].equals(now[index]))
    .map((key) => ({ type: 'del', key }))
}
