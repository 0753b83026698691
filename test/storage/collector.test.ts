import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { housekeepingDelayMs, innerBatchBytesMax, memberTtlDefaultMs, tombstonesAtOnce, tombstonesPerUnitMax } from '../../lib/limits.ts'
import { keyspace, wholeKeyspace, type Keyspace } from '../../lib/storage/keyspaces.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { del, exchange, LiveStream, openReplica, pull, put, type ReplicaOptions, type TestReplica } from '../support/store.ts'

/** Replicas that know of each other. */
async function open (count: number, options: ReplicaOptions = {}): Promise<TestReplica[]> {
  const replicas: TestReplica[] = []
  for (let index = 0; index < count; index++) replicas.push(await openReplica(options))
  for (const { store } of replicas) for (const other of replicas) store.members.met(other.store.replica)
  return replicas
}

/** Everything becomes durable at all, and each tells each other what it knows of that. */
async function acknowledge (...replicas: TestReplica[]): Promise<void> {
  for (const { store } of replicas) await store.flush()
  for (const from of replicas) {
    for (const to of replicas) for (const { replica, acknowledged, unseenMs } of from.store.members) to.store.members.acknowledge(replica, acknowledged, unseenMs)
  }
}

async function count ({ engine }: TestReplica, space: Keyspace): Promise<number> {
  return (await engine.keys({ ...wholeKeyspace(space), keyEncoding: 'buffer' }).all()).length
}

/** How many keys have a sibling set. */
async function sets ({ engine }: TestReplica): Promise<number> {
  return (await checkInvariants(engine)).versions.size
}

async function collect (...replicas: TestReplica[]): Promise<void> {
  for (const { store } of replicas) await store.housekeeping.collect()
}

test('a replica alone forgets its deletes at once, and whoever joins later gets the state', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await a.store.commit(Array.from({ length: 1500 }, (_, index) => put(`k${index}`, 'x')), false)
  for (let index = 0; index < 1500; index++) await a.del(`k${index}`)
  await a.system.advance(4 * housekeepingDelayMs)
  assert.is(await sets(a), 0)
  assert.is(await count(a, keyspace.log), 0)
  await a.put('stays', '1')
  await b.put('own', '2')
  assert.is((await pull(b, a)).kind, 'transfer')
  await pull(a, b)
  assert.equal(await b.data(), { stays: '1', own: '2' })
  await checkEqual([a.engine, b.engine])
  assert.ok(b.store.collected.equals(a.store.collected))
})

test('deletes in transactions of many keys are all forgotten: the log is read to its end, in pieces', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const keys = Array.from({ length: 20_000 }, (_, index) => `a key of some length ${index}`)
  await a.store.commit(keys.map((key) => put(key, 'x')), false)
  for (let from = 0; from < keys.length; from += 1000) await a.store.commit(keys.slice(from, from + 1000).map((key) => del(key)), false)
  await pull(b, a)
  await acknowledge(a, b)
  await collect(a, b)
  for (const replica of [a, b]) assert.is(await sets(replica), 0)
})

test('what was forgotten leaves the log too, though nothing is written after it', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const keys = Array.from({ length: 3000 }, (_, index) => `k${index}`)
  await a.store.commit(keys.map((key) => put(key, 'x')), false)
  await a.store.commit(keys.map((key) => del(key)), false)
  await a.system.advance(4 * housekeepingDelayMs)
  assert.is(await count(a, keyspace.log), 1, 'swept, but for the deletes')
  await pull(b, a)
  await acknowledge(a, b)
  await a.system.advance(4 * housekeepingDelayMs)
  assert.is(await sets(a), 0)
  assert.is(await count(a, keyspace.log), 0)
})

test('a tombstone stays until every member has it on disk, and goes everywhere then', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  await a.put('k', '1')
  await pull(b, a)
  await pull(c, a)
  await b.del('k')
  await pull(a, b)
  await acknowledge(a, b, c)
  await collect(a, b)
  assert.is(await sets(a), 1, 'one has not seen it')
  await pull(c, b)
  await collect(a, b, c)
  assert.is(await sets(a), 1, 'it has not said so')
  await acknowledge(a, b, c)
  await collect(a)
  assert.is(await sets(a), 0)
  await exchange(b, a)
  await exchange(c, b)
  assert.is(await sets(b), 0, 'what one has collected is a fact for all')
  assert.is(await sets(c), 0)
  await checkEqual([a.engine, b.engine, c.engine])
})

test('what is collected reaches others live, in the order of commits', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  const streams = [await LiveStream.open(a, b), await LiveStream.open(b, c)]
  const send = async (): Promise<void> => { for (const stream of streams) await stream.send() }
  for (let index = 0; index < 2000; index++) await a.store.commit([put(`k${index}`, 'x')], false)
  for (let index = 0; index < 2000; index++) await a.store.commit([del(`k${index}`)], false)
  await send()
  await acknowledge(a, b, c)
  await collect(a)
  assert.is(await sets(a), 0)
  assert.is(await sets(c), 2000)
  await send()
  for (const replica of [b, c]) {
    assert.is(await sets(replica), 0)
    assert.ok(replica.store.collected.equals(a.store.collected))
    await checkInvariants(replica.engine)
  }
})

test('a delete in conflict with a value stays, and so does what its log has deleted since', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', '1')
  await a.put('other', '1')
  await exchange(a, b)
  await b.put('k', '2')
  await a.store.commit([del('k')], false)
  await a.del('other')
  await exchange(a, b)
  await acknowledge(a, b)
  await collect(a, b)
  assert.equal((await a.values('k')).map(String).sort(), ['2', 'undefined'])
  assert.is(a.store.collected.size, 0)
  assert.is(a.store.housekeeping.collector.held.length, 1)
  // The next write decides it.
  await b.put('k', '3')
  await exchange(a, b)
  await acknowledge(a, b)
  await collect(a)
  assert.is(await sets(a), 1)
  await exchange(a, b)
  await checkEqual([a.engine, b.engine])
  assert.equal(await b.data(), { k: '3' })
})

test('a value that is older than what was forgotten is in conflict with a write that had not seen it', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', '1')
  await a.put('gone', '1')
  await a.del('gone')
  await pull(b, a)
  await acknowledge(a, b)
  await collect(a, b)
  assert.ok(a.store.collected.covers(a.store.ownLog, 1))
  const c = await openReplica()
  await c.put('k', '2')
  await pull(a, c)
  assert.is((await a.store.versions(Buffer.from('k'))).length, 2)
  await checkInvariants(a.engine)
})

test('a conflict that ends because its delete was forgotten leaves the value alone, and once', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', '1')
  await pull(b, a)
  await a.del('k')
  await b.put('k', '2')
  await pull(b, a)
  assert.is((await b.store.versions(Buffer.from('k'))).length, 2)
  await a.store.retire(b.store.replica)
  await collect(a)
  await pull(b, a)
  assert.is((await b.store.versions(Buffer.from('k'))).length, 1)
  assert.equal(await b.data(), { k: '2' })
  assert.is(await count(b, keyspace.sibling), 0)
  await checkInvariants(b.engine)
})

test('LevelDB writes its memory out for what is forgotten, and not for what a conflict holds back', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  let writtenOut = 0
  Object.assign(a.engine, { compactRange: async () => { writtenOut++ } })
  for (const key of ['k', 'other', 'changed']) await a.put(key, '1')
  await exchange(a, b)
  await b.put('k', '2')
  await a.store.commit([del('changed')], false)
  await a.store.commit([put('changed', '2')], false)
  await a.store.commit([del('k')], false)
  await a.del('other')
  await exchange(a, b)
  for (let round = 0; round < 3; round++) {
    await a.put('changed', `${round + 3}`)
    await exchange(a, b)
    await acknowledge(a, b)
    await collect(a)
    assert.is(writtenOut, 0)
    assert.is(a.store.garbage.tombstones.conflicts, 1)
  }
  await b.put('k', '3')
  await exchange(a, b)
  await acknowledge(a, b)
  await collect(a)
  assert.is(writtenOut, 1)
  assert.is(a.store.garbage.tombstones.conflicts, 0)
  assert.is(await sets(a), 2)
  await collect(a)
  assert.is(writtenOut, 1)
})

test('a collection is due when something has changed since the last one began, there are deletes, and nothing is taken in or left', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const { collector } = a.store.housekeeping
  await a.put('k', '1')
  assert.not(collector.due, 'nothing was deleted')
  await a.del('k')
  assert.ok(collector.due)
  await pull(b, a)
  await collector.collect()
  assert.not(collector.due, 'not all have it')
  await acknowledge(a, b)
  assert.ok(collector.due)
  a.memory.beforeBatch = () => { collector.changed() }
  await collector.collect()
  assert.is(await sets(a), 0)
  assert.not(collector.due, 'nothing is left')
  await a.store.commit([put('l', '1')], false)
  await a.del('l')
  await collector.collect()
  a.memory.beforeBatch = () => { if (a.store.leaving) assert.not(collector.due) }
  a.store.housekeeping.changed()
  await a.store.leaveLog()
})

test('what changes while tombstones are collected is looked at when that is over', async () => {
  const a = await openReplica()
  const { collector } = a.store.housekeeping
  for (const key of ['k', 'l']) await a.put(key, '1')
  await a.del('k')
  let deleting: Promise<void> | undefined
  Object.assign(a.engine, { compactRange: async () => { await (deleting ??= a.del('l')) } })
  await collector.collect()
  assert.is(await sets(a), 1)
  assert.ok(collector.due)
  await collector.collect()
  assert.is(await sets(a), 0)
  assert.not(collector.due)
})

test('nothing is collected while a log is left, also if that begins in the middle', async () => {
  const a = await openReplica()
  await a.put('k', '1')
  await a.del('k')
  let leaving: Promise<void> | undefined
  let begin = (): void => {}
  const begun = new Promise<void>((resolve) => { begin = resolve })
  Object.assign(a.engine, {
    compactRange: async () => {
      leaving ??= a.store.leaveLog()
      await begun
    }
  })
  a.memory.beforeBatch = () => {
    if (a.store.leaving) begin()
    assert.is(a.store.collected.size, 0)
  }
  await collect(a)
  await leaving
  assert.is(await sets(a), 1)
})

test('no more counts as collected than up to the last tombstone that goes: nobody is sent the whole state for less', async () => {
  const a = await openReplica()
  for (const key of ['k', 'l', 'again']) await a.put(key, '1')
  await a.del('again')
  await a.del('k')
  await a.del('l')
  await a.put('l', '2')
  await a.del('again')
  await a.put('again', '2')
  await collect(a)
  assert.is(a.store.collected.sequenceOf(a.store.ownLog), 5)
})

test('what a conflict holds back is not passed, however much was deleted behind it', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const many = Array.from({ length: 3 * tombstonesAtOnce }, (_, index) => `k${index}`)
  await a.store.commit([put('first', '1'), put('held', '1'), ...many.map((key) => put(key, '1'))], false)
  await exchange(a, b)
  await b.put('held', '2')
  await a.del('first')
  const { sequence } = a.store.vector.get(a.store.ownLog)!
  await a.del('held')
  for (const key of many) await a.del(key)
  await exchange(a, b)
  await acknowledge(a, b)
  await collect(a)
  assert.is(a.store.collected.sequenceOf(a.store.ownLog), sequence)
  assert.is(await sets(a), 1 + many.length)
  await collect(a)
  assert.is(a.store.collected.sequenceOf(a.store.ownLog), sequence)
})

test('of a key that two have deleted one delete goes after the other, and LevelDB writes its memory out before each', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  for (const key of ['k', 'l', 'm']) await a.put(key, '1')
  await exchange(a, b)
  await a.store.commit([del('l'), del('k')], false)
  await b.store.commit([del('m'), del('k')], false)
  await exchange(a, b)
  await acknowledge(a, b)
  const left: number[] = []
  Object.assign(a.engine, { compactRange: async () => { left.push((await a.versions('k')).length) } })
  await collect(a)
  assert.equal(left, [2, 1])
  assert.is(await sets(a), 0)
  await checkInvariants(a.engine, { collected: a.store.collected })
})

test('a value stays when the delete beside it is forgotten, also one of a log of which as much was collected', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', '1')
  await a.put('other', '1')
  await pull(b, a)
  await a.del('k')
  await b.put('k', '2')
  await pull(b, a)
  await a.store.retire(b.store.replica)
  await collect(a)
  const before = a.store.collected.clone()
  await pull(a, b)
  await b.del('other')
  await pull(a, b)
  await a.store.flush()
  await collect(a)
  assert.ok(!before.dominates(a.store.collected) && a.store.collected.covers(b.store.ownLog, 1))
  assert.equal(await b.values('k'), ['2', undefined])
  await pull(b, a)
  for (const replica of [a, b]) assert.equal(await replica.data(), { k: '2' })
  await checkEqual([a.engine, b.engine])
})

test('a value that shows again, since the delete beside it is forgotten, is told of, however long the delivery is', async () => {
  for (const size of [1, 2 * innerBatchBytesMax]) {
    const [a, b] = await open(2) as [TestReplica, TestReplica]
    await a.put('k', '1')
    await pull(b, a)
    await b.put('k', '2')
    await a.system.advance(1000) // so that the delete is the later of the two
    await a.del('k')
    await pull(b, a)
    assert.equal(await b.data(), {})
    await a.store.retire(b.store.replica)
    await collect(a)
    await a.put('l', 'x'.repeat(size))
    b.reports.length = 0
    await pull(b, a)
    assert.is((await b.data()).k, '2')
    const told = b.reports.flatMap(({ changed }) => changed).filter(({ key }) => key === 'k')
    assert.equal(told.map(({ type, value }) => [type, value]), [['put', '2']])
  }
})

test('of a key that two have deleted each delete that is forgotten is counted once', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  for (const key of ['k', 'l']) await a.put(key, '1')
  await exchange(a, b)
  await a.del('k')
  await b.del('k')
  await exchange(a, b)
  await acknowledge(a, b)
  await b.del('l')
  await collect(a)
  assert.is(b.store.garbage.tombstones.count, 3)
  await pull(b, a)
  assert.equal(await b.versions('k'), [])
  assert.is(b.store.garbage.tombstones.count, 1)
})

test('more tombstones than go with a unit are taken over before it', async () => {
  const a = await openReplica()
  const keys = Array.from({ length: tombstonesPerUnitMax + 1 }, (_, index) => `k${index}`)
  await a.store.commit(keys.map((key) => put(key, '')), false)
  await a.store.commit(keys.slice(1).map((key) => del(key)), false)
  const { collector } = a.store.housekeeping
  assert.not(await collector.isMuch([...a.store.vector]))
  await a.store.commit([del(keys[0]!)], false)
  assert.ok(await collector.isMuch([...a.store.vector]))
})

test('nobody takes over a collection before he knows what the collector knew', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  const stream = await LiveStream.open(a, c)
  a.store.feed.open() // a link with b
  await a.store.commit([put('k', 'base'), put('gone', '1')], false)
  await exchange(a, b, 'catch-up')
  await a.store.commit([del('k')], false)
  await a.store.commit([del('gone')], false)
  await b.put('k', 'q')
  await exchange(a, b, 'catch-up')
  assert.is.not(await stream.send(), 'lost')
  await acknowledge(a, b, c)
  await collect(a)
  assert.is(a.store.collected.size, 0, 'the conflict holds it')
  const before = await c.get('k')
  await a.put('k', 'y')
  await collect(a)
  assert.ok(c.store.vector.dominates(a.store.collected) && a.store.collected.size > 0)
  assert.is(await c.get('k'), before)
  assert.is((await c.versions('k')).length, 2, 'the conflict that it knows stands')
  assert.is.not(await stream.send(), 'lost')
  assert.equal(await c.data(), { k: 'y' })
  assert.is(await sets(c), 1)
  await checkInvariants(c.engine, { collected: c.store.collected })
})

test('a member that is not seen for long is not waited for; on its return nothing deleted is back, and its writes are there', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  for (const key of ['gone', 'kept', 'changed']) await a.put(key, '1')
  await exchange(a, b)
  await exchange(a, c)
  await acknowledge(a, b, c)
  await c.put('own', 'written while away')
  await c.put('changed', 'by c')
  await a.del('gone')
  await a.put('changed', 'by a')
  await exchange(a, b)
  for (let days = 0; days < 29; days++) {
    await a.system.advance(24 * 60 * 60 * 1000)
    a.store.members.seen(b.store.replica)
    await acknowledge(a, b)
  }
  assert.is(a.store.collected.size, 0, 'still waited for')
  await a.system.advance(memberTtlDefaultMs / 30 + 4 * housekeepingDelayMs)
  assert.is(await sets(a), 2, 'not any more')
  assert.equal([...a.store.members].filter(({ counted }) => !counted).map(({ replica }) => replica), [c.store.replica])

  a.store.members.met(c.store.replica)
  assert.is((await pull(c, a)).kind, 'transfer')
  await pull(a, c)
  await checkEqual([a.engine, c.engine])
  assert.equal(Object.keys(await a.data()).sort(), ['changed', 'kept', 'own'])
  assert.is((await a.versions('changed')).length, 2, 'a true conflict')
  await a.del('kept')
  await acknowledge(a, b)
  await collect(a)
  assert.is(await sets(a), 3, 'it is waited for again')
})

test('time counts only while the replica runs, in all its runs, and a jumping clock expels nobody', async () => {
  let [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', '1')
  await exchange(a, b)
  await acknowledge(a, b)
  const counted = (): boolean => [...a.store.members].find(({ replica }) => replica === b.store.replica)!.counted
  a.system.jumpWallClock(100 * memberTtlDefaultMs)
  await a.del('k')
  await a.system.advance(memberTtlDefaultMs / 2)
  assert.ok(counted())
  await a.store.close()
  await a.system.advance(2 * memberTtlDefaultMs)
  a = await a.reopened()
  assert.ok(counted())
  await a.system.advance(memberTtlDefaultMs / 4)
  a = await a.reopened() // killed
  assert.ok(counted())
  await a.system.advance(memberTtlDefaultMs / 4 + 60 * 60 * 1000)
  assert.not.ok(counted())
  assert.is(await sets(a), 0)
})

test('a retired member is not waited for, whatever others say of it, until it greets', async () => {
  let [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  await a.put('k', '1')
  await exchange(a, b)
  await exchange(b, c)
  await acknowledge(a, b, c)
  await a.del('k')
  await exchange(a, b)
  await a.store.retire(c.store.replica)
  await acknowledge(a, b)
  await collect(a)
  assert.is(await sets(a), 0)
  await exchange(a, b)
  assert.is(await sets(b), 0, 'one has to be told')
  a = await a.reopened()
  a.store.members.acknowledge(c.store.replica, [{ log: a.store.ownLog, sequence: 1, hlc: 1 }])
  assert.not.ok(a.store.members.countedIds.includes(c.store.replica))
  a.store.members.met(c.store.replica)
  assert.ok(a.store.members.countedIds.includes(c.store.replica))
  assert.is(a.store.members.acknowledged(c.store.replica).size, 0)
})

test('a crash at any moment of a collection leaves what it was, or what it will be', async () => {
  for (let batches = 0; ; batches++) {
    let [a, b] = await open(2) as [TestReplica, TestReplica]
    for (let index = 0; index < 1200; index++) await a.store.commit([put(`k${index}`, '1'), del(`k${index}`)], false)
    await exchange(a, b)
    await acknowledge(a, b)
    a.memory.dieAfter(batches)
    const died = await a.store.housekeeping.collect().then(() => false, () => true)
    a.memory.revive()
    a = await a.reopened()
    const { versions } = await checkInvariants(a.engine, { collected: a.store.collected })
    if (died) assert.ok(versions.size >= 1200 - (batches + 1) * 600)
    await acknowledge(a, b)
    await collect(a)
    assert.is(await sets(a), 0)
    await exchange(b, a)
    await checkEqual([a.engine, b.engine])
    if (!died) break
  }
})

test('what a transfer brought in pieces of transactions is collected as whole transactions', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.store.commit(Array.from({ length: 20 }, (_, index) => put(`k${index}`, '1')), false)
  await a.store.commit([...Array.from({ length: 20 }, (_, index) => del(`k${19 - index}`)), put('z', '1')], false)
  await pull(b, a, 'transfer')
  await acknowledge(a, b)
  await collect(b)
  assert.is(await sets(b), 1)
  await checkInvariants(b.engine, { collected: b.store.collected })
})

test.run()
