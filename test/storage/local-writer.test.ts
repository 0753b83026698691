/**
 * Two batches of the local writer, one in flight and one that is being filled: when the engine is given what counts, who
 * waits for which, and when links are told.
 */
import { setImmediate } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { changesPace, redoAreaBytes, redoPace } from '../../lib/limits.ts'
import { checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { del, diskFull, exchange, failBatch, failReads, holdBatches, LiveStream, MemoryRedoFile, openReplica, pull, put, rest, type TestReplica } from '../support/store.ts'

async function openRedoing (): Promise<{ replica: TestReplica, file: MemoryRedoFile, told: () => number }> {
  const file = new MemoryRedoFile()
  let told = 0
  const replica = await openReplica({ redoFile: file, onCommit: () => { told++ } })
  await setImmediate()
  return { replica, file, told: () => told }
}

async function flown ({ system }: TestReplica): Promise<void> {
  await system.advance(redoPace.keptMs)
  await setImmediate()
}

test('what is written after a while in which somebody waited for the engine is given to it after a while again', async () => {
  const { replica } = await openRedoing()
  for (const key of ['a', 'b', 'c']) {
    await replica.put(key, '1')
    assert.is.not(replica.store.find(key), undefined)
    if (key === 'b') await replica.store.flush()
    else await flown(replica)
    assert.is(replica.store.find(key), undefined)
    assert.is(await replica.get(key), '1')
  }
})

test('a moment comes when the engine has what counted then, and nothing later, also if a batch is in flight', async () => {
  const { replica } = await openRedoing()
  const taken: string[] = []
  const at = async (name: string): Promise<void> => { await replica.store.atMoment(() => { taken.push(`${name}: ${String(replica.store.find('a') ?? replica.store.find('b') ?? replica.store.find('c') ?? 'nothing')}`) }) }
  const releaseFirst = holdBatches(replica)
  await replica.put('a', '1')
  await flown(replica)
  const first = at('first')
  await replica.put('b', '1')
  const second = at('second')
  const { asked } = replica.memory
  releaseFirst()
  const releaseSecond = holdBatches(replica)
  await first
  await setImmediate()
  assert.is(replica.memory.asked, asked + 1)
  assert.is(taken.length, 1, 'what counted at the second moment is still in flight')
  const third = at('third')
  releaseSecond()
  await Promise.all([second, third])
  await replica.put('c', '1')
  await replica.store.flush()
  assert.equal(taken.map((text) => text.split(':')[0]), ['first', 'second', 'third'], 'each once')
  assert.is(taken[2], 'third: nothing')
})

test('a moment comes at once when the engine has everything', async () => {
  const { replica } = await openRedoing()
  assert.is(await replica.store.atMoment(() => 'now'), 'now')
})

test('of a key that is in both batches what was written last is read', async () => {
  const { replica } = await openRedoing()
  const { store } = replica
  const release = holdBatches(replica)
  await replica.put('a', '1')
  await replica.put('b', '1')
  await flown(replica)
  await replica.put('a', '2')
  const found = (key: string): Array<string | undefined> => [store.find(Buffer.from(key)), store.pending()!.get(key)].map((entry) => entry?.value?.toString())
  assert.equal(found('a'), ['2', '2'])
  assert.equal(found('b'), ['1', '1'], 'and of one that is in flight, that')
  release()
  await store.flush()
  assert.equal(await replica.data(), { a: '2', b: '1' })
})

test('what is added after a moment that waits is not there when it comes', async () => {
  const { replica } = await openRedoing()
  const release = holdBatches(replica)
  await replica.put('a', '1')
  await flown(replica)
  await replica.put('b', '1')
  const moment = replica.store.atMoment(() => replica.data())
  const late = replica.put('c', '1')
  await setImmediate()
  release()
  assert.equal(await moment, { a: '1', b: '1' })
  await late
})

test('deletes of what is not there leave no gap in the journal, alone or behind a batch in flight', async () => {
  const { replica } = await openRedoing()
  await replica.del('never')
  await flown(replica)
  await replica.put('a', '1')
  await flown(replica)
  const release = holdBatches(replica)
  await replica.put('b', '1')
  await flown(replica)
  await replica.del('never')
  release()
  await setImmediate()
  await flown(replica)
  await replica.put('c', '1')
  await checkInvariants(replica.engine, {})
  const again = await replica.reopened()
  assert.equal(await again.data(), { a: '1', b: '1', c: '1' })
  assert.equal(again.errors, [])
})

test('what is too long for the redo log is not read before the engine has it', async () => {
  const { replica } = await openRedoing()
  const release = holdBatches(replica)
  const long = replica.store.commit([put('long', 'x'.repeat(redoAreaBytes))], false)
  await setImmediate()
  assert.is(replica.store.find('long'), undefined)
  assert.is(replica.store.pending(), undefined)
  release()
  await long
})

test('links are told after a moment of what comes fast, also if they have just been told of what went to the engine', async () => {
  const { replica, told } = await openRedoing()
  await replica.put('a', '1')
  await replica.put('a', '2')
  assert.is(told(), 1)
  await replica.store.flush()
  const before = told()
  assert.is(before, 2, 'what has not been told is told with it')
  const release = holdBatches(replica)
  await replica.put('a', '3')
  assert.is(told(), before)
  await replica.system.advance(changesPace.pauseMs)
  assert.is(told(), before + 1)
  release()
})

test('a file that cannot be written is left alone for a while', async () => {
  const { replica, file } = await openRedoing()
  let tries = 0
  file.beforeWrite = () => {
    tries++
    throw new Error('disk full')
  }
  for (const key of ['a', 'b', 'c']) await replica.put(key, '1')
  assert.is(tries, 1)
  await replica.system.advance(redoPace.restMs)
  await replica.put('d', '1')
  assert.is(tries, 2)
})

test('what does not fit behind a little begins the next batch, and does not wait for the engine to have the little', async () => {
  const { replica } = await openRedoing()
  const release = holdBatches(replica)
  await replica.put('little', 'x'.repeat(2000))
  await replica.put('much', 'x'.repeat(redoAreaBytes / 2 - 1000))
  assert.is.not(replica.store.find('much'), undefined)
  release()
})

test('peers get what counts before the engine has it, without having to ask', async () => {
  const { replica } = await openRedoing()
  const peer = await openReplica()
  const stream = await LiveStream.open(replica, peer)
  const release = holdBatches(replica)
  await replica.put('a', '1')
  await replica.system.advance(changesPace.pauseMs)
  assert.is.not(await stream.send(), 'lost')
  assert.equal(await peer.data(), { a: '1' })
  release()
})

test('a key whose conflict has been settled is not looked up any more', async () => {
  for (const redoFile of [new MemoryRedoFile(), undefined]) {
    const replica = await openReplica({ redoFile })
    const peer = await openReplica()
    await replica.put('a', '1')
    await peer.put('a', '2')
    await exchange(replica, peer)
    await replica.put('a', '3')
    await replica.store.flush()
    const mend = failReads(replica)
    await replica.put('a', '4')
    mend()
    assert.equal(await replica.values('a'), ['4'])
  }
})

test('of a transaction that fails half encoded, and alone, nothing is read or written, nor with what comes after it', async () => {
  const { replica } = await openRedoing()
  const mend = failReads(replica)
  await rejection(replica.store.commit([put('half', '1'), del('never')], false))
  mend()
  await replica.put('a', '1')
  assert.is(replica.store.find('half'), undefined)
  const release = holdBatches(replica)
  await flown(replica)
  await replica.put('b', '1')
  release()
  await replica.store.flush()
  assert.equal(await replica.data(), { a: '1', b: '1' })
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('what counts behind a batch that fails is told, and is no less there than any other, whatever comes after it', async () => {
  const { replica, told } = await openRedoing()
  const peer = await openReplica()
  await peer.put('p', '1')
  const release = holdBatches(replica)
  await replica.put('first', '1')
  await flown(replica)
  await replica.put('behind', '1')
  await replica.put('fast', '1')
  const before = told()
  release(diskFull)
  await rest()
  assert.is(told(), before + 1)
  assert.equal(await replica.data(), { first: '1', behind: '1', fast: '1' })
  await pull(replica, peer)
  const again = await replica.reopened()
  assert.is(again.store.vector.sequenceOf(replica.store.ownLog), 3)
  await checkInvariants(again.engine, { vector: again.store.vector as never })
  assert.equal(again.errors, [])
})

test('a batch that is there after all, of which the redo log lacks the end, stays as it is', async () => {
  const { replica, file } = await openRedoing()
  const fail = failBatch(replica, true)
  await replica.put('counts', '1')
  file.failNext()
  assert.is((await rejection(replica.put('does not', '1'))).code, 'REPLICATION_WRITE_INDETERMINATE')
  assert.ok(fail.done)
  await rest()
  assert.equal(await replica.data(), { counts: '1', 'does not': '1' })
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 2)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('what is too long for the redo log, and fails, is there or not, and all goes on', async () => {
  for (const isThere of [true, false]) {
    const { replica } = await openRedoing()
    if (isThere) failBatch(replica, true)
    else replica.memory.failNext()
    const long = put('long', 'x'.repeat(redoAreaBytes))
    assert.is((await rejection(replica.store.commit([long], false))).code, 'REPLICATION_WRITE_INDETERMINATE')
    await rest()
    assert.equal(replica.errors, [])
    await replica.put('a', '1')
    await replica.store.flush()
    assert.equal(Object.keys(await replica.data()), isThere ? ['a', 'long'] : ['a'])
    await checkInvariants(replica.engine, { vector: replica.store.vector as never })
    const again = await replica.reopened()
    assert.equal(again.errors, [])
  }
})

test('a synced write that counts, and that the disk does not take, is told that it is not known to be there', async () => {
  const { replica } = await openRedoing()
  failBatch(replica, false)
  assert.is((await rejection(replica.store.commit([put('a', '1')], true))).code, 'REPLICATION_WRITE_INDETERMINATE')
  await rest()
  assert.equal(await replica.data(), { a: '1' }, 'the redo log had it')
})

test('whoever waits for a moment when the disk fails is told', async () => {
  const { replica } = await openRedoing()
  const release = holdBatches(replica)
  await replica.put('a', '1')
  await flown(replica)
  const first = rejection(replica.store.atMoment(() => {}))
  await replica.put('b', '1')
  const second = rejection(replica.store.atMoment(() => {}))
  release(diskFull)
  for (const { code } of await Promise.all([first, second])) assert.is(code, 'LEVEL_IO_ERROR')
})

test.run()
