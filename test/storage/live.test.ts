/**
 * Live units: from the feed of one store into the intake of another.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { EncodedEntries } from '../../lib/codec/entry.ts'
import { decodeData } from '../../lib/codec/message.ts'
import { encodeUnit } from '../support/units.ts'
import { VersionVector } from '../../lib/core/version-vector.ts'
import type { LogId } from '../../lib/core/ids.ts'
import { feedUnitBytes, logRecordOperationsMax, operationBytes, transactionBytesDefault } from '../../lib/limits.ts'
import { keyspace, readSequence, wholeKeyspace } from '../../lib/storage/keyspaces.ts'
import { Feed } from '../../lib/storage/feed.ts'
import type { RemoteUnit, Unit } from '../../lib/storage/unit.ts'
import { eventually } from '../support/eventually.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { del, LiveStream, openReplica, pull, put, sourceOf, type TestReplica } from '../support/store.ts'

/** Some log. */
const log = 'a log id' as LogId

async function send (stream: LiveStream): Promise<void> {
  const sent = stream.send()
  assert.is.not(sent, 'lost')
  await sent
}

async function open (count: number): Promise<TestReplica[]> {
  const replicas: TestReplica[] = []
  for (let index = 0; index < count; index++) replicas.push(await openReplica({ seed: index + 1 }))
  return replicas
}

test('what one store commits another has, transaction by transaction', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('before', '1')
  const stream = await LiveStream.open(a, b)
  await a.put('k', '1')
  await a.store.commit([put('l', '2'), del('before'), put('l', '3')], false)
  await send(stream)
  assert.equal(await b.data(), { k: '1', l: '3' })
  await a.store.clear({})
  await send(stream)
  assert.equal(await b.data(), {})
  await checkEqual([a.engine, b.engine])
})

test('a value that a caller gives with a delete goes nowhere', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', '1')
  await a.put('l', '1')
  const stream = await LiveStream.open(a, b)
  for (const value of ['text', { no: 'bytes' }, 7]) {
    await a.put('k', '2')
    await a.store.commit([{ ...del('k'), value } as never], false)
    await send(stream)
    assert.equal(await b.data(), { l: '1' })
  }
  await checkEqual([a.engine, b.engine])
})

test('what says nothing new is not written', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', '1')
  await pull(b, a)
  const stream = a.store.vector.clone()
  const { asked } = b.memory
  await b.store.intake.apply({ stream, before: [...stream], changes: [], collected: [], entries: [], bytes: 0 })
  await b.store.intake.apply({ stream, before: [], changes: [...stream], collected: [], entries: [], bytes: 0 })
  assert.is(b.memory.asked, asked)
  const next = { log, sequence: 1, hlc: 1 }
  await b.store.intake.apply({ stream, before: [], changes: [next], collected: [], entries: [], bytes: 0 })
  assert.equal([b.memory.asked, b.store.vector.get(log)], [asked + 1, next])
})

test('a batch arrives as a whole or not at all', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const stream = await LiveStream.open(a, b)
  await a.store.commit(Array.from({ length: 100 }, (_, index) => put(`k${index}`, '1')), false)
  b.memory.failNext()
  assert.is((await rejection(stream.send() as Promise<void[]>)).message, 'disk full')
  assert.equal(await b.data(), {})
  await checkInvariants(b.engine, { vector: b.store.vector as never })
  await pull(b, a)
  await checkEqual([a.engine, b.engine])
})

test('after a unit that could not be applied nothing of its stream is', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const stream = await LiveStream.open(a, b)
  await a.put('first', '1')
  const { asked } = b.memory
  let fail = (_error: Error): void => {}
  b.memory.beforeBatch = (number) => number === asked ? new Promise((_resolve, reject) => { fail = reject }) : undefined
  const first = rejection(stream.send() as Promise<void[]>)
  await eventually(() => b.memory.asked > asked)
  await a.put('second', '2')
  const second = rejection(stream.send() as Promise<void[]>)
  fail(new Error('disk full'))
  assert.is((await first).message, 'disk full')
  assert.is((await second).code, 'REPLICATION_DISCONNECTED')
  await pull(b, a)
  assert.equal(await b.data(), { first: '1', second: '2' })
})

test('a unit that makes no sense is refused alone, with what follows it in its stream', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const good = await LiveStream.open(a, b)
  const stream = new VersionVector()
  const unit = (sequence: number, claimed = sequence): RemoteUnit => ({
    stream,
    before: [],
    changes: [{ log, sequence: claimed, hlc: sequence }],
    collected: [],
    entries: [{ key: Buffer.from('bad'), siblings: [{ type: 'put', log, sequence, hlc: sequence }], values: [Buffer.from(String(sequence))] }],
    bytes: 20
  })
  await a.put('first', '1')
  const busy = b.store.flush()
  const first = good.send()
  const taken = b.store.intake.apply(unit(1))
  const refused = [rejection(b.store.intake.apply(unit(3, 2))), rejection(b.store.intake.apply(unit(3)))]
  await a.put('second', '2')
  await Promise.all([busy, first, taken, good.send()])
  assert.equal((await Promise.all(refused)).map(({ code }) => code), ['REPLICATION_PROTOCOL', 'REPLICATION_DISCONNECTED'])
  assert.equal(await b.data(), { bad: '1', first: '1', second: '2' })
  await checkInvariants(b.engine, { vector: b.store.vector as never })
})

test('a relay hands on what it merged in one batch, with all of the values', async () => {
  const [a, b, relay, far] = await open(4) as [TestReplica, TestReplica, TestReplica, TestReplica]
  const [fromA, fromB, onward] = [await LiveStream.open(a, relay), await LiveStream.open(b, relay), await LiveStream.open(relay, far)]
  await a.put('k', 'a')
  await b.put('k', 'b')
  const busy = relay.store.flush()
  await Promise.all([busy, send(fromA), send(fromB)])
  await send(onward)
  assert.equal(await far.values('k'), ['a', 'b'])
  await checkEqual([relay.engine, far.engine])
})

test('a write that comes both ways is one write', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  const streams = [await LiveStream.open(a, b), await LiveStream.open(a, c), await LiveStream.open(b, c), await LiveStream.open(c, b)]
  for (let round = 0; round < 20; round++) {
    await a.put('k', String(round))
    if (round % 3 === 0) await b.put('l', String(round))
    for (const index of [0, 1, 2, 3].map((index) => (index + round) % 4)) await send(streams[index]!)
  }
  await pull(a, b, 'catch-up')
  for (const stream of streams) await send(stream)
  assert.equal(await c.values('k'), ['19'])
  assert.equal(await c.values('l'), ['18'])
  await checkEqual([a.engine, b.engine, c.engine])
})

for (const known of ['earlier', 'later'] as const) {
  test(`two writes of one unit, one the cause of the other, are right for who knows the ${known} one already`, async () => {
    // The relay's one unit holds a write of a and, having seen it, two of b.
    const [a, b, relay, far] = await open(4) as [TestReplica, TestReplica, TestReplica, TestReplica]
    const [ab, fromA, fromB, onward] = [await LiveStream.open(a, b), await LiveStream.open(a, relay), await LiveStream.open(b, relay), await LiveStream.open(relay, far)]
    await a.put('x', 'a')
    await send(ab)
    await b.put('y', 'b')
    await b.put('x', 'b')
    await pull(far, known === 'earlier' ? a : b)
    const busy = relay.store.flush()
    await Promise.all([busy, send(fromA), send(fromB)])
    await send(onward)
    assert.equal(await far.values('x'), ['b'])
    assert.equal(await far.data(), { x: 'b', y: 'b' })
    await checkEqual([relay.engine, far.engine, b.engine])
  })
}

test('a unit that comes before what it depends on is refused, and changes nothing', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  a.store.feed.open()
  await a.put('k', '1')
  await a.put('l', '1')
  const unit = a.store.feed.at(1)
  assert.ok(unit !== undefined && unit !== 'lost')
  const before = a.store.feed.at(0)
  assert.ok(before !== undefined && before !== 'lost')
  const encoded = encodeUnit(before.changes, unit.body!)
  const { changes, collected, entries } = decodeData(encoded.subarray(1)) as Extract<ReturnType<typeof decodeData>, { type: 'unit' }>
  const error = await rejection(b.store.intake.apply({ stream: new VersionVector(), before: before.changes, changes, collected, entries, bytes: encoded.length }))
  assert.is(error.code, 'REPLICATION_PROTOCOL')
  assert.equal(await b.data(), {})
  assert.is(b.store.vector.size, 0)
})

test('a unit with a write that it does not advance to, or without a value, is refused, and changes nothing', async () => {
  const [b] = await open(1) as [TestReplica]
  const value = Buffer.from('x')
  for (const [sequence, values] of [[2, [value]], [1, [undefined]]] as const) {
    const siblings = [{ log, sequence, hlc: 5, type: 'put' as const }]
    const error = await rejection(b.store.intake.apply({ stream: new VersionVector(), before: [], changes: [{ log, sequence: 1, hlc: 5 }], collected: [], entries: [{ key: Buffer.from('k'), siblings, values }], bytes: 10 }))
    assert.is(error.code, 'REPLICATION_PROTOCOL')
  }
  assert.equal(await b.data(), {})
  assert.is(b.store.vector.size, 0)
})

test('a long unit is taken apart as it is merged: as a whole, or, if there is something wrong with it or it is too long, not at all', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  a.store.feed.open()
  const count = 5000
  await a.store.commit(Array.from({ length: count }, (_, index) => put(`k${index}`, '')), false)
  const unit = a.store.feed.at(0)
  assert.ok(unit !== undefined && unit !== 'lost')
  const body = unit.body!
  const apply = async (body: Buffer, changes = unit.changes): Promise<void> => {
    const { collected, entries } = decodeData(encodeUnit([], body).subarray(1)) as Extract<ReturnType<typeof decodeData>, { type: 'unit' }>
    assert.instance(entries, EncodedEntries)
    await b.store.intake.apply({ stream: new VersionVector(), before: [], changes, collected, entries, bytes: body.length })
  }
  assert.is((await rejection(apply(body.subarray(0, -1)))).code, 'REPLICATION_PROTOCOL')
  assert.is((await rejection(apply(body, unit.changes.map((change) => ({ ...change, sequence: change.sequence - 1 }))))).code, 'REPLICATION_PROTOCOL')
  const entry = [...new EncodedEntries(body.subarray(body.indexOf(Buffer.from('\x02k0'))))][0]!
  const tooMany = (function * () { for (let number = 0; number <= transactionBytesDefault / operationBytes; number++) yield { ...entry, key: Buffer.from(String(number)) } })()
  assert.is((await rejection(b.store.intake.apply({ stream: new VersionVector(), before: [], changes: unit.changes, collected: [], entries: tooMany, bytes: 10 }))).code, 'REPLICATION_FRAME_TOO_LARGE')
  assert.equal(await b.data(), {})
  assert.is(b.store.vector.size, 0)

  await apply(body)
  await checkEqual([a.engine, b.engine])
  for (const { engine, store } of [a, b]) {
    const records = await engine.keys({ ...wholeKeyspace(keyspace.log), keyEncoding: 'buffer' }).all() as unknown as Buffer[]
    assert.equal(records.map((key) => readSequence(key, 9)), [1, 1 + logRecordOperationsMax])
    await checkInvariants(engine, { vector: store.vector as never })
  }
})

test('units while the apply phase of a delivery runs are not recorded: readers have to ask again', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  const onward = await LiveStream.open(b, c)
  await b.put('own', '1')
  for (let index = 0; index < 24; index++) await a.put(`k${index}`, 'x'.repeat(256 * 1024))
  await pull(b, a)
  assert.is(onward.send(), 'lost')
  onward.close()
  await pull(c, b)
  await checkEqual([b.engine, c.engine])
})

test('units that were handed in before a delivery is applied are merged before it', async () => {
  const [a, relay, b] = await open(3) as [TestReplica, TestReplica, TestReplica]
  await a.put('k', 'before')
  const stream = await LiveStream.open(a, b)
  const long = 'x'.repeat(100_000)
  for (let index = 0; index < 8; index++) await a.store.commit([put(`long-${index}`, long), put('k', String(index))], false)
  let openGate = (): void => {}
  const gate = new Promise<void>((resolve) => { openGate = resolve })
  b.memory.beforeBatch = async () => { await gate }
  const sent = stream.send() as Promise<void[]> // each of them takes a batch to itself
  await a.put('k', 'last')
  await pull(relay, a)
  const source = await sourceOf(relay, b.store.vector.clone(), 'transfer')
  const delivery = b.store.intake.begin('transfer', [...source.vector], [], source.entries)
  let entries = 0
  for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
    entries += chunk.entries
    await delivery.add(chunk.bytes)
  }
  await source.close()
  const ended = delivery.end(entries)
  await b.system.settle() // it waits for its turn
  openGate()
  await Promise.all([sent, ended])
  assert.equal(await b.values('k'), ['last'])
  await checkInvariants(b.engine, { vector: b.store.vector as never })
  await checkEqual([a, relay, b].map(({ engine }) => engine))
})

test('replicate and conflict reports name what became visible, and only what others wrote', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  const stream = await LiveStream.open(a, b)
  await b.put('mine', '1')
  assert.is(b.reports.flatMap(({ changed }) => changed).length, 0)
  await a.put('k', '1')
  await a.del('k')
  await send(stream)
  assert.equal(b.reports.flatMap(({ changed }) => changed).map(({ type, key, value }) => [type, key, value]).at(-1), ['del', 'k', undefined])
  await a.put('mine', '2')
  await send(stream)
  assert.is(b.reports.flatMap(({ conflicts }) => conflicts).length, 1)
})

const unitOf = (bytes: number, sequence = 1): { changes: [{ log: LogId, sequence: number, hlc: number }], collected: [], body: Buffer } => ({ changes: [{ log, sequence, hlc: 1 }], collected: [], body: Buffer.alloc(bytes) })

/** A feed of units that have 30 bytes each, with room for so many, of which so many stay when they are read. */
function feedOf (units: number, backlogUnits: number): Feed {
  return new Feed({ vector: new VersionVector(), collected: new VersionVector() }, units * (30 + feedUnitBytes), backlogUnits * (30 + feedUnitBytes))
}

test('the feed keeps units within its bytes, and the newest however large', () => {
  const feed = feedOf(3, 0)
  feed.open()
  for (let index = 0; index < 10; index++) feed.push(unitOf(30))
  assert.is(feed.end, 10)
  assert.is(feed.at(6), 'lost')
  assert.is((feed.at(7) as { body: Buffer }).body.length, 30)
  assert.is(feed.at(10), undefined)
  feed.push(unitOf(1000))
  assert.is(feed.at(9), 'lost')
  assert.is((feed.at(10) as { body: Buffer }).body.length, 1000)
})

test('what all readers have read leaves the feed, but for a backlog', () => {
  const feed = feedOf(3, 0)
  feed.open()
  for (let index = 0; index < 3; index++) feed.push(unitOf(30))
  feed.release(2)
  assert.is(feed.at(1), 'lost')
  assert.is((feed.at(2) as { body: Buffer }).body.length, 30)
  feed.release(0)
  assert.is((feed.at(2) as { body: Buffer }).body.length, 30)
  feed.push(unitOf(30))
  feed.push(unitOf(30))
  assert.is((feed.at(2) as { body: Buffer }).body.length, 30, 'room for three')
  feed.release(Infinity)
  assert.is(feed.end, 5)
  assert.is(feed.at(4), 'lost')
  assert.is(feed.at(5), undefined)
  const keeping = feedOf(10, 2)
  keeping.open()
  for (let index = 0; index < 5; index++) keeping.push(unitOf(30))
  keeping.release(2)
  assert.is(keeping.at(1), 'lost')
  keeping.release(Infinity)
  assert.is(keeping.at(2), 'lost')
  assert.is((keeping.at(3) as Unit).body?.length, 30)
})

test('without readers the feed keeps a backlog, as far as it goes, and numbers go on', () => {
  const feed = feedOf(10, 3)
  const kept = (): number => {
    let count = 0
    while (typeof feed.at(feed.end - 1 - count) === 'object') count++
    return count
  }
  feed.push(unitOf(30))
  assert.is(feed.end, 0)
  assert.is(feed.records(false), false)
  feed.open()
  feed.open()
  for (let index = 0; index < 3; index++) feed.push(unitOf(30))
  feed.close()
  feed.push(unitOf(30))
  assert.is(kept(), 4)
  feed.close()
  for (let index = 0; index < 3; index++) {
    assert.is(kept(), 3)
    feed.push(unitOf(30))
    assert.is(feed.records(false), true)
  }
  assert.is(kept(), 3)
  feed.push(unitOf(30))
  assert.is(kept(), 0, 'alone for long')
  assert.is(feed.records(false), false)
  assert.is(feed.end, 8)
  assert.is(feed.at(7), 'lost')
  feed.open()
  feed.close()
  for (let index = 0; index < 2; index++) feed.push(unitOf(30))
  feed.open()
  feed.close()
  for (let index = 0; index < 3; index++) feed.push(unitOf(30))
  assert.is(kept(), 3, 'counted from when the last reader left')
})

test('a backlog begins where no more was known, and forgotten, than somebody knows, and has forgotten', () => {
  const other = 'another log' as LogId
  const at = (...sequences: number[]): VersionVector => new VersionVector(sequences.map((sequence, index) => ({ log: [log, other][index]!, sequence, hlc: sequence })))
  const state = { vector: at(1, 1), collected: at(1) }
  const feed = new Feed(state, undefined, 3 * (30 + feedUnitBytes))
  assert.is(feed.since(at(9, 9), at(9)), undefined, 'nothing is recorded')
  feed.open()
  const unit = (log: LogId, sequence: number, collected = 0): Unit => ({ changes: [{ log, sequence, hlc: sequence }], collected: collected === 0 ? [] : [{ log, sequence: collected, hlc: collected }], body: Buffer.alloc(30) })
  for (const pushed of [unit(log, 2), unit(other, 3), unit(log, 4, 2), unit(log, 5), unit('a third' as LogId, 1)]) feed.push(pushed)
  const since = (known: VersionVector, forgotten: VersionVector): unknown => {
    const backlog = feed.since(known, forgotten)
    return backlog && [backlog.first, backlog.units.length, [...backlog.vector].map(({ sequence }) => sequence), backlog.collected.sequenceOf(log)]
  }
  assert.equal(since(at(1, 1), at(1)), [0, 5, [1, 1], 1])
  assert.equal(since(at(2, 1), at(1)), [1, 4, [2, 1], 1])
  assert.equal(since(at(2, 2), at(1)), [1, 4, [2, 1], 1])
  assert.equal(since(at(1, 3), at(1)), [0, 5, [1, 1], 1])
  assert.equal(since(at(3, 3), at(1)), [2, 3, [2, 3], 1])
  assert.equal(since(at(4, 3), at(2)), [3, 2, [4, 3], 2])
  assert.equal(since(at(4, 3), at(1)), [2, 3, [2, 3], 1], 'it has not forgotten')
  assert.equal(since(at(5, 9), at(9)), [4, 1, [5, 3], 2])
  assert.equal(since(at(0, 3), at(1)), undefined)
  assert.equal(since(at(5, 0), at(1)), undefined)
  feed.release(Infinity)
  assert.equal(since(at(2, 3), at(1)), [2, 3, [2, 3], 1])
  assert.equal(since(at(2, 1), at(1)), undefined, 'it has left the ring')
  state.vector = at(7, 7)
  feed.forget()
  assert.is(feed.since(at(9, 9), at(9)), undefined)
  feed.open()
  assert.equal(since(at(9, 9), at(9)), [5, 0, [7, 7], 1])
})

test('what came from the only peer is not recorded for others, what is written here is', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  const stream = await LiveStream.open(a, b)
  const { feed } = b.store
  await a.put('k', '1')
  await send(stream)
  const [unit] = [feed.at(feed.end - 1)] as [Unit]
  assert.equal(unit.changes.map(({ log }) => log), [a.store.ownLog])
  assert.is(unit.body, undefined)
  await b.put('k', '2')
  assert.ok((feed.at(feed.end - 1) as Unit).body !== undefined)
  const onward = await LiveStream.open(b, c)
  await a.put('k', '3')
  await send(stream)
  assert.ok((feed.at(feed.end - 1) as Unit).body !== undefined)
  await send(onward)
  assert.equal(await c.data(), await b.data())
})

test('a batch that was begun before the first reader came is a gap for that reader, not a hole', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  let release = (): void => {}
  a.memory.beforeBatch = () => new Promise<void>((resolve) => { release = resolve })
  const writing = a.put('k', '1')
  a.store.feed.open()
  const number = a.store.feed.end
  a.memory.revive()
  release()
  await writing
  assert.is((a.store.feed.at(number) as Unit).body, undefined)
  a.store.feed.close()
  const stream = await LiveStream.open(a, b)
  await a.put('l', '1')
  await send(stream)
  await checkEqual([a.engine, b.engine])
})

test.run()
