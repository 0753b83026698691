import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { conflictKeptMs, housekeepingDelayMs, memberRefreshMs, operationBytes } from '../../lib/limits.ts'
import type { Resolver } from '../../lib/types.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { exchange, openReplica, type ReplicaOptions, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

/** Two that know of each other, the one first that settles. */
async function open (options: ReplicaOptions = {}): Promise<[TestReplica, TestReplica]> {
  const replicas = [await openReplica(options), await openReplica(options)] as [TestReplica, TestReplica]
  for (const { store } of replicas) for (const other of replicas) store.members.met(other.store.replica)
  return replicas.sort((a, b) => a.store.replica < b.store.replica ? -1 : 1)
}

/** Both have what the other has, durably, know that of each other, and have seen each other now. */
async function meet (...replicas: TestReplica[]): Promise<void> {
  const [a, b] = replicas as [TestReplica, TestReplica]
  await exchange(a, b)
  for (const { store } of replicas) await store.flush()
  for (const from of replicas) {
    for (const to of replicas) {
      to.store.members.seen(from.store.replica)
      for (const { replica, acknowledged, unseenMs } of from.store.members) to.store.members.acknowledge(replica, acknowledged, unseenMs)
    }
  }
}

async function age (ms: number, ...replicas: TestReplica[]): Promise<void> {
  for (const { system } of replicas) await system.advance(ms)
}

/** One deletes a key, and something else after it; the other writes the key meanwhile. */
async function disagree (deleting: TestReplica, writing: TestReplica, { deletesLast }: { deletesLast: boolean }): Promise<void> {
  await deleting.put('k', '1')
  await deleting.put('other', '1')
  await meet(deleting, writing)
  await age(10, deletesLast ? deleting : writing)
  await writing.put('k', '2')
  await deleting.del('k')
  await deleting.del('other')
  await meet(deleting, writing)
}

async function versionsLeft ({ engine }: TestReplica): Promise<number> {
  return (await checkInvariants(engine)).versions.size
}

for (const deletesLast of [false, true]) {
  for (const who of ['the one that settles', 'the other one']) {
    test(`a delete by ${who} and a value, of which the ${deletesLast ? 'delete' : 'value'} is read: decided after a day, and nothing is held back any more`, async () => {
      const [first, second] = await open()
      await disagree(who === 'the other one' ? second : first, who === 'the other one' ? first : second, { deletesLast })
      const read = await first.data()
      assert.equal(read, deletesLast ? {} : { k: '2' })

      await age(conflictKeptMs - 1000, first, second)
      await meet(first, second)
      for (const { store } of [first, second]) await store.housekeeping.collect()
      assert.is((await first.versions('k')).length, 2, 'not yet')
      assert.is(first.store.garbage.tombstones.conflicts, 1)

      await age(2000, first, second)
      await meet(first, second)
      await second.store.housekeeping.collect()
      assert.is((await second.versions('k')).length, 2, 'that is not for every one')
      await first.store.housekeeping.collect()
      assert.is((await first.versions('k')).length, 1)
      assert.equal(await first.data(), read)
      assert.ok(first.store.vector.operationsBeyond(second.store.vector) === 1, 'by a write like any other')

      await meet(first, second)
      for (const { store } of [first, second]) await store.housekeeping.collect()
      await meet(first, second)
      await checkEqual([first.engine, second.engine])
      assert.equal(await second.data(), read)
      assert.is(await versionsLeft(second), deletesLast ? 0 : 1)
      assert.is(second.store.garbage.tombstones.conflicts, 0)
      for (const { engine, store } of [first, second]) await checkInvariants(engine, { collected: store.collected })
      assert.equal([...first.errors, ...second.errors], [])
    })
  }
}

test('it happens by itself, though nothing is written any more', async () => {
  const [first, second] = await open()
  await disagree(first, second, { deletesLast: false })
  const dayInSteps = 145
  for (let step = 0; step < dayInSteps; step++) {
    await age(conflictKeptMs / (dayInSteps - 1), first, second)
    first.store.members.seen(second.store.replica)
  }
  await age(4 * housekeepingDelayMs, first)
  assert.is((await first.versions('k')).length, 1)
})

test('nobody is overruled who is away: he may have written the key', async () => {
  const [first, second] = await open()
  await disagree(first, second, { deletesLast: true })
  await age(conflictKeptMs / 2, first, second)
  await second.put('k', 'while away')
  await age(conflictKeptMs / 2 + 1000, first, second)
  await first.store.housekeeping.collect()
  assert.is((await first.versions('k')).length, 2)
  await meet(first, second)
  await first.store.housekeeping.collect()
  assert.equal(await first.data(), { k: 'while away' })
})

test('who is not linked is there if it has been heard of within the time that news takes', async () => {
  const [first, second] = await open()
  await disagree(first, second, { deletesLast: true })
  await age(conflictKeptMs + 1000, first)
  await first.store.housekeeping.collect()
  assert.is((await first.versions('k')).length, 2)
  first.store.members.acknowledge(second.store.replica, [], 2 * memberRefreshMs, true)
  await first.store.housekeeping.collect()
  assert.is((await first.versions('k')).length, 1)
})

test('where the first one does not do it, the next one does', async () => {
  const [first, second] = await open()
  await disagree(first, second, { deletesLast: true })
  for (const [ms, left] of [[2 * conflictKeptMs - 1000, 2], [2000, 1]] as const) {
    await age(ms, second)
    second.store.members.seen(first.store.replica)
    await second.store.housekeeping.collect()
    assert.is((await second.versions('k')).length, left)
  }
})

test('a clock that was wrong puts nothing off for longer than a run of a day', async () => {
  const [first, second] = await open()
  const ahead = await openReplica({ system: new VirtualSystem({ startMs: first.system.nowMs() + 365 * conflictKeptMs }) })
  await first.put('k', '1')
  await exchange(first, ahead)
  await ahead.put('k', '2')
  await first.del('k')
  await exchange(first, ahead)
  await meet(first, second)
  await first.store.housekeeping.collect()
  for (const [ms, left] of [[conflictKeptMs - 1000, 2], [2000, 1]] as const) {
    await age(ms, first)
    first.store.members.seen(second.store.replica)
    await first.store.housekeeping.collect()
    assert.is((await first.versions('k')).length, left)
  }
})

test('a write that comes just before decides it', async () => {
  const [first, second] = await open()
  await disagree(first, second, { deletesLast: true })
  await age(conflictKeptMs + 1000, first, second)
  await meet(first, second)
  const { vector } = first.store
  const before = vector.clone()
  let writing: Promise<void> | undefined
  Object.defineProperty(first.store.members, 'allPresent', { get: () => { writing = first.put('k', '3'); return true } })
  await first.store.housekeeping.collect()
  await writing
  assert.equal((await first.values('k')).map(String), ['3'])
  assert.is(vector.operationsBeyond(before), 1)
})

test('what a resolver has merged is written, unless nobody would take so much', async () => {
  const merge: Resolver = (a, b) => ({ value: `${a.value as string ?? ''}+${b.value as string ?? ''}` })
  for (const [bytes, left] of [[43, 1], [44, 2]] as const) {
    const [first, second] = await open({ resolver: merge, transactionBytesMax: operationBytes + 'k'.length + 44 })
    await first.put('k', '1')
    await meet(first, second)
    await second.put('k', 'x'.repeat(bytes))
    await first.del('k')
    await meet(first, second)
    const read = await first.data()
    assert.is(read['k']!.length, bytes + 1)
    await age(conflictKeptMs + 1000, first, second)
    await meet(first, second)
    await first.store.housekeeping.collect()
    assert.equal(await first.data(), read)
    assert.is((await first.versions('k')).length, left)
  }
})

test.run()
