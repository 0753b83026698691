import { setImmediate } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { hlcMax, timeMaxMs } from '../../lib/core/hlc.ts'
import { decodeLogRecord } from '../../lib/codec/log-record.ts'
import { keyBytesMax, journalSlots, operationBytes, transactionBytesCeiling } from '../../lib/limits.ts'
import { keyspace, readSequence, wholeKeyspace } from '../../lib/storage/keyspaces.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { openState } from '../../lib/storage/opening.ts'
import { Writer, type Step } from '../../lib/storage/writer.ts'
import { newDirectory } from '../support/directory.ts'
import { checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { del, exchange, failReads, openReplica, put, type FaultyMemory, type TestReplica } from '../support/store.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

/** The records of a replica's log: the first sequence, and the keys by their sequences. */
async function logOf ({ engine }: TestReplica): Promise<Array<{ first: number, hlc: number, keys: Record<number, string> }>> {
  const records = await engine.iterator<Buffer, Buffer>({ ...wholeKeyspace(keyspace.log), ...buffers }).all()
  return records.map(([key, value]) => {
    const first = readSequence(key, 9)
    const { hlc, operations } = decodeLogRecord(first, value)
    return { first, hlc, keys: Object.fromEntries(operations.map(({ sequence, key }) => [sequence, key.toString()])) }
  })
}

test('a transaction takes consecutive sequences and one timestamp, and is one log record', async () => {
  const replica = await openReplica()
  await replica.store.commit([put('b', '1'), put('a', '2'), del('b')], false)
  await replica.put('c', '3')
  const records = await logOf(replica)
  assert.equal(records.map(({ keys }) => keys), [{ 1: 'b', 2: 'a', 3: 'b' }, { 4: 'c' }])
  assert.ok(records[0]!.hlc < records[1]!.hlc)
  assert.equal([...replica.store.vector].map(({ sequence, hlc }) => [sequence, hlc]), [[4, records[1]!.hlc]])
  await checkInvariants(replica.engine)
})

test('of a key that a transaction writes twice, the last write stands', async () => {
  const replica = await openReplica()
  await replica.store.commit([put('a', '1'), put('a', '2')], false)
  await replica.store.commit([put('b', '1'), del('b')], false)
  await replica.store.commit([put('c', '1'), del('c'), put('c', '2')], false)
  assert.equal(await replica.data(), { a: '2', c: '2' })
  await checkInvariants(replica.engine)
})

test('a delete of what is not there writes nothing, also in a batch and after an earlier delete in it', async () => {
  const replica = await openReplica()
  await replica.del('absent')
  await replica.store.commit([del('absent'), del('absent')], false)
  assert.is(replica.store.vector.size, 0)
  await replica.store.commit([put('a', '1'), del('a'), del('a'), del('b')], false)
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 2)
  await replica.del('a')
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 2)
  assert.is((await checkInvariants(replica.engine)).logRecords, 1)
})

test('what comes while a batch is in flight goes out together, in its order', async () => {
  const replica = await openReplica()
  const before = replica.memory.written.length
  const order: string[] = []
  await Promise.all(Array.from({ length: 100 }, async (_, index) => {
    await replica.put(`k${index}`, '1')
    order.push(`k${index}`)
  }))
  assert.is(replica.memory.written.length - before, 2)
  assert.equal(order, Array.from({ length: 100 }, (_, index) => `k${index}`))
  assert.equal((await logOf(replica)).map(({ first, keys }) => keys[first]), order)
})

test('of many that come at once the next ones are encoded while some are written, and one batch is in flight at a time', async () => {
  const replica = await openReplica()
  const { memory, system } = replica
  let encodings = 0
  const { nowMs } = system
  system.nowMs = function () {
    encodings++
    return nowMs.call(this)
  }
  const write = memory._batch.bind(memory)
  let inFlight = 0
  let meanwhile = 0
  memory._batch = async (operations, options) => {
    assert.is(++inFlight, 1)
    const before = encodings
    await setImmediate()
    meanwhile += encodings - before
    await write(operations, options)
    inFlight--
  }
  const order: number[] = []
  await Promise.all(Array.from({ length: 1000 }, async (_, index) => {
    await replica.put(`k${index}`, '1')
    order.push(index)
  }))
  assert.ok(meanwhile > 0)
  assert.equal(order, Array.from({ length: 1000 }, (_, index) => index))
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 1000)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('of many that come at once, all that wait go together if one of them waits for the disk', async () => {
  const replica = await openReplica()
  const before = replica.memory.written.length
  await Promise.all(Array.from({ length: 1000 }, (_, index) => replica.store.commit([put(`k${index}`, '1')], index === 1)))
  assert.equal(replica.memory.written.slice(before).map(({ sync }) => sync), [false, true])
})

test('a delete behind a put that is being written sees it', async () => {
  const replica = await openReplica()
  const writes: Array<Promise<void>> = []
  for (let index = 0; index < 1000; index++) {
    writes.push(replica.put(`k${index}`, '1'))
    if (index >= 100) writes.push(replica.del(`k${index - 100}`))
  }
  await Promise.all(writes)
  assert.is(Object.keys(await replica.data()).length, 100)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('what is encoded behind a write that fails is not written', async () => {
  const replica = await openReplica({ reopen: async (look) => { await look() } })
  const { asked } = replica.memory
  let fail = (): void => {}
  replica.memory.beforeBatch = async (number) => {
    if (number === asked) await new Promise<void>((_resolve, reject) => { fail = () => { reject(new Error('disk full')) } })
  }
  const writes = Array.from({ length: 1000 }, async (_, index) => { await replica.put(`k${index}`, '1') })
  await setImmediate()
  fail()
  const codes = (await Promise.allSettled(writes)).map((result) => result.status === 'fulfilled' ? '' : (result.reason as { code: string }).code)
  assert.equal(codes, codes.map((_, index) => index === 0 ? 'REPLICATION_WRITE_INDETERMINATE' : 'LEVEL_IO_ERROR'))
  assert.is(replica.memory.asked, asked + 1)
  await setImmediate() // until it is open again
  await replica.put('after', '1')
  assert.equal(await replica.data(), { after: '1' })
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('a transaction that cannot be encoded is rejected alone', async () => {
  const replica = await openReplica()
  let asked = 0
  const { nowMs } = replica.system
  replica.system.nowMs = function () { return asked++ === 100 ? timeMaxMs + 1 : nowMs.call(this) }
  const results = await Promise.allSettled(Array.from({ length: 500 }, (_, index) => replica.put(`k${index}`, '1')))
  assert.equal(results.flatMap(({ status }, index) => status === 'rejected' ? [index] : []), [100])
  assert.is(Object.keys(await replica.data()).length, 499)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('of a transaction that fails half encoded nothing is written, nor of those that are with it in one batch', async () => {
  const replica = await openReplica()
  await replica.put('busy', '0')
  await setImmediate() // until it is known that no key has siblings
  const mend = failReads(replica)
  const results = await Promise.allSettled([replica.put('busy', '1'), replica.put('a', '1'), replica.store.commit([put('b', '1'), del('c')], false)])
  mend()
  assert.equal(results.map(({ status }) => status), ['fulfilled', 'rejected', 'rejected'])
  await replica.put('after', '1')
  assert.equal(await replica.data(), { busy: '1', after: '1' })
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('a delete in a group sees the puts before it, and no put after it', async () => {
  const replica = await openReplica()
  await replica.put('x', '1')
  await Promise.all([replica.put('busy', '1'), replica.put('a', '1'), replica.del('a'), replica.del('b'), replica.put('b', '1'), replica.del('x'), replica.put('x', '2')])
  assert.equal(await replica.data(), { b: '1', busy: '1', x: '2' })
  await checkInvariants(replica.engine)
})

test('one synced write makes its whole group synced, and no other', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  assert.is(replica.memory.written.at(-1)!.sync, false)
  await Promise.all([
    replica.put('busy', '1'),
    replica.put('b', '1'),
    replica.store.commit([put('c', '1')], true),
    replica.put('d', '1')
  ])
  assert.equal(replica.memory.written.slice(-2).map(({ sync }) => sync), [false, true])
  await replica.put('e', '1')
  assert.is(replica.memory.written.at(-1)!.sync, false)
})

test('a synced delete of nothing is synced all the same, since it stands for what came before', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  await replica.store.commit([del('absent')], true)
  assert.is(replica.memory.written.at(-1)!.sync, true)
})

test('a batch that fails rejects its transactions and no others, and no sequence is used twice', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  replica.memory.failNext()
  const results = await Promise.allSettled([replica.put('lost', '1'), replica.put('b', '1'), replica.store.commit([put('c', '1'), put('d', '1')], false)])
  assert.equal(results.map(({ status }) => status), ['rejected', 'fulfilled', 'fulfilled'])
  assert.is(((results[0] as PromiseRejectedResult).reason as Error).message, 'disk full')
  assert.equal(await replica.data(), { a: '1', b: '1', c: '1', d: '1' })
  assert.equal((await logOf(replica)).map(({ first }) => first), [1, 3, 4])
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('a group that fails rejects all of its transactions', async () => {
  const replica = await openReplica()
  const first = replica.put('a', '1')
  replica.memory.failNext()
  const results = await Promise.allSettled([replica.put('b', '1'), replica.put('c', '1')])
  await first
  assert.equal(results.map(({ status }) => status), ['rejected', 'rejected'])
  await replica.put('d', '1')
  assert.equal(await replica.data(), { a: '1', d: '1' })
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('the vector never passes what is not committed', async () => {
  const replica = await openReplica()
  let release = (): void => {}
  replica.memory.beforeBatch = () => new Promise<void>((resolve) => { release = resolve })
  const writing = replica.put('a', '1')
  const queued = replica.put('b', '1')
  assert.is(replica.store.vector.size, 0)
  replica.memory.revive()
  release()
  await writing
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 1)
  await queued
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 2)
})

test('after failed batches the vector on disk is whole, even where a checkpoint was due', async () => {
  const replica = await openReplica()
  // The own log is not in any checkpoint yet when the batch fails that carries one.
  for (let round = 0; round < 1022; round++) await replica.store.flush()
  replica.memory.failNext()
  await rejection(replica.put('a', '1'))
  for (let round = 0; round < 1100; round++) await replica.store.flush()
  await replica.put('b', '1')
  const again = await replica.reopened()
  assert.ok(again.store.vector.equals(replica.store.vector))
  await checkInvariants(again.engine, { vector: again.store.vector as never })
})

test('a transaction above transactionBytesMax is refused, one at it is not, and text counts by its bytes', async () => {
  const replica = await openReplica({ transactionBytesMax: 1000 })
  const commit = async (value: string | Buffer): Promise<void> => { await replica.store.commit([{ type: 'put', key: 'key', value }], false) }
  const overhead = 3 + operationBytes
  await commit('a'.repeat(1000 - overhead))
  await commit(Buffer.alloc(1000 - overhead))
  for (const value of ['a'.repeat(1001 - overhead), Buffer.alloc(1001 - overhead), '€'.repeat(400)]) {
    assert.is((await rejection(commit(value))).code, 'REPLICATION_TRANSACTION_TOO_LARGE')
  }
  await commit('€'.repeat(240))
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 3)
  assert.ok(transactionBytesCeiling > 1000)
})

test('a clock that shows what no replica would accept refuses writes, and harms nothing', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  replica.system.jumpWallClock(timeMaxMs + 1 - replica.system.nowMs())
  assert.is((await rejection(replica.put('a', '2'))).code, 'REPLICATION_CLOCK_IMPOSSIBLE')
  replica.system.jumpWallClock(-1)
  await replica.put('a', '3')
  assert.ok([...replica.store.vector][0]!.hlc <= hlcMax)
  replica.system.jumpWallClock(-1e12)
  await replica.del('a')
  await (await replica.reopened()).put('a', '4')
  assert.equal(await replica.data(), { a: '4' })
})

test('timestamps grow while the wall clock wanders', async () => {
  const replica = await openReplica()
  for (let round = 0; round < 50; round++) {
    await replica.put('a', String(round))
    replica.system.jumpWallClock((round % 7 - 3) * 1000)
  }
  const hlcs = (await logOf(replica)).map(({ hlc }) => hlc)
  assert.ok(hlcs.every((hlc, index) => index === 0 || hlc > hlcs[index - 1]!))
})

test('a resolver that writes to another database meanwhile harms neither', async () => {
  const other = await openReplica()
  const written: Array<Promise<void>> = []
  const resolver = (): boolean => { written.push(other.put('another key, and a longer one', 'x')); return true }
  const [a, b] = [await openReplica({ resolver }), await openReplica({ resolver })]
  await a.put('k', '1')
  await b.put('k', '2')
  await exchange(a, b)
  await Promise.all(written)
  assert.ok(written.length > 0)
  for (const replica of [a, b]) {
    assert.equal(Object.keys(await replica.data()), ['k'])
    await checkInvariants(replica.engine, { resolver: () => true })
  }
})

test('after the engine was closed beneath, writes are rejected and the process goes on', async () => {
  for (const engine of [undefined, new ClassicLevel<Buffer, Buffer>(newDirectory(), buffers) as unknown as Engine]) {
    const replica = await openReplica(engine === undefined ? {} : { engine })
    await replica.put('a', '1')
    await replica.engine.close()
    for (const write of [replica.put('a', '2'), replica.store.clear({}), replica.store.flush(), replica.del('a')]) {
      assert.is((await rejection(write)).code, 'LEVEL_DATABASE_NOT_OPEN')
    }
    await replica.store.close()
  }
})

for (const concurrent of [1, 2]) {
  test(`a write waits for a checkpoint where its journal record would take the place of one that may be needed, ${concurrent} at once`, async () => {
    const replica = await openReplica()
    let release = (): void => {}
    Object.assign(replica.engine, { compactRange: async () => { await new Promise<void>((resolve) => { release = resolve }) } })
    const { written } = replica.memory
    const before = written.length
    const writing = (async () => {
      for (let index = 0; index < journalSlots - 20; index++) await replica.put('a', '1')
      for (let index = 0; index < 200; index += concurrent) await Promise.all(Array.from({ length: concurrent }, () => replica.put('a', '1')))
    })()
    for (let last = -1; last !== written.length; await setImmediate()) last = written.length
    const batches = written.length - before
    assert.ok(batches > journalSlots - 10 && batches < journalSlots, `${batches} batches`)
    release()
    await writing
    await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  })
}

test('a store whose disk takes no more writes can be closed and opened again', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  replica.memory.dieAfter(0)
  await rejection(replica.put('b', '1'))
  await replica.store.close()
  assert.is(replica.errors.length, 1)
  replica.memory.revive()
  const again = await replica.reopened()
  await again.put('c', '1')
  assert.equal(await again.data(), { a: '1', c: '1' })
  assert.is(again.store.ownLog, replica.store.ownLog)
  await checkInvariants(again.engine, { vector: again.store.vector as never })
})

test('large and small transactions in turn keep their order and their bytes', async () => {
  const level = new ClassicLevel<Buffer, Buffer>(newDirectory(), buffers)
  const replica = await openReplica({ engine: level as unknown as Engine })
  const large = 'x'.repeat(9 * 1024 * 1024)
  await Promise.all([replica.put('a', '1'), replica.put('b', large), replica.put('a', '2'), replica.put('b', '3'), replica.put('c', large)])
  await replica.put('d', '4')
  const { data } = await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  assert.equal([...data].map(([key, value]) => [key, value.length]), [['a', 1], ['b', 1], ['c', large.length], ['d', 1]])
  await replica.store.close()
  await level.close()
})

test('a key above what is read back is refused, whatever transactions may hold', async () => {
  const replica = await openReplica({ transactionBytesMax: transactionBytesCeiling })
  for (const key of [Buffer.alloc(keyBytesMax + 1), '€'.repeat(keyBytesMax / 3 + 1)]) {
    const commit = async (): Promise<void> => { await replica.store.commit([{ type: 'put', key, value: Buffer.alloc(1) }], false) }
    assert.is((await rejection(commit())).code, 'REPLICATION_TRANSACTION_TOO_LARGE')
  }
  assert.is(replica.store.vector.size, 0)
})

/** A writer over a memory of its own, what happened in its order, and a series of batches with one key each. */
async function openWriter (count: number, pause: () => Promise<unknown> = async () => {}): Promise<{ writer: Writer, memory: FaultyMemory, events: string[], keys: () => Promise<string[]>, next: () => Step }> {
  const { options, memory } = await openReplica()
  const events: string[] = []
  const { state } = await openState(options)
  const writer = new Writer(state, { system: options.system, redo: undefined, recordsUnits: () => false, onCommit: () => {}, reopen: undefined, onReopened: () => {}, onError: () => {} })
  let number = 0
  const next = (): Step => {
    const name = String(++number)
    return {
      fill: async (batch) => {
        events.push(`fill ${name}`)
        await pause()
        batch.putRaw(Buffer.from(`\x70${name}`), Buffer.from(name))
        return Number(name) <= count
      },
      committed: () => { events.push(`committed ${name}`) }
    }
  }
  const keys = async (): Promise<string[]> => (await memory.keys({ gte: Buffer.from('\x70'), ...buffers }).all()).map((key) => key.toString().slice(1))
  return { writer, memory, events, keys, next }
}

test('a series fills a batch while the one before it is written, and ends with the first that has nothing', async () => {
  const { writer, memory, events, keys, next } = await openWriter(3)
  memory.beforeBatch = async () => {
    events.push('write')
    await setImmediate()
    events.push('written')
  }
  await writer.runSeries(next)
  assert.equal(events, ['fill 1', 'write', 'fill 2', 'written', 'committed 1', 'write', 'fill 3', 'written', 'committed 2', 'write', 'fill 4', 'written', 'committed 3'])
  assert.equal(await keys(), ['1', '2', '3'])
})

test('who comes while a series is written has his turn when what was filled is written', async () => {
  const { writer, memory, events, keys, next } = await openWriter(4)
  let came: Promise<void> | undefined
  memory.beforeBatch = async () => {
    await setImmediate()
    came ??= writer.run((batch) => {
      events.push('other')
      batch.putRaw(Buffer.from('\x70other'), Buffer.alloc(0))
      return true
    })
  }
  await writer.runSeries(next)
  await came
  assert.equal(events, ['fill 1', 'fill 2', 'committed 1', 'committed 2', 'other', 'fill 3', 'fill 4', 'committed 3', 'fill 5', 'committed 4'])
  assert.equal(await keys(), ['1', '2', '3', '4', 'other'])
})

test('of a series whose write fails nothing is written that comes after it, also if it is being filled still', async () => {
  const { writer, memory, events, keys, next } = await openWriter(4, setImmediate)
  memory.beforeBatch = (number) => { if (number === memory.asked - 1 && events.includes('committed 1')) throw new Error('disk full') }
  assert.is((await rejection(writer.runSeries(next))).message, 'disk full')
  assert.equal(await keys(), ['1'])
  memory.revive()
  await setImmediate()
  await writer.run((batch) => {
    batch.putRaw(Buffer.from('\x70other'), Buffer.alloc(0))
    return true
  })
  assert.equal(await keys(), ['1', 'other'])
})

test.run()
