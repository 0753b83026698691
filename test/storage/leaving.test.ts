/**
 * Two snapshots of a disk that have both written before they notice: what one of them alone has leaves the log that both
 * wrote in, whatever it is and whenever that is interrupted.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { LogId } from '../../lib/core/ids.ts'
import { chunkBytes } from '../../lib/limits.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { del, exchange, holdBatches, MemoryRedoFile, openReplica, pull, pullSome, put, type TestReplica } from '../support/store.ts'
import { snapshotOf } from '../support/snapshot.ts'

interface Fork {
  /** Two that write in one log. */
  readonly a: TestReplica
  readonly b: TestReplica
  /** Has what the first one has written, and nothing of the second one's. */
  readonly peer: TestReplica
  readonly other: TestReplica
  readonly log: LogId
  /** Up to where the log is everybody's. */
  readonly told: number
}

async function fork (): Promise<Fork> {
  const [a, peer, other] = [await openReplica(), await openReplica(), await openReplica()]
  for (const key of ['a', 'b', 'c']) await a.put(key, 'first')
  a.store.told.tell()
  await pull(peer, a)
  const b = await snapshotOf(a)
  const log = a.store.ownLog
  const told = a.store.vector.sequenceOf(log)
  assert.is(b.store.ownLog, log)
  await a.put('a', 'of a')
  await a.store.commit([put('d', 'of a'), del('b')], false)
  a.store.told.tell()
  await pull(peer, a)
  await other.put('e', 'of another')
  await b.system.advance(10)
  await b.put('c', 'superseded')
  await b.put('c', 'of b')
  await b.store.commit([put('e', 'of b'), put('f', 'of b'), del('a')], false)
  await pull(b, other)
  return { a, b, peer, other, log, told }
}

async function checkMet ({ a, peer, other }: Fork, b: TestReplica): Promise<void> {
  for (let round = 0; round < 2; round++) for (const one of [a, b, other]) await exchange(peer, one)
  await checkEqual([a, b, peer, other].map(({ engine }) => engine))
  assert.equal(await peer.values('a'), ['of a', undefined])
  assert.equal(await peer.values('c'), ['of b'])
  assert.equal(await peer.values('e'), ['of another', 'of b'])
  assert.equal(Object.keys(await peer.data()).sort(), ['c', 'd', 'e', 'f'], 'the delete is the later one')
}

test('what a peer has of our log beyond what has been sent is not from us; what is there with the same time is', async () => {
  const { a, b, peer, log } = await fork()
  assert.is(await b.store.told.contradiction([...peer.store.vector]), log)
  assert.is(await a.store.told.contradiction([...peer.store.vector]), undefined)
  const third = await openReplica()
  await pull(third, a) // as a copy of the directory brings it
  await a.put('g', 'not sent')
  await pull(third, a)
  await a.put('h', 'not sent')
  const { last } = a.store.told
  assert.is(await a.store.told.contradiction([...third.store.vector]), undefined)
  assert.is(a.store.told.last.sequence, last.sequence + 1)
})

test('what another log holds at the same place with another time is another write', async () => {
  const { a, b, peer, log } = await fork()
  const there = await openReplica()
  await pull(there, b)
  assert.is(await peer.store.told.contradiction([...a.store.vector]), undefined)
  assert.is(await there.store.told.contradiction([...peer.store.vector]), log)
})

test('while a log is left, what is beyond does not count as durable, whoever has all made so meanwhile', async () => {
  const { b, log, told } = await fork()
  for (let index = 0; index < 2000; index++) await b.put(`k${index}`, 'of b')
  let flushes = 0
  b.memory.beforeBatch = () => {
    if (!b.store.leaving) return
    if (flushes++ === 0) void b.store.flush()
    assert.ok(b.store.durable.sequenceOf(log) <= told)
  }
  await b.store.leaveLog()
  assert.ok(flushes > 2)
  assert.ok(b.store.durable.sequenceOf(log) <= told)
})

test('what it alone has is written again in a new log, conflicts and all, and the old one means one thing', async () => {
  const made = await fork()
  const { b, log, told } = made
  const id = b.store.replica
  await b.store.leaveLog()
  assert.is(b.store.vector.sequenceOf(log), told)
  assert.is.not(b.store.replica, id)
  assert.is(b.store.vector.sequenceOf(b.store.ownLog), 4, 'what was superseded is not written again')
  await checkInvariants(b.engine, { vector: b.store.vector as never })
  const again = await b.reopened()
  assert.equal([again.store.replica, again.store.ownLog], [b.store.replica, b.store.ownLog])
  assert.ok(again.store.vector.equals(b.store.vector))
  await checkMet(made, again)
})

test('a log of which nothing has been sent is left as a whole', async () => {
  const a = await openReplica()
  await a.put('a', 'common')
  const b = await snapshotOf(a)
  await a.put('b', 'of a')
  await b.put('b', 'of b')
  const { ownLog: log } = a.store
  for (const one of [a, b]) {
    await one.store.leaveLog()
    assert.is(one.store.vector.sequenceOf(log), 0)
    assert.is((await one.reopened()).store.vector.sequenceOf(log), 0)
  }
  await exchange(a, b)
  await checkEqual([a.engine, b.engine])
  assert.equal(await a.values('b'), ['of a', 'of b'])
})

test('leaving a log that is interrupted goes on when the database is opened again', async () => {
  let interrupted = 0
  for (let after = 0, done = false; !done; after++) {
    const made = await fork()
    const { b, log, told } = made
    b.memory.dieAfter(after)
    done = await b.store.leaveLog().then(() => true, () => false)
    b.memory.revive()
    const again = await b.reopened()
    if (again.store.ownLog === log) await again.store.leaveLog()
    assert.is(again.store.vector.sequenceOf(log), told)
    await checkMet(made, again)
    if (!done) interrupted++
  }
  assert.ok(interrupted > 3)
})

test('one that cannot be left just now is left when it is tried again', async () => {
  const made = await fork()
  const { b, log, told } = made
  const memory = b.memory
  memory.failNext(1)
  await rejection(b.store.leaveLog())
  await b.store.leaveLog()
  assert.is(b.store.vector.sequenceOf(log), told)
  await checkMet(made, b)
})

test('what is written before it is tried again is written as the new one, also on disk', async () => {
  const made = await fork()
  const { b, log, told } = made
  b.memory.failNext(1)
  await rejection(b.store.leaveLog())
  const { ownLog, replica } = b.store
  assert.is.not(ownLog, log)
  await b.put('g', 'between')
  const again = await b.reopened()
  assert.is(again.store.replica, replica)
  assert.is.not(again.store.ownLog, log)
  assert.is(again.store.vector.sequenceOf(log), told, 'it has gone on with it')
  await checkInvariants(again.engine, { vector: again.store.vector as never })
  await exchange(made.peer, again)
  await checkEqual([made.peer.engine, again.engine])
  assert.is((await made.peer.data()).g, 'between')
})

test('what is written again behind what was written before it is tried again has a log of its own, since times in a log do not go back', async () => {
  const made = await fork()
  const { b, log, told } = made
  b.memory.dieAfter(1)
  await rejection(b.store.leaveLog())
  b.memory.revive()
  await b.system.advance(1000)
  await b.put('g', 'between')
  const { ownLog } = b.store
  await b.store.leaveLog()
  assert.is(b.store.vector.sequenceOf(log), told)
  assert.is.not(b.store.ownLog, ownLog)
  await checkInvariants(b.engine, { vector: b.store.vector as never })
  const again = await b.reopened()
  assert.is(again.store.ownLog, b.store.ownLog)
  await again.put('g', 'after')
  await checkInvariants(again.engine, { vector: again.store.vector as never })
  await exchange(made.peer, again)
  await checkEqual([made.peer.engine, again.engine])
  assert.is((await made.peer.data()).g, 'after')
})

test('a delete of its own that is forgotten already reaches others all the same', async () => {
  const a = await openReplica()
  const peer = await openReplica()
  await a.put('a', 'first')
  a.store.told.tell()
  await pull(peer, a)
  const b = await snapshotOf(a)
  const { ownLog: log } = b.store
  await b.del('a')
  await b.store.flush()
  await b.store.housekeeping.collect()
  assert.is(b.store.collected.sequenceOf(log), 2)
  await a.put('b', 'of a')
  await pull(peer, a)
  await b.store.leaveLog()
  assert.is(b.store.collected.sequenceOf(log), 1)
  assert.ok(b.store.vector.dominates(b.store.collected))
  for (const one of [b, a]) await exchange(peer, one)
  await exchange(peer, b)
  await checkEqual([a, b, peer].map(({ engine }) => engine))
  assert.equal(await peer.data(), { b: 'of a' })
})

test('what is to count as forgotten from then on does so with the first write that is made as the new one, also if the redo log has it first', async () => {
  const a = await openReplica()
  await a.put('a', 'first')
  const b = await (await snapshotOf(a)).reopened({ redoFile: new MemoryRedoFile() })
  await b.del('a')
  await b.store.flush()
  await b.store.housekeeping.collect()
  b.memory.failNext(1)
  await rejection(b.store.leaveLog())
  const { ownLog } = b.store
  const release = holdBatches(b)
  for (let isPut = false; !isPut;) isPut = await b.put('b', 'as soon as that may be').then(() => true, () => false)
  assert.is(b.store.collected.sequenceOf(ownLog), 1)
  release()
  await b.store.flush()
  assert.is(b.store.collected.sequenceOf(ownLog), 1)
})

test('where nothing is forgotten but what others know, nobody has to be sent the whole state', async () => {
  const a = await openReplica()
  await a.put('a', 'first')
  await a.del('a')
  await a.store.flush()
  await a.store.housekeeping.collect()
  a.store.told.tell()
  const b = await snapshotOf(a)
  await b.put('b', 'of b')
  const collected = b.store.collected.clone()
  assert.is(collected.sequenceOf(b.store.ownLog), b.store.told.last.sequence)
  await b.store.leaveLog()
  assert.ok(b.store.collected.equals(collected))
})

test('what had come of a delivery is gone as soon as a log has been left, also if that ends there', async () => {
  let dropped = 0
  for (let after = 0, done = false; !done; after++) {
    const { b, log, told } = await fork()
    const source = await openReplica()
    for (const key of ['x', 'y']) await source.put(key, 'z'.repeat(chunkBytes))
    await pullSome(b, source, 1)
    assert.ok(b.store.intake.resumePoint !== undefined)
    b.memory.dieAfter(after)
    done = await b.store.leaveLog().then(() => true, () => false)
    b.memory.revive()
    if (b.store.vector.sequenceOf(log) > told) continue
    dropped++
    assert.is((await b.reopened()).store.intake.resumePoint, undefined)
  }
  assert.ok(dropped > 1, 'it has ended there')
})

test('what a log is left with is on disk before anybody may be linked', async () => {
  const { b } = await fork()
  const written = b.memory.written.length
  await b.store.leaveLog()
  const [begin, ...steps] = b.memory.written.slice(written)
  assert.ok(begin!.sync)
  assert.is(steps.filter(({ sync }) => sync).length, 1)
})

test('two snapshots are told apart also where their clock has stood ahead, and only counts', async () => {
  const a = await openReplica()
  a.system.jumpWallClock(1e9)
  await a.put('a', 'first')
  a.store.told.tell()
  a.system.jumpWallClock(-1e9)
  const b = await snapshotOf(a, { system: a.system })
  await a.put('a', 'of a')
  await b.put('a', 'of b')
  const peer = await openReplica()
  await pull(peer, b)
  assert.is(await a.store.told.contradiction([...peer.store.vector]), a.store.ownLog)
})

test('what of a log was looked through for deletes before it is left is looked through again when others have brought theirs', async () => {
  const { a, b, peer } = await fork()
  const former = b.store.replica
  await b.store.housekeeping.collect()
  await b.store.leaveLog()
  await b.store.retire(former)
  await pull(b, peer)
  assert.equal(await b.values('b'), [undefined])
  await b.store.housekeeping.collect()
  assert.equal(await b.values('b'), [])
  for (let round = 0; round < 2; round++) for (const one of [a, b]) await exchange(peer, one)
  await checkEqual([a, b, peer].map(({ engine }) => engine))
})

test('what is made durable while a log is left is told under the name that it has by then', async () => {
  let leave: (() => Promise<void>) | undefined
  const replica = await openReplica({
    syncFullLogs: async () => {
      const now = leave
      leave = undefined
      await now?.()
    }
  })
  const { store } = replica
  await replica.put('a', 'sent')
  store.told.tell()
  await replica.put('b', 'not sent')
  const { ownLog, replica: id } = store
  leave = async () => { await store.leaveLog() }
  const vector = await store.flush()
  assert.is.not(store.replica, id)
  assert.equal([vector, store.durable, store.members.acknowledged(store.replica)].map((each) => [each.sequenceOf(ownLog), each.sequenceOf(store.ownLog)]), [[1, 1], [1, 1], [1, 1]])
})

test.run()
