/**
 * After a hole: whatever the batches were that are lost and those that are not, what is left is one state; and the end of the
 * repair: what survived is written again, in one go.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatLogId } from '../../lib/core/ids.ts'
import { housekeepingDelayMs } from '../../lib/limits.ts'
import { meta } from '../../lib/storage/keyspaces.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { eventually } from '../support/eventually.ts'
import { exchange, LiveStream, openReplica, pull, put, type ReplicaOptions, type TestReplica } from '../support/store.ts'

/** A replica with what two have written, all of it beyond the reach of a loss, and the other one, which is linked. */
async function openLinked (written: readonly string[]): Promise<{ memory: LossyMemory, replica: TestReplica, peer: TestReplica, send: () => Promise<void> }> {
  const memory = await LossyMemory.open()
  const [replica, peer] = [await openReplica({ engine: memory.asEngine }), await openReplica()]
  replica.store.members.met(peer.store.replica)
  peer.store.members.met(replica.store.replica)
  for (const key of written) await replica.put(key, 'value')
  const toPeer = await LiveStream.open(replica, peer)
  const toReplica = await LiveStream.open(peer, replica)
  await memory.engine.compactRange!()
  const send = async (): Promise<void> => { for (const stream of [toPeer, toReplica]) await stream.send() }
  return { memory, replica, peer, send }
}

/** All is durable, and both know that. */
async function acknowledge (a: TestReplica, b: TestReplica): Promise<void> {
  for (const { store } of [a, b]) await store.flush()
  for (const [from, to] of [[a, b], [b, a]] as const) to.store.members.acknowledge(from.store.replica, [...from.store.durable])
}

async function reopenedWithout (memory: LossyMemory, replica: TestReplica, lost: number, options: ReplicaOptions = {}): Promise<TestReplica> {
  const engine = (await memory.reopenedWithout(new Set([lost]))).asEngine
  return await openReplica({ engine, identity: replica.identity.clone(), system: replica.system, resolver: replica.options.resolver, ...options })
}

test('a value whose delete is lost, and not that the delete was forgotten, is not read for ever', async () => {
  const { memory, replica, peer, send } = await openLinked(['key'])
  await peer.del('key')
  const first = memory.logLength
  await send()
  await acknowledge(replica, peer)
  await peer.store.housekeeping.collect()
  await send()
  assert.ok(replica.store.collected.size > 0)
  await replica.put('later', 'value')
  for (let lost = first; lost < memory.logLength - 1; lost++) {
    const again = await reopenedWithout(memory, replica, lost)
    await checkInvariants(again.engine, { alsoCovered: replica.store.vector as never, collected: again.store.collected })
    await pull(again, peer)
    assert.is(await again.get('key'), undefined)
  }
})

test('a delete of a key that held nothing stays, though the batch is lost in which its value went', async () => {
  const memory = await LossyMemory.open()
  const [replica, peer] = [await openReplica({ engine: memory.asEngine, reports: () => false }), await openReplica()]
  for (const key of ['key', 'other']) await peer.put(key, 'value')
  await pull(replica, peer)
  await replica.put('own', 'value')
  await memory.engine.compactRange!()
  await peer.del('key')
  await peer.store.housekeeping.collect()
  assert.is((await pull(replica, peer)).kind, 'transfer')
  await peer.put('key', 'again')
  await peer.del('key')
  await peer.put('other', 'value'.repeat(10))
  await pull(replica, peer)
  assert.is(await replica.get('key'), undefined)
  await replica.put('later', 'value')
  for (let lost = 0; lost < memory.logLength - 1; lost++) {
    const again = await reopenedWithout(memory, replica, lost)
    assert.is(await again.get('key'), undefined, `without ${lost}`)
    await pull(again, peer)
    await again.store.endRepair()
    await exchange(again, peer)
    await checkEqual([again.engine, peer.engine])
  }
})

test('what survived goes by a state transfer, also when all that is known was lost', async () => {
  const memory = await LossyMemory.open()
  const [replica, peer] = [await openReplica({ engine: memory.asEngine }), await openReplica()]
  const first = memory.logLength
  await peer.put('key', 'value')
  await pull(replica, peer)
  await replica.put('own', 'value')
  await pull(peer, replica)
  await peer.del('own')
  await peer.store.housekeeping.collect()
  const again = await reopenedWithout(memory, replica, first)
  assert.equal([await again.get('own'), again.store.vector.size], ['value', 0])
  assert.is((await pull(again, peer)).kind, 'transfer')
  await again.store.endRepair()
  await checkEqual([again.engine, peer.engine])
})

test('a delete that was forgotten does not stay when that is lost, and what was forgotten after it is not', async () => {
  const { memory, replica, peer, send } = await openLinked(['key', 'other'])
  await peer.del('key')
  await peer.del('other')
  await send()
  await acknowledge(replica, peer)
  const first = memory.logLength
  await peer.store.housekeeping.collect()
  await send()
  await peer.put('other', 'again')
  await peer.del('other')
  await send()
  await acknowledge(replica, peer)
  await replica.put('other', 'instead')
  await peer.store.housekeeping.collect()
  await send()
  const { collected } = replica.store
  assert.ok(collected.get(peer.store.ownLog)!.sequence > 2)
  assert.ok(memory.logLength > first + 2)
  for (let lost = first; lost < memory.logLength - 1; lost++) {
    const again = await reopenedWithout(memory, replica, lost)
    await checkInvariants(again.engine, { alsoCovered: replica.store.vector as never, collected: again.store.collected })
    await exchange(again, peer)
    await again.store.endRepair()
    await exchange(again, peer)
    await checkEqual([again.engine, peer.engine])
  }
})

test('whatever is lost beside what another resolver has decided, it is decided at the next open', async () => {
  const { memory, replica, peer } = await openLinked([])
  for (const key of ['a', 'b']) {
    await replica.put(key, 'first')
    peer.system.jumpWallClock(1)
    await peer.put(key, 'second')
  }
  await exchange(replica, peer)
  await replica.store.close()
  const resolver = (): boolean => false
  const copy = await memory.reopenedWithout(new Set())
  const first = copy.logLength
  const other = await openReplica({ engine: copy.asEngine, identity: replica.identity, system: replica.system, resolver, resolverVersion: '2' })
  const third = await openReplica({ resolver })
  third.system.jumpWallClock(2)
  await third.put('b', 'third')
  const bringing = pull(other, third) // before or after
  await eventually(async () => (await other.engine.get(meta.resolverVersion, { keyEncoding: 'buffer', valueEncoding: 'buffer' }))?.toString() === '2')
  await bringing
  await other.put('later', 'value')
  for (let lost = first; lost < copy.logLength - 1; lost++) {
    const again = await reopenedWithout(copy, other, lost, { resolverVersion: '2' })
    await eventually(async () => await again.get('a') === 'first' && await again.get('b') === 'first')
    await checkInvariants(again.engine, { resolver, alsoCovered: { covers: () => true } as never })
  }
})

test('what is taken out of a log is whole, though a batch from before that is lost', async () => {
  const { memory, replica } = await openLinked(['key'])
  replica.store.told.tell()
  await replica.put('key', 'not sent')
  await replica.store.commit([put('other', 'not sent'), put('third', 'not sent')], false)
  let losses = 0
  const loseEach = async (): Promise<void> => {
    for (let lost = 0; lost < memory.logLength - 1; lost++) {
      const again = await reopenedWithout(memory, replica, lost)
      await checkInvariants(again.engine, { alsoCovered: { covers: () => true } as never })
      losses++
    }
  }
  const writeOut = memory.engine.compactRange!
  memory.engine.compactRange = async () => {
    await loseEach()
    await writeOut()
  }
  const leaving = replica.store.leaveLog()
  await replica.put('other', 'meanwhile')
  await leaving
  assert.ok(losses > 2, `${losses} losses`)
})

test('also while another database of this process is written to, the log names all that was written again', async () => {
  const memory = await LossyMemory.open()
  const replica = await openReplica({ engine: memory.asEngine })
  await replica.put('lost', '1')
  const lost = memory.logLength - 1
  await replica.store.commit([put('x', '1'), put('y', '2'), put('z', '3')], false)
  await replica.put('w', '1')
  const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity })
  assert.ok(again.store.repairing)

  const other = await openReplica()
  const repair = { isOver: false, done: again.store.endRepair().then(() => { repair.isOver = true }) }
  while (!repair.isOver) await other.put('other', 'value')
  await repair.done

  await checkInvariants(again.engine, { vector: again.store.vector as never })
  const newcomer = await openReplica()
  await pull(newcomer, again, 'catch-up')
  assert.equal(await newcomer.data(), { w: '1', x: '1', y: '2', z: '3' })
})

test('a version whose batch is lost is in the log all the same, though the last batch that changed its key has written no log record', async () => {
  const { memory, replica, peer } = await openLinked([])
  const other = await openReplica()
  await peer.put('key', 'first')
  await pull(replica, peer)
  await memory.engine.compactRange!()
  const lost = memory.logLength
  await other.put('key', 'second')
  await pull(replica, other)
  assert.is(memory.logLength, lost + 1)
  await peer.del('key')
  await peer.store.retire(replica.store.replica)
  await peer.store.flush()
  await peer.store.housekeeping.collect()
  assert.is((await pull(replica, peer)).kind, 'transfer')
  assert.equal(await replica.values('key'), ['second'])
  const again = await reopenedWithout(memory, replica, lost)
  assert.equal(await again.values('key'), ['second'])
  await checkInvariants(again.engine, { alsoCovered: replica.store.vector as never })
})

test('nor is it left out if the last batch has forgotten another delete of its key', async () => {
  const memory = await LossyMemory.open()
  const [replica, other] = [await openReplica({ engine: memory.asEngine }), await openReplica()]
  for (const one of [replica, other]) {
    await one.put('key', 'value')
    await one.del('key')
  }
  let lost: number | undefined
  const writeOut = memory.engine.compactRange!
  memory.engine.compactRange = async () => {
    await writeOut()
    if (lost !== undefined) return
    lost = memory.logLength
    await pull(replica, other)
    assert.is(memory.logLength, lost + 1)
  }
  await replica.store.flush()
  await replica.store.housekeeping.collector.collect()
  assert.is((await replica.versions('key')).length, 1)
  await replica.put('later', 'value')
  const again = await reopenedWithout(memory, replica, lost!)
  assert.is((await again.versions('key')).length, 1)
  await checkInvariants(again.engine, { alsoCovered: replica.store.vector as never })
})

test('what the vector covers after a hole stays what it is, and what is written then is later than what survived', async () => {
  const { memory, replica } = await openLinked(['covered'])
  const { ownLog } = replica.store
  const lost = memory.logLength
  await replica.put('lost', 'value')
  replica.system.jumpWallClock(1e9)
  await replica.put('survived', 'value')
  replica.system.jumpWallClock(-1e9)
  const again = await reopenedWithout(memory, replica, lost)
  assert.ok(again.store.repairing)
  const [survived] = await again.versions('survived')
  await again.put('later', 'value')
  assert.ok((await again.versions('later'))[0]!.timestamp >= survived!.timestamp)
  await again.store.endRepair()
  const origins = await Promise.all(['covered', 'survived'].map(async (key) => (await again.versions(key))[0]!.origin))
  assert.equal(origins, [formatLogId(ownLog), formatLogId(again.store.ownLog)])
})

test('what survived a hole is not replaced by what a peer wrote that does not know it', async () => {
  const memory = await LossyMemory.open()
  const replica = await openReplica({ engine: memory.asEngine })
  await replica.put('lost', '1')
  const lost = memory.logLength - 1
  await replica.put('k', 'survived')
  const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity })
  assert.ok(again.store.repairing)

  const peer = await openReplica()
  await peer.put('k', 'theirs')
  await pull(again, peer)
  assert.equal(await again.values('k'), ['survived', 'theirs'])
  await again.store.endRepair()
  assert.equal(await again.values('k'), ['survived', 'theirs'])
  await checkInvariants(again.engine, { vector: again.store.vector as never })
})

for (const brought of [true, false]) {
  test(`deletes that survived a hole are forgotten in time: ${brought ? 'those of which peers bring what was lost' : 'two of one key, too, that are written again in one log'}`, async () => {
    const memory = await LossyMemory.open()
    const first = await openReplica({ engine: memory.asEngine })
    const peer = await openReplica({ system: first.system })
    await first.put('key', 'value')
    await pull(peer, first)
    await first.store.close()
    const replica = await first.reopened()
    await replica.put('lost', 'value')
    const lost = memory.logLength - 1
    await replica.del('key')
    await peer.del('key')
    await pull(replica, peer)
    if (brought) await pull(peer, replica)
    const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity, system: replica.system })
    assert.is((await again.versions('key')).length, 2)
    if (brought) await pull(again, peer)
    await again.store.endRepair()
    await again.put('later', 'value')
    await again.system.advance(4 * housekeepingDelayMs)
    assert.equal(await again.versions('key'), [])
    assert.equal(await again.data(), brought ? { lost: 'value', later: 'value' } : { later: 'value' })
    await checkInvariants(again.engine, { vector: again.store.vector as never })
  })
}

test.run()
