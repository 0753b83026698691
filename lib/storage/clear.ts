/**
 * `clear`: a tombstone for every key in a range, as of one moment in the writer's order, in bounded transactions.
 *
 * What is written to the range after that moment survives: a key is deleted only while its sibling set is still
 * the one that the snapshot of that moment holds. The first part is committed in the same turn of the writer as the
 * snapshot is taken, so that a small range goes atomically.
 */
import { MiB } from '../limits.ts'
import type { Engine } from './engine.ts'
import { addTransaction, newGroup, nextTime, type Operation } from './local.ts'
import { forMerging, Merged } from './merged.ts'
import { inDataBytes, type RangeOptions } from './range.ts'
import { inSnapshot, pendingAt } from './snapshot.ts'
import type { ReplicaState } from './state.ts'
import { readRecords } from './stored-sets.ts'
import type { Writer } from './writer.ts'

type Snapshot = ReturnType<Engine['snapshot']>

const keysPerTransaction = 1000
const bytesPerTransaction = MiB

export async function clearRange (state: ReplicaState, writer: Writer, options: RangeOptions, sync: boolean, nowMs: () => number): Promise<void> {
  const { engine } = state
  const pending = pendingAt(options) ?? new Map()
  const range = forMerging(inDataBytes(options), pending.keys())
  const { limit = -1 } = options
  let left = limit < 0 ? Infinity : limit
  let snapshot: Snapshot | undefined
  let keys: KeyPages | undefined
  const merged = new Merged({
    nextv: async (size) => (await keys!.nextv(size)).map((key) => [key.subarray(1), undefined])
  }, pending, { ...options, keyEncoding: 'buffer', values: false })
  try {
    for (let more = true; more;) {
      const group = newGroup()
      await writer.runInOrder(async (batch) => {
        snapshot ??= engine.snapshot()
        keys ??= engine.keys<Buffer>({ ...range, snapshot: inSnapshot(options).snapshot ?? snapshot, fillCache: false } as object) as unknown as KeyPages
        const page = await nextPage(merged, left)
        left -= page.keys.length
        more = page.more && left > 0
        const operations = await unchangedSince(state, snapshot, page.keys)
        addTransaction(state, batch, group, operations, nextTime(state, nowMs()))
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
  close (): Promise<void>
}

/** The next keys to delete, at most so many. */
async function nextPage (merged: Merged, most: number): Promise<{ keys: Buffer[], more: boolean }> {
  const keys: Buffer[] = []
  let bytes = 0
  while (keys.length < Math.min(most, keysPerTransaction) && bytes < bytesPerTransaction) {
    const page = await merged.nextv(Math.min(most, keysPerTransaction) - keys.length, {})
    if (page.length === 0) return { keys, more: false }
    for (const [key] of page as Array<[Buffer, undefined]>) {
      keys.push(key)
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
