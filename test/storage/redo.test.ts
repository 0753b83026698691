/**
 * Transactions that count once they stand in the redo log, before the engine has them: what callers, peers and readers may rely
 * on then, and what becomes of it when the process ends or the disk fails.
 */
import { setImmediate } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { changesPace, groupBytes, redoAreaBytes, redoPace, takenAtOnceBytes } from '../../lib/limits.ts'
import { checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { del, exchange, failReads, holdBatches, MemoryRedoFile, openReplica, put, type TestReplica } from '../support/store.ts'

/** A replica whose writes count once they are in a file in memory, at rest. */
async function openRedoing (options: Parameters<typeof openReplica>[0] = {}): Promise<{ replica: TestReplica, file: MemoryRedoFile }> {
  const file = new MemoryRedoFile()
  const replica = await openReplica({ redoFile: file, ...options })
  await setImmediate() // until it is known that no key has siblings
  return { replica, file }
}

/** The process has ended, and another one opens what is there. */
async function crashed (replica: TestReplica): Promise<TestReplica> {
  const { memory } = replica
  memory.revive()
  const again = await replica.reopened()
  await checkInvariants(again.engine, { vector: again.store.vector as never })
  return again
}

test('a write counts before the engine has it, and an open gives it to the engine', async () => {
  const { replica } = await openRedoing()
  const { asked } = replica.memory
  await replica.put('a', '1')
  assert.is(replica.memory.asked, asked, 'nothing was asked of the engine')
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 1)
  assert.equal(replica.store.find('a')?.type, 'put')
  replica.memory.dieAfter(0)
  const again = await crashed(replica)
  assert.equal(await again.data(), { a: '1' })
  assert.is(again.store.ownLog, replica.store.ownLog)
})

test('what is written and not read is given to the engine after a while, and then is not looked up any more', async () => {
  const { replica } = await openRedoing()
  await replica.put('a', '1')
  await replica.system.advance(redoPace.keptMs)
  await setImmediate()
  assert.equal(await replica.data(), { a: '1' })
  assert.is(replica.store.find('a'), undefined)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('many writes, one after the other, are few batches for the engine', async () => {
  const { replica } = await openRedoing()
  const { asked } = replica.memory
  for (let index = 0; index < 1000; index++) await replica.put(`k${index}`, '1')
  assert.ok(replica.memory.asked - asked < 20, `${replica.memory.asked - asked} batches`)
  await replica.store.flush()
  assert.is(Object.keys(await replica.data()).length, 1000)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('much is given to the engine without waiting for more', async () => {
  const { replica } = await openRedoing()
  const { asked } = replica.memory
  await replica.put('a', 'x'.repeat(groupBytes / 2))
  assert.is(replica.memory.asked, asked)
  await replica.put('b', 'x'.repeat(groupBytes / 2))
  assert.is(replica.memory.asked, asked + 1)
})

test('writes that come together are one record', async () => {
  const { replica, file } = await openRedoing()
  const { written } = file
  await Promise.all(Array.from({ length: 100 }, async (_, index) => { await replica.put(`k${index}`, '1') }))
  assert.is(file.written, written + 1)
})

test('of a flood that waits so much is taken at once that others have their turn between', async () => {
  const { replica, file } = await openRedoing()
  const { write } = file
  const lengths: number[] = []
  file.write = (bytes, position) => {
    lengths.push(bytes.length)
    write.call(file, bytes, position)
  }
  const puts = Array.from({ length: 20_000 }, async (_, index) => { await replica.put(`k${index}`, '1') })
  await Promise.all(puts)
  const [first = 0, ...others] = lengths
  assert.ok(first > redoAreaBytes / 2, 'what is handed in at once is written at once, until there is no room')
  assert.ok(others.length > 0 && others.every((length) => length < takenAtOnceBytes / 4), others.join())
  await replica.store.flush()
  assert.is(Object.keys(await replica.data()).length, 20_000)
})

test('the first write of a turn of the event loop counts at its end, those that follow when others have had their turn', async () => {
  const { replica, file } = await openRedoing()
  const { system } = replica
  let others = (): void => {}
  system.yield = async () => { await new Promise<void>((resolve) => { others = resolve }) }
  await replica.put('a', '1')
  const { written } = file
  const following = Promise.all([replica.put('b', '1'), replica.put('c', '1')])
  for (let turn = 0; turn < 3; turn++) await setImmediate()
  assert.is(file.written, written)
  others()
  await following
  assert.is(file.written, written + 1)
  await replica.put('d', '1')
  assert.is(file.written, written + 2)
})

test('writes count in the order in which they were handed in, also if some of them had to wait for their turn', async () => {
  const { replica } = await openRedoing()
  const release = holdBatches(replica)
  const flushed = replica.store.flush()
  await setImmediate()
  const order: number[] = []
  const puts: Array<Promise<void>> = []
  for (let index = 0; index < 100; index++) {
    puts.push(replica.put(`k${index}`, '1').then(() => { order.push(index) }))
    if (index === 9) release()
    await undefined
  }
  await Promise.all([flushed, ...puts])
  assert.equal(order, puts.map((_, index) => index))
})

test('a write that is to be synced resolves when the engine has synced it, and others do not wait for it', async () => {
  const { replica } = await openRedoing()
  let release = (): void => {}
  replica.memory.beforeBatch = async () => { await new Promise<void>((resolve) => { release = resolve }) }
  let isSynced = false
  const syncing = replica.store.commit([put('a', '1')], true).then(() => { isSynced = true })
  await replica.put('b', '1')
  assert.not(isSynced)
  release()
  await syncing
  assert.ok(replica.memory.written.at(-1)!.sync)
})

test('whoever has to find in the engine what is there finds it: snapshots for peers, deletes, jobs', async () => {
  const { replica } = await openRedoing()
  const peer = await openReplica()
  await replica.put('a', '1')
  await replica.put('b', '1')
  await exchange(replica, peer)
  assert.equal(await peer.data(), { a: '1', b: '1' })
  await replica.put('c', '1')
  assert.equal(await replica.values('c'), ['1'])
  await replica.put('d', '1')
  await replica.del('d')
  await replica.del('d')
  await replica.del('never')
  await replica.store.clear({ lt: Buffer.from('c'), keyEncoding: 'buffer' })
  await replica.store.flush()
  assert.equal(await replica.data(), { c: '1' })
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('a conflict that is settled is settled once, and what is pending has done that', async () => {
  const { replica } = await openRedoing()
  const peer = await openReplica()
  await replica.put('a', '1')
  await peer.put('a', '2')
  await exchange(replica, peer)
  assert.is((await replica.values('a')).length, 2)
  await replica.put('a', '3')
  await replica.put('a', '4')
  await replica.del('a')
  const again = await crashed(replica)
  assert.equal(await again.values('a'), [undefined])
  await exchange(again, peer)
  assert.equal(await peer.data(), {})
})

test('what is pending is told in a range, and nothing if nothing of that is', async () => {
  const { replica } = await openRedoing()
  for (const key of ['a', 'b', 'c']) await replica.put(key, '1')
  await replica.del('b')
  const pending = (range: object): string[] | undefined => { const found = replica.store.pending(range); return found && [...found].map(([key, { type }]) => `${type} ${key}`).sort() }
  assert.equal(pending({}), ['del b', 'put a', 'put c'])
  assert.equal(pending({ gt: 'a', lte: 'c' }), ['del b', 'put c'])
  assert.equal(pending({ gte: 'a', lt: Buffer.from('b') }), ['put a'])
  assert.is(pending({ gt: 'c' }), undefined)
  await replica.store.flush()
  assert.is(pending({}), undefined)
})

test('versions and conflicts are told without waiting for the engine: what was written last has settled its key', async () => {
  const { replica } = await openRedoing()
  const peer = await openReplica()
  for (const key of ['put', 'del', 'left']) {
    await replica.put(key, '1')
    await peer.put(key, '2')
  }
  await exchange(replica, peer)
  const { asked } = replica.memory
  const { log, sequence } = replica.store.vector.get(replica.store.ownLog)!
  await replica.put('put', '3')
  await replica.del('del')
  await replica.del('never')
  const found = [await replica.versions('put'), await replica.versions('del'), await replica.versions('never')]
  const conflicts: string[] = []
  for await (const { key } of replica.store.conflicts({})) conflicts.push(key.toString())
  assert.is(replica.memory.asked, asked, 'nothing was asked of the engine')
  assert.equal(conflicts, ['left'])
  assert.is(replica.store.vector.sequenceOf(log), sequence + 2)
  await replica.store.flush()
  assert.equal(found, [await replica.versions('put'), await replica.versions('del'), []])
  assert.equal(found.flat().map(({ type, valueBytes }) => [type, valueBytes?.toString()]), [['put', '3'], ['del', undefined]])
})

test('what counts is given to the engine after it has failed, be it in flight or behind that', async () => {
  for (const isThere of [false, true]) {
    const { replica } = await openRedoing()
    const { memory } = replica
    let fail = (): void => {}
    const write = memory._batch.bind(memory)
    memory._batch = async (operations, options) => {
      memory._batch = write
      await new Promise<void>((resolve) => { fail = resolve })
      if (isThere) await write(operations, options)
      throw Object.assign(new Error('disk full'), { code: 'ENOSPC' })
    }
    await replica.store.commit([put('a', 'x'.repeat(groupBytes))], false)
    await setImmediate()
    const counted = replica.store.commit([put('counted', '1')], true)
    await replica.put('b', '1')
    const synced = replica.store.commit([put('c', '1')], true)
    const unsaid = replica.put('d', '1')
    fail()
    const codes = (await Promise.allSettled([counted, synced, unsaid])).map((result) => (result as { reason?: { code: string } }).reason?.code)
    assert.equal(codes, ['REPLICATION_WRITE_INDETERMINATE', 'LEVEL_IO_ERROR', 'LEVEL_IO_ERROR'], 'the first one counts, the others do not')
    assert.equal(replica.errors.map(({ code }) => code), ['LEVEL_IO_ERROR'])
    await setImmediate()
    await replica.put('e', '1')
    await replica.store.flush()
    assert.equal(Object.keys(await replica.data()), ['a', 'b', 'counted', 'e'])
    await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  }
})

test('while the engine takes no writes, what counts is read, nothing is accepted, and the next open has it', async () => {
  const { replica } = await openRedoing({ reopen: async () => { await new Promise(() => {}) } })
  replica.memory.dieAfter(0)
  await replica.put('a', '1')
  await replica.system.advance(redoPace.keptMs)
  await setImmediate()
  assert.is((await rejection(replica.put('b', '1'))).code, 'LEVEL_IO_ERROR')
  assert.equal(await replica.values('a'), ['1'])
  assert.equal(await replica.values('b'), [])
  const { code, message } = await rejection(replica.store.atMoment(() => {}))
  assert.is(code, 'LEVEL_IO_ERROR')
  assert.match(message, 'make room')
  assert.equal(replica.store.pending()?.get('a')?.type, 'put')
  const again = await crashed(replica)
  assert.equal(await again.data(), { a: '1' })
})

test('where the redo log cannot be written, a write counts when the engine has it; after a while it is tried again', async () => {
  const { replica, file } = await openRedoing()
  const { asked } = replica.memory
  file.beforeWrite = () => { throw new Error('disk full') }
  await replica.put('a', '1')
  await replica.put('b', '1')
  assert.is(replica.memory.asked, asked + 2)
  assert.is(replica.store.find('b'), undefined)
  file.beforeWrite = () => {}
  await replica.system.advance(redoPace.restMs)
  await replica.put('c', '1')
  assert.is(replica.memory.asked, asked + 2)
  const again = await crashed(replica)
  assert.equal(await again.data(), { a: '1', b: '1', c: '1' })
})

test('a disk that does not keep up holds the event loop for a tenth of the time; one that is slow now and then, as any is where others have the processor, is written to', async () => {
  const { burstMs, slowMs, restFactor } = redoPace
  for (const [tookMs, pauseMs] of [[slowMs, 10], [slowMs + 1, 10], [burstMs / 2, 100], [4 * burstMs, 100], [slowMs + 1, slowMs * restFactor], [burstMs / 2, burstMs / 2 * restFactor]] as const) {
    const { replica, file } = await openRedoing()
    const { store, system } = replica
    const { monotonicMs } = system
    const begunMs = system.monotonicMs()
    let heldMs = 0
    system.monotonicMs = function () { return monotonicMs.call(this) + heldMs }
    file.beforeWrite = () => { heldMs += tookMs }
    let puts = 0
    for (; puts < 300; puts++) {
      await replica.put('a', '1')
      await store.flush()
      await system.advance(pauseMs)
    }
    const sharedMs = (system.monotonicMs() - begunMs) / restFactor
    if (tookMs <= slowMs || tookMs <= pauseMs / restFactor) {
      assert.is(heldMs, puts * tookMs)
    } else {
      assert.ok(heldMs < burstMs + tookMs + sharedMs, `${tookMs}: ${heldMs} ms of ${sharedMs}`)
      assert.ok(heldMs > 0.7 * sharedMs, `${tookMs}: ${heldMs} ms of ${sharedMs}`)
    }
  }
})

test('a record that fails behind others of its batch: what is before it counts, it does when the engine has it', async () => {
  const { replica, file } = await openRedoing()
  await replica.put('a', '1')
  file.beforeWrite = () => { throw new Error('disk full') }
  const { asked } = replica.memory
  await replica.put('b', '1')
  assert.is(replica.memory.asked, asked + 1)
  await replica.del('a')
  await replica.store.flush()
  assert.equal(await replica.data(), { b: '1' })
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('a transaction that is too long for it, and what comes behind it', async () => {
  const { replica } = await openRedoing()
  const long = 'x'.repeat(redoAreaBytes)
  await replica.put('before', '1')
  await Promise.all([replica.put('long', long), replica.put('behind', '1'), replica.del('long'), replica.put('long', '2')])
  const again = await crashed(replica)
  assert.equal(await again.data(), { before: '1', behind: '1', long: '2' })
})

test('text of three bytes a unit that turns out to be too long for it', async () => {
  const { replica, file } = await openRedoing()
  const text = '€'.repeat(redoAreaBytes / 5)
  for (const key of ['a', 'b', 'c', 'd']) await replica.store.commit([{ type: 'put', key, value: text }], false)
  await replica.store.flush()
  const { written } = file
  await replica.store.commit([{ type: 'put', key: 'e', value: '€'.repeat(redoAreaBytes / 2.5) }], false)
  assert.is(file.written, written)
  await replica.put('f', '1')
  assert.is(file.written, written + 1, 'which is no fault of the disk')
  await replica.store.flush()
  assert.equal(Object.keys(await replica.data()), ['a', 'b', 'c', 'd', 'e', 'f'])
  assert.is(await replica.get('d'), text)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('text that might not fit behind what is there already gets into another batch, and so into the redo log', async () => {
  const { replica, file } = await openRedoing()
  const release = holdBatches(replica)
  await replica.put('flying', 'x'.repeat(groupBytes))
  await replica.put('a', 'x'.repeat(redoAreaBytes / 2 - 1000))
  const { written } = file
  const text = replica.store.commit([{ type: 'put', key: 'b', value: '€'.repeat(redoAreaBytes / 3.5) }], false)
  release()
  await text
  assert.is(file.written, written + 1)
})

test('of a transaction that fails half encoded nothing is there, and all that counted before it is', async () => {
  const { replica } = await openRedoing()
  let release = (): void => {}
  const { asked } = replica.memory
  replica.memory.beforeBatch = async (number) => { if (number === asked) await new Promise<void>((resolve) => { release = resolve }) }
  await replica.store.commit([put('flying', 'x'.repeat(groupBytes))], false)
  await replica.put('a', '1')
  const synced = replica.store.commit([put('synced', '1')], true)
  await replica.put('b', '1')
  const mend = failReads(replica)
  await rejection(replica.store.commit([put('half', '1'), del('c')], false))
  mend()
  release()
  await synced
  assert.ok(replica.memory.written.at(-1)!.sync)
  await replica.put('d', '1')
  await replica.store.flush()
  assert.equal(Object.keys(await replica.data()), ['a', 'b', 'd', 'flying', 'synced'])
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  assert.equal(Object.keys(await (await crashed(replica)).data()), ['a', 'b', 'd', 'flying', 'synced'])
})

test('whoever is told and throws takes nothing back, and ends nothing', async () => {
  const { replica } = await openRedoing({ onCommit: () => { throw new Error('told') } })
  await replica.put('a', '1')
  await replica.store.flush()
  await replica.put('b', '1')
  await replica.system.advance(changesPace.pauseMs)
  assert.equal(replica.errors.map(({ code }) => code), ['REPLICATION_INTERNAL', 'REPLICATION_INTERNAL'])
  assert.equal(await (await crashed(replica)).data(), { a: '1', b: '1' })
})

test('of writes that come fast links are told together, of the first one at once', async () => {
  const told: number[] = []
  const { replica } = await openRedoing({ onCommit: ({ changes }) => { told.push(changes[0]!.sequence) } })
  replica.store.feed.open()
  for (let index = 0; index < 10; index++) await replica.put(`k${index}`, '1')
  assert.equal(told, [1])
  await replica.system.advance(changesPace.pauseMs)
  assert.equal(told, [1, 10])
  assert.equal([0, 1, 2].map((number) => (replica.store.feed.at(number) as { changes: Array<{ sequence: number }> } | undefined)?.changes[0]?.sequence), [1, 10, undefined])
  await replica.system.advance(changesPace.restMs)
  await replica.put('alone', '1')
  assert.equal(told, [1, 10, 11])
  for (let passedMs = 0; passedMs < changesPace.pauseMs; passedMs += changesPace.restMs / 2) {
    assert.equal(told, [1, 10, 11])
    await replica.system.advance(changesPace.restMs / 2)
    await replica.put('fast', String(passedMs))
  }
  assert.equal(told, [1, 10, 11, 19])
})

test('the bytes of a caller who uses them again are not what is read', async () => {
  const { replica } = await openRedoing()
  const [key, value] = [Buffer.from('k'), Buffer.from('v')]
  await replica.store.commit([{ type: 'put', key, value }], false)
  key[0] = value[0] = 0
  assert.equal(replica.store.find('k')?.value, Buffer.from('v'))
})

test('a clean close leaves nothing in the redo log; one that the disk hinders leaves what counts', async () => {
  const { replica, file } = await openRedoing()
  await replica.put('a', '1')
  await replica.store.close()
  assert.is(file.bytes.length, 0)
  const again = await replica.reopened()
  await setImmediate()
  await again.put('b', '1')
  again.memory.dieAfter(0)
  await again.store.close()
  assert.equal(await (await crashed(again)).data(), { a: '1', b: '1' })
})

test('nothing is redone that was: not after a crash in the middle of an open, nor after two', async () => {
  const { replica } = await openRedoing()
  for (const key of ['a', 'b']) await replica.put(key, '1')
  await replica.store.flush()
  await replica.put('a', '2')
  for (const after of [0, 1]) {
    replica.memory.dieAfter(after)
    await rejection(replica.reopened())
  }
  const again = await crashed(replica)
  assert.equal(await again.data(), { a: '2', b: '1' })
  await again.put('c', '1')
  assert.equal(await (await crashed(again)).data(), { a: '2', b: '1', c: '1' })
})

test.run()
