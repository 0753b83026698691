import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { decodeLogRecord } from '../../lib/codec/log-record.ts'
import { housekeepingDelayMs, sweepOperationsMin } from '../../lib/limits.ts'
import type { ReplicaId } from '../../lib/core/ids.ts'
import { keyspace, readSequence, wholeKeyspace } from '../../lib/storage/keyspaces.ts'
import { readLogRecords } from '../../lib/storage/sweeper.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { del, exchange, openReplica, pull, put, type TestReplica } from '../support/store.ts'

/** Sequences in each record of the log. */
async function logOf ({ engine }: TestReplica): Promise<number[][]> {
  const records = await engine.iterator<Buffer, Buffer>({ ...wholeKeyspace(keyspace.log), keyEncoding: 'buffer', valueEncoding: 'buffer' }).all()
  return records.map(([key, value]) => decodeLogRecord(readSequence(key, 9), value).operations.map(({ sequence }) => sequence))
}

async function overwrite (replica: TestReplica, times: number, keys: number): Promise<void> {
  for (let time = 0; time < times; time++) {
    await replica.store.commit(Array.from({ length: keys }, (_, index) => put(`k${index}`, `${time}`)), false)
  }
}

test('operations that have been superseded leave the log, whole records and halves of records', async () => {
  const replica = await openReplica()
  await replica.put('a', '1') // 1
  await replica.store.commit([put('a', '2'), put('b', '2'), put('c', '2')], false) // 2 to 4
  await replica.store.commit([put('d', '3'), put('e', '3'), put('f', '3')], false) // 5 to 7
  await replica.put('d', '4') // 8
  await replica.store.commit([put('a', '5'), put('b', '5')], false) // 9, 10
  await replica.store.housekeeping.sweep()
  assert.equal(await logOf(replica), [[4], [5, 6, 7], [8], [9, 10]], 'one garbage operation of three stays')
  assert.equal(await replica.data(), { a: '5', b: '5', c: '2', d: '4', e: '3', f: '3' })
  await checkInvariants(replica.engine)
  await replica.del('c') // 11
  await replica.store.housekeeping.sweep()
  assert.equal(await logOf(replica), [[5, 6, 7], [8], [9, 10], [11]], 'and so does a tombstone')
  await checkInvariants(replica.engine)
})

test('what a log lacks after a sweep nobody misses: others catch up from it', async () => {
  const [a, b, c] = [await openReplica(), await openReplica(), await openReplica()]
  await overwrite(a, 5, 20)
  await pull(b, a)
  await overwrite(a, 30, 10)
  await b.put('k3', 'concurrent')
  await a.store.housekeeping.sweep()
  await exchange(a, b, 'catch-up')
  await a.store.housekeeping.sweep()
  await b.store.housekeeping.sweep()
  assert.is((await logOf(a)).flat().length, 21)
  await pull(c, b, 'catch-up')
  await checkEqual([a.engine, b.engine, c.engine])
})

test('after a sweep it is known how much is live, also by whoever opens the database again, and what is written meanwhile counts on', async () => {
  const replica = await openReplica()
  replica.store.members.met('1'.repeat(32) as ReplicaId) // who holds the deletes back
  await overwrite(replica, 2, 10)
  for (const key of ['k0', 'k1']) await replica.del(key)
  assert.equal(replica.store.garbage.log, { live: 0, written: 22, forgotten: 0 })
  let writing: Promise<void> | undefined
  replica.memory.beforeBatch = () => { writing ??= replica.put('meanwhile', '1') }
  await replica.store.housekeeping.sweep()
  replica.memory.revive()
  await writing
  const { garbage } = replica.store
  assert.is(garbage.log.live + garbage.log.written, 11)
  assert.ok(garbage.log.written <= 1)
  assert.is(garbage.tombstones.count, 2)
  await replica.put('meanwhile', '2')
  await replica.store.housekeeping.sweep()
  assert.equal(replica.store.garbage.log, { live: 11, written: 0, forgotten: 0 })
  assert.equal((await replica.reopened()).store.garbage.log, { live: 11, written: 0, forgotten: 0 })
})

test('whatever batch LevelDB loses beside a sweep, each version that is left is in the log', async () => {
  const memory = await LossyMemory.open()
  const replica = await openReplica({ engine: memory.asEngine })
  for (const key of ['before', 'meanwhile']) await replica.put(key, '1')
  await replica.put('before', '2')
  const writeOut = memory.engine.compactRange!
  memory.engine.compactRange = async () => {
    await writeOut()
    await replica.put('meanwhile', '2')
  }
  const first = memory.logLength
  await replica.store.housekeeping.sweep()
  await replica.put('later', '1')
  for (let lost = 0; lost < memory.logLength - 1; lost++) {
    const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity.clone() })
    await checkInvariants(again.engine, { alsoCovered: { covers: () => true } as never })
  }
  assert.ok(memory.logLength < first + 6, 'its memory was written out')
})

test('a sweep is due when more has been written than the last one found, and comes by itself', async () => {
  const replica = await openReplica()
  await overwrite(replica, sweepOperationsMin / 10, 10)
  await replica.system.advance(2 * housekeepingDelayMs)
  assert.is((await logOf(replica)).length, sweepOperationsMin / 10, 'not yet')
  await replica.put('k0', 'one more')
  await replica.system.advance(2 * housekeepingDelayMs)
  assert.is((await logOf(replica)).flat().length, 11, 'half of the last batch is live, or more')
  assert.is(replica.system.timers, 1, 'and nothing is left to be done but to count the time')

  const many = 3 * sweepOperationsMin
  await replica.store.commit(Array.from({ length: many }, (_, index) => put(`many${index}`, '')), false)
  await replica.system.advance(2 * housekeepingDelayMs)
  await overwrite(replica, 2, many / 3)
  await replica.system.advance(2 * housekeepingDelayMs)
  assert.is((await logOf(replica)).length, 5, 'as many live ones as these are not walked for so little')
  await checkInvariants(replica.engine)
})

test('a log that grows by new keys is not walked: a sample says that there is nothing to be found', async () => {
  const replica = await openReplica()
  let rounds = 0
  const write = async (name: string): Promise<void> => {
    await replica.store.commit(Array.from({ length: sweepOperationsMin }, (_, index) => put(`${name}${index}`, '')), false)
    await replica.system.advance(2 * housekeepingDelayMs)
    rounds++
  }
  for (let round = 0; round < 20; round++) await write(`${round}-`)
  assert.is(replica.store.garbage.log.written, rounds * sweepOperationsMin, 'no sweep has counted')
  for (let round = 20; round < 42; round++) await write('again-')
  assert.ok((await logOf(replica)).flat().length < 32 * sweepOperationsMin, 'overwriting has been noticed')
  await checkInvariants(replica.engine)
})

test('what has been written counts on after a restart, also if the process was killed', async () => {
  let replica = await openReplica()
  for (let run = 0; run < 6; run++) {
    await overwrite(replica, sweepOperationsMin / 50, 10)
    if (run % 2 === 0) await replica.store.close()
    replica = await replica.reopened()
  }
  await replica.system.advance(2 * housekeepingDelayMs)
  assert.is((await logOf(replica)).length, 1)
})

test('a sweep that ends half-way, since the process died or the disk was full, has done no harm', async () => {
  for (let batches = 0; ; batches++) {
    let replica = await openReplica()
    for (let index = 0; index < 30; index++) await replica.store.commit(Array.from({ length: 50 }, (_, key) => put(`k${key + index}`, `${index}`)), false)
    replica.memory.dieAfter(batches)
    const failed = await replica.store.housekeeping.sweep().then(() => false, () => true)
    replica.memory.revive()
    replica = await replica.reopened()
    await checkInvariants(replica.engine)
    assert.is(Object.keys(await replica.data()).length, 79)
    await replica.store.housekeeping.sweep()
    assert.ok((await logOf(replica)).flat().length <= 2 * 79)
    if (!failed) break
  }
})

test('of large transactions few are read at once', async () => {
  const replica = await openReplica()
  const transactions = 40
  for (let index = 0; index < transactions; index++) await replica.store.commit(Array.from({ length: 1000 }, (_, key) => put(`${key}`.padStart(16, '0'), '')), false)
  let from = 1
  let read = 0
  for (let records = await readLogRecords(replica.engine, replica.store.ownLog, from, transactions * 1000, 500); records.length > 0; records = await readLogRecords(replica.engine, replica.store.ownLog, from, transactions * 1000, 500)) {
    assert.ok(records.length <= 8, `${records.length} at once`)
    read += records.length
    from = records.at(-1)!.operations.at(-1)!.sequence + 1
  }
  assert.is(read, transactions)
})

test('writes go on during a sweep', async () => {
  const replica = await openReplica()
  await overwrite(replica, 300, 10)
  const sweeping = replica.store.housekeeping.sweep()
  for (let index = 0; index < 200; index++) await replica.store.commit([put(`k${index % 10}`, `during ${index}`), del(`k${(index + 5) % 10}`)], false)
  await sweeping
  await checkInvariants(replica.engine)
  await replica.store.housekeeping.sweep()
  assert.is((await logOf(replica)).flat().length, 10)
  const other = await openReplica()
  await exchange(other, replica, 'catch-up')
  await checkEqual([replica.engine, other.engine])
})

test('closing does not wait for the whole of a sweep', async () => {
  const replica = await openReplica()
  await overwrite(replica, 3000, 1)
  const sweeping = replica.store.housekeeping.run()
  await replica.store.close()
  await sweeping
  assert.ok((await logOf(replica)).length > 1000)
  await checkInvariants(replica.engine)
})

test.run()
