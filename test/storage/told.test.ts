/**
 * What others know of a log, and when that cannot be what we know: as far as log records still tell.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newLogId } from '../../lib/core/ids.ts'
import type { Advance, VersionVector } from '../../lib/core/version-vector.ts'
import { logsComparedMax } from '../../lib/limits.ts'
import { Told } from '../../lib/storage/told.ts'
import { openReplica, pull, put, type TestReplica } from '../support/store.ts'

/** What is known of the end of a replica's log. */
function endOf ({ store }: TestReplica): Advance {
  return store.vector.get(store.ownLog)!
}

/** One whose first write is there, and whose second has been superseded by another one's, and has left its log. */
async function openSuperseded (): Promise<{ replica: TestReplica, other: TestReplica, first: Advance, second: Advance }> {
  const [replica, other] = [await openReplica(), await openReplica()]
  await replica.put('stays', '1')
  const first = endOf(replica)
  await replica.put('k', '1')
  const second = endOf(replica)
  await pull(other, replica)
  await other.put('k', '2')
  await pull(replica, other)
  await replica.store.housekeeping.sweep()
  await other.store.housekeeping.sweep()
  return { replica, other, first, second }
}

const later = (advance: Advance): Advance => ({ ...advance, hlc: advance.hlc + 1 })

test('how far peers are told is remembered once, before they are, and again if it could not be', async () => {
  const { store, identity } = await openReplica()
  const told: number[] = []
  let fails = true
  identity.tell = ({ sequence }) => {
    told.push(sequence)
    if (fails) throw new Error('no space left')
  }
  store.told.tell()
  assert.equal(told, [], 'nothing has been written')
  await store.commit([put('k', '1')], false)
  for (let round = 0; round < 2; round++) assert.throws(() => { store.told.tell() }, 'no space left')
  assert.is(store.told.last.sequence, 0)
  fails = false
  for (let round = 0; round < 2; round++) store.told.tell()
  assert.equal(told, [1, 1, 1])
  assert.is(store.told.last.sequence, 1)
})

test('when the database has been opened again, what is remembered is there too, or is as soon as it can be', () => {
  const last = { log: newLogId(Buffer.alloc(8)), sequence: 3, hlc: 1024 }
  const calls: unknown[] = []
  let fails = false
  const identity = {
    letGo: () => { calls.push('letGo') },
    tell: (told: Advance) => {
      calls.push(told)
      if (fails) throw new Error('no space left')
    }
  }
  const told = new Told({ ownLog: last.log } as never, identity as never, last)
  told.reopened()
  fails = true
  told.reopened()
  assert.equal(calls, ['letGo', last, 'letGo', last])
  assert.equal(told.last, last)
})

test('in a log of ours in which nothing has been written a peer can know nothing', async () => {
  const { store } = await openReplica()
  assert.is(await store.told.contradiction([{ log: store.ownLog, sequence: 1, hlc: 1024 }]), store.ownLog)
})

test('what a peer knows of our log beyond what has been sent is told from it by its time, also where it ends and has been superseded', async () => {
  const { replica: { store }, first, second } = await openSuperseded()
  for (const end of [first, second]) assert.is(await store.told.contradiction([later(end)]), store.ownLog)
  assert.is(store.told.last.sequence, 0)
  for (const end of [first, second]) {
    assert.is(await store.told.contradiction([end]), undefined)
    assert.equal(store.told.last, end, 'it is known there')
  }
})

test('a write that has been sent is ours, whatever has become of it, unless its time says otherwise', async () => {
  const { replica, other, second } = await openSuperseded()
  const { store } = replica
  await replica.put('last', '1')
  store.told.note(second)
  assert.is(await store.told.contradiction([second]), undefined, 'nothing tells its time any more')
  assert.is(await store.told.contradiction([...other.store.vector]), undefined)
  store.told.tell()
  assert.is(await store.told.contradiction([later(endOf(replica))]), store.ownLog)
})

test('a write of another log is contradicted by one at its place with another time, and by nothing if it has been superseded', async () => {
  const { replica, other, first, second } = await openSuperseded()
  await replica.put('last', '1')
  await pull(other, replica)
  const last = endOf(replica)
  for (const end of [first, last]) {
    assert.is(await other.store.told.contradiction([end]), undefined)
    assert.is(await other.store.told.contradiction([later(end)]), end.log)
  }
  assert.is(await other.store.told.contradiction([later(second)]), undefined)
  assert.is(await other.store.told.contradiction([{ ...later(last), sequence: last.sequence + 1 }]), undefined, 'it is not known here')
})

test('a transaction has an end, and whoever knows of another one does not know ours', async () => {
  const [replica, other] = [await openReplica(), await openReplica()]
  await replica.store.commit([put('a', '1'), put('b', '1'), put('c', '1')], false)
  const end = endOf(replica)
  await replica.put('last', '1')
  replica.store.told.tell()
  await pull(other, replica)
  for (const { store } of [replica, other]) {
    assert.is(await store.told.contradiction([{ ...end, sequence: 2 }]), end.log)
    assert.is(await store.told.contradiction([end]), undefined)
  }
})

test('where a log ended when it was opened, and had not been sent, is known as long as it is not', async () => {
  const replica = await openReplica()
  await replica.put('stays', '1')
  await replica.put('k', '1')
  const end = endOf(replica)
  await replica.store.close()
  const again = await replica.reopened()
  assert.is(again.store.ownLog, end.log)
  await again.put('k', '2')
  await again.store.housekeeping.sweep()
  assert.is(await again.store.told.contradiction([later(end)]), end.log)
  assert.is(await again.store.told.contradiction([end]), undefined, 'as a copy of the directory has brought it')
  assert.is(again.store.told.last.sequence, end.sequence)
})

test('of many logs whose history would have to be read some are, and all of which the end is known', async () => {
  const replica = await openReplica()
  const ends = Array.from({ length: logsComparedMax + 10 }, (_, index): Advance => ({ log: newLogId(Buffer.from(String(index).padStart(8))), sequence: 2, hlc: 2048 }))
  ;(replica.store.vector as VersionVector).join(ends)
  let read = 0
  const iterator = replica.engine.iterator.bind(replica.engine)
  replica.engine.iterator = ((options: object) => {
    read++
    return iterator(options)
  }) as never
  const earlier = ends.slice(1).map((end): Advance => ({ ...end, sequence: 1, hlc: 1024 }))
  assert.is(await replica.store.told.contradiction([...earlier, ends[0]!]), undefined)
  assert.is(read, logsComparedMax)
  assert.is(await replica.store.told.contradiction([...earlier, later(ends[0]!)]), ends[0]!.log)
})

test.run()
