import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { exchange, openReplica, put, type TestReplica } from '../support/store.ts'

async function filled (count: number): Promise<TestReplica> {
  const replica = await openReplica()
  await replica.store.commit(Array.from({ length: count }, (_, index) => put(String(index).padStart(5, '0'), 'x')), false)
  return replica
}

test('a write to the range that comes later survives, also one between two parts', async () => {
  const replica = await filled(3500)
  const clearing = replica.store.clear({})
  const writing = replica.put('03400', 'later')
  const creating = replica.put('99999', 'new')
  await Promise.all([clearing, writing, creating])
  assert.equal(await replica.data(), { '03400': 'later', 99999: 'new' })
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('a write that comes earlier does not', async () => {
  const replica = await filled(3)
  await Promise.all([replica.put('00001', 'earlier'), replica.put('new', 'earlier'), replica.store.clear({})])
  assert.equal(await replica.data(), {})
})

test('a small range goes as one transaction', async () => {
  const replica = await filled(900)
  const before = replica.memory.written.length
  const records = (await checkInvariants(replica.engine)).logRecords
  await replica.store.clear({})
  assert.is((await checkInvariants(replica.engine)).logRecords, records + 1)
  assert.is(replica.memory.written.length, before + 1)
})

test('a clear of keys with siblings settles them', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  for (const key of ['x', 'y']) {
    await a.put(key, 'a')
    await b.put(key, 'b')
  }
  await exchange(a, b)
  assert.is((await a.values('x')).length, 2)
  await a.store.clear({ lt: Buffer.from('y'), keyEncoding: 'buffer' })
  assert.equal(await a.values('x'), [undefined])
  assert.is((await a.values('y')).length, 2)
  await checkInvariants(a.engine)
  await exchange(a, b)
  assert.equal(await b.values('x'), [undefined])
  await checkEqual([a.engine, b.engine])
})

test('a clear that fails in its middle is rejected, keeps what it did, and can be repeated', async () => {
  const replica = await filled(3500)
  const from = replica.memory.asked
  replica.memory.beforeBatch = (number) => { if (number === from + 1) throw new Error('disk full') }
  assert.is((await rejection(replica.store.clear({}))).message, 'disk full')
  assert.is(Object.keys(await replica.data()).length, 2500)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  await replica.store.clear({})
  assert.equal(await replica.data(), {})
})

test('what others write meanwhile, without having seen it, is not cleared', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await a.put('k', '1')
  await exchange(a, b)
  await b.put('k', '2')
  await a.store.clear({})
  await exchange(a, b)
  assert.equal(await a.values('k'), ['2', undefined])
  await checkEqual([a.engine, b.engine])
})

test('a clear is synced if that is asked: with its last part, also if that is empty', async () => {
  for (const count of [1, 1000, 2500]) {
    const replica = await filled(count)
    const before = replica.memory.written.length
    await replica.store.clear({}, true)
    const syncs = replica.memory.written.slice(before).map(({ sync }) => sync)
    assert.equal(syncs, syncs.map((_sync, index) => index === syncs.length - 1))
    await replica.put('a', '1')
    await replica.store.clear({})
    assert.not.ok(replica.memory.written.at(-1)!.sync)
  }
})

test.run()
