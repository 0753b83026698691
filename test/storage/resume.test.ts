/**
 * Deliveries that are cut short: what has come stays, and goes on with the same source or another, or begins again.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { decodeEntries, writeEntry, type Entry } from '../../lib/codec/entry.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { VersionVector, type Advance } from '../../lib/core/version-vector.ts'
import { chunkBytes, deliveredPartsMax, innerBatchBytesMax, stageKeptMs } from '../../lib/limits.ts'
import { keyspace, wholeKeyspace } from '../../lib/storage/keyspaces.ts'
import { mayResume } from '../../lib/storage/resumed-source.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { rejection } from '../support/rejection.ts'
import { exchange, openReplica, pull, pullSome, sourceOf, type Kind, type TestReplica } from '../support/store.ts'

const kinds: Kind[] = ['catch-up', 'scan', 'transfer']
const value = 'x'.repeat(chunkBytes / 2)
const keyCount = 40

function keyOf (index: number): string {
  return `k${String(index).padStart(2, '0')}`
}

async function staged ({ engine }: TestReplica): Promise<number> {
  return (await engine.keys({ ...wholeKeyspace(keyspace.stage), keyEncoding: 'buffer' }).all()).length
}

/** Up to where what is staged has come, part by part. */
function partsOf ({ store }: TestReplica): string[] {
  return store.intake.resumePoint?.parts.map(({ upTo }) => upTo.toString()) ?? []
}

/** One with much, another that has all of it, and a third that shares the beginnings only. */
async function group (): Promise<{ source: TestReplica, other: TestReplica, target: TestReplica }> {
  const [source, other, target] = [await openReplica(), await openReplica(), await openReplica()]
  await source.put('shared', 'old')
  await source.put('gone', 'old')
  await target.put('own', 'mine')
  await exchange(source, target)
  for (let index = 0; index < keyCount; index++) await source.put(keyOf(index), `${index}${value}`)
  await source.put('shared', 'new')
  await source.del('gone')
  await exchange(source, other)
  return { source, other, target }
}

for (const kind of kinds) {
  test(`a ${kind} goes on with the same source, and brings only what has not come`, async () => {
    const { source, target } = await group()
    const came = await pullSome(target, source, 6, kind)
    const { resumes, entries } = await pull(target, source)
    assert.ok(resumes)
    assert.is(entries, keyCount + (kind === 'transfer' ? 3 : 2) - came)
    assert.is(await staged(target), 0)
    await checkInvariants(target.engine, { vector: target.store.vector as never })
    await pull(source, target)
    await checkEqual([source.engine, target.engine])
  })

  test(`a ${kind} goes on with another source, which knows of changes before and behind the key`, async () => {
    const { source, other, target } = await group()
    await pullSome(target, source, 6, kind)
    await source.put(keyOf(0), 'changed before')
    await other.put('a first', 'before all that came')
    await other.put(keyOf(1), 'a conflict')
    await source.put(keyOf(1), 'the other side of it')
    await source.del(keyOf(2))
    await source.put(`${keyOf(3)}+`, 'between')
    await source.put(keyOf(keyCount - 1), 'changed behind')
    await target.put(keyOf(4), 'written here meanwhile')
    await exchange(source, other)
    assert.ok((await pull(target, other)).resumes)
    const { data } = await checkInvariants(target.engine, { vector: target.store.vector as never })
    assert.is(data.get('a first')?.toString(), 'before all that came')
    assert.is(data.get(`${keyOf(3)}+`)?.toString(), 'between')
    await exchange(target, other)
    await exchange(source, other)
    await checkEqual([source.engine, other.engine, target.engine])
    assert.is((await target.values(keyOf(1))).length, 2)
    assert.is((await target.values(keyOf(4))).length, 2)
  })

  test(`a ${kind} that is cut short again and again, also in what has changed, and after restarts, ends all the same`, async () => {
    const { source, other, target } = await group()
    let replica = target
    let sent = 0
    let parts = 0
    let cuts = 0
    for (; !replica.store.vector.covers(source.store.ownLog, keyCount); cuts++) {
      assert.ok(cuts < 100)
      const from = cuts % 2 === 0 ? source : other
      const chunks = cuts % 5 === 4 ? 1 : 3
      const before = replica.store.intake.resumePoint
      if (before === undefined || before.parts.at(-1)!.upTo.toString() < keyOf(keyCount - 4)) sent += await pullSome(replica, from, chunks, cuts === 0 ? kind : undefined)
      else sent += (await pull(replica, from)).entries
      parts = Math.max(parts, partsOf(replica).length)
      if (cuts % 3 === 0) replica = await replica.reopened()
      for (let index = 0; index < 4; index++) await source.put(keyOf((cuts * 3 + index * 2) % 9), `changed ${cuts}`)
      await exchange(source, other)
    }
    assert.ok(parts > 1, 'none was cut short in what had changed')
    assert.ok(sent < 5 * keyCount, `${sent} entries were sent`)
    await exchange(replica, source)
    await exchange(replica, other)
    assert.is(await staged(replica), 0)
    await checkInvariants(replica.engine, { vector: replica.store.vector as never })
    await checkEqual([source.engine, other.engine, replica.engine])
  })
}

test('parts beyond a number are put together, and what that leaves open is sent once more', async () => {
  const { source, target } = await group()
  await pullSome(target, source, 12, 'scan')
  const last = partsOf(target)[0]!
  for (let index = 0; index < deliveredPartsMax + 3; index++) {
    // Each time all has changed, and less of it comes than the time before.
    for (let key = 0; keyOf(key) <= last; key++) await source.put(keyOf(key), `${index}${value}`)
    await pullSome(target, source, deliveredPartsMax + 4 - index)
    assert.ok(partsOf(target).length <= deliveredPartsMax)
  }
  assert.is(partsOf(target).length, deliveredPartsMax)
  assert.is(partsOf(target).at(-1), last)
  await pull(target, source)
  await exchange(target, source)
  await checkInvariants(target.engine, { vector: target.store.vector as never })
  await checkEqual([source.engine, target.engine])
})

test('what has changed in a stage may be much more than what is in memory, and a crash may end its application anywhere', async () => {
  for (let after = 1; ; after += 3) {
    const { source, target } = await group()
    await pullSome(target, source, 15, 'scan')
    const news = innerBatchBytesMax / value.length * 1.5
    for (let index = 0; index < news; index++) await source.put(`${keyOf(0)} ${String(index).padStart(3, '0')}`, value)
    const { source: rest, delivery, entries } = await resumed(target, source)
    await rest.close()
    target.memory.dieAfter(after)
    const ended = await delivery.end(entries).then(() => true, () => false)
    target.memory.revive()
    const again = await target.reopened()
    while (again.store.applying) await new Promise((resolve) => { setImmediate(resolve) })
    await exchange(again, source)
    await checkInvariants(again.engine, { vector: again.store.vector as never })
    await checkEqual([source.engine, again.engine])
    if (ended) return
  }
})

/** A delivery that goes on, up to its end. */
async function resumed (to: TestReplica, from: TestReplica): Promise<{ source: Awaited<ReturnType<typeof sourceOf>>, delivery: ReturnType<TestReplica['store']['intake']['begin']>, entries: number }> {
  const source = await sourceOf(from, to.store.vector.clone(), undefined, to.store.intake.resumePoint)
  const delivery = to.store.intake.begin(source.kind, [...source.vector], [...source.collected], source.entries, source.resumes)
  let entries = 0
  for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
    entries += chunk.entries
    await delivery.add(chunk.bytes)
  }
  return { source, delivery, entries }
}

test('what fits one inner batch becomes visible as a whole, also if it was cut short', async () => {
  const [source, target] = [await openReplica(), await openReplica()]
  for (let index = 0; index < 8; index++) await source.put(keyOf(index), value)
  await pullSome(target, source, 2)
  assert.equal(partsOf(target).length, 1)
  let visible: number[] = []
  target.memory.beforeBatch = async () => { visible.push(Object.keys(await target.data()).length) }
  assert.ok((await pull(target, source)).resumes)
  visible = visible.filter((count) => count !== 0 && count !== 8)
  assert.equal(visible, [])
  assert.is(await staged(target), 0)
  await checkEqual([source.engine, target.engine])
})

test('who does not know what is staged delivers beside it, and it goes on afterwards', async () => {
  const { source, target } = await group()
  const stranger = await openReplica()
  await stranger.put('strange', '1')
  await pullSome(target, source, 6)
  assert.not((await pull(target, stranger)).resumes)
  assert.is(await target.get('strange'), '1')
  assert.ok((await pull(target, source)).resumes)
  await exchange(target, source)
  await checkEqual([source.engine, target.engine])
})

test('a long delivery of who does not know what is staged takes its place', async () => {
  const { source, target } = await group()
  const stranger = await openReplica()
  for (let index = 0; index < keyCount; index++) await stranger.put(keyOf(index), `stranger ${value}`)
  await pullSome(target, source, 6)
  assert.not((await pull(target, stranger)).resumes)
  assert.is(await staged(target), 0)
  assert.not((await pull(target, source)).resumes)
  await exchange(target, stranger)
  await exchange(target, source)
  await checkEqual([source.engine, target.engine])
})

test('a source goes on only with what covers all that it has collected', async () => {
  const { source, target } = await group()
  await pullSome(target, source, 6, 'transfer')
  const point = target.store.intake.resumePoint!
  await source.del(keyOf(0))
  ;(source.store.collected as VersionVector).advance([...source.store.vector].find(({ log }) => log === source.store.ownLog)!)
  const offered = await source.store.openSource(target.store.vector.clone(), point)
  assert.not(offered.resumes)
  await offered.close()
  const { message } = await rejection((async () => target.store.intake.begin('transfer', [...source.store.vector], [...source.store.collected], 0, true))())
  assert.match(message, 'cannot go on with')
})

test('a source goes on only if it knows what each part of a stage has, and each of them what it has collected', () => {
  const log = newLogId(Buffer.alloc(8))
  const at = (sequence: number): Advance[] => [{ log, sequence, hlc: sequence }]
  const point = { kind: 'transfer', parts: [{ upTo: Buffer.from('a'), vector: at(5) }, { upTo: Buffer.from('b'), vector: at(3) }] } as const
  const may = (vector: number, collected: number): boolean => mayResume(point, new VersionVector(at(vector)), new VersionVector(at(collected)))
  assert.equal([may(5, 3), may(6, 1), may(4, 3), may(2, 1), may(5, 4), may(6, 6)], [true, true, false, false, false, false])
})

test('a catch-up does not go on with a source that has collected what the receiver does not know', async () => {
  const { source, other, target } = await group()
  await pullSome(target, source, 6, 'scan')
  ;(other.store.collected as VersionVector).advance([...other.store.vector].find(({ log }) => log === source.store.ownLog)!)
  const offered = await other.store.openSource(target.store.vector.clone(), target.store.intake.resumePoint)
  assert.equal([offered.resumes, offered.kind], [false, 'transfer'])
  await offered.close()
})

/** Two that have the same, of which the first one has collected a delete; and one that has nothing. */
async function groupWithCollected (count: number): Promise<{ first: TestReplica, second: TestReplica, target: TestReplica }> {
  const [first, second, target] = [await openReplica(), await openReplica(), await openReplica()]
  for (let index = 0; index < count; index++) await first.put(keyOf(index), value)
  await first.del(keyOf(1))
  await exchange(first, second)
  await first.store.housekeeping.collect()
  assert.is(first.store.collected.size, 1)
  assert.is(second.store.collected.size, 0)
  return { first, second, target }
}

test('what any of its sources had collected is collected at the end of a delivery', async () => {
  const { first, second, target } = await groupWithCollected(keyCount)
  await pullSome(target, first, 6)
  assert.ok((await pull(target, second)).resumes)
  assert.ok(target.store.collected.dominates(first.store.collected))
  assert.equal(await target.values(keyOf(1)), [])
})

for (const [what, count] of [['fits one batch after all', keyCount / 2], ['is applied in many', keyCount]] as const) {
  test(`a tombstone that had come, and that the source which goes on has collected, does not stay, in a delivery that ${what}`, async () => {
    const { first, second, target } = await groupWithCollected(count)
    await pullSome(target, second, 6, 'transfer')
    assert.ok((await pull(target, first)).resumes)
    assert.equal(await target.versions(keyOf(1)), [])
    assert.ok(target.store.collected.equals(first.store.collected))
    await checkInvariants(target.engine, { vector: target.store.vector as never })
  })
}

test('a stage is of nobody any more once what it holds has come another way, or after a time without a source', async () => {
  const { source, other, target } = await group()
  await pullSome(target, source, 6)
  await target.store.intake.dropStageInTime()
  assert.ok(await staged(target) > 0)
  await target.store.close()
  const again = await target.reopened()
  await again.system.advance(stageKeptMs - 60_000)
  await again.store.intake.dropStageInTime()
  assert.ok(await staged(again) > 0)
  await pullSome(again, source, 2)
  await again.system.advance(stageKeptMs - 60_000)
  await again.store.intake.dropStageInTime()
  assert.ok(await staged(again) > 0)
  await again.system.advance(120_000)
  await again.store.intake.dropStageInTime()
  assert.is(await staged(again), 0)
  await pullSome(again, source, 2)
  await pull(again, other, 'transfer')
  await again.store.intake.dropStageInTime()
  assert.is(await staged(again), 0)
})

test('a stage to which a chunk could not be added is dropped; the next delivery begins anew', async () => {
  const { source, target } = await group()
  await pullSome(target, source, 6)
  const offered = await sourceOf(source, target.store.vector.clone(), undefined, target.store.intake.resumePoint)
  const delivery = target.store.intake.begin(offered.kind, [...offered.vector], [...offered.collected], 0, offered.resumes)
  target.memory.failNext()
  await rejection(delivery.add((await offered.next())!.bytes))
  await delivery.abandon()
  await offered.close()
  assert.is(target.store.intake.resumePoint, undefined)
  assert.is(await staged(target), 0)
  assert.not((await pull(target, source)).resumes)
  await exchange(target, source)
  await checkEqual([source.engine, target.engine])
})

test('a chunk across the key behind which a delivery goes on is refused', async () => {
  const { source, target } = await group()
  await pullSome(target, source, 6)
  const delivery = target.store.intake.begin('catch-up', [...source.store.vector], [...source.store.collected], 0, true)
  const whole = await sourceOf(source, target.store.vector.clone(), 'scan')
  const entries: Entry[] = []
  for (let chunk = await whole.next(); chunk !== undefined; chunk = await whole.next()) entries.push(...decodeEntries(chunk.bytes))
  await whole.close()
  const position = target.store.intake.resumePoint!.parts.at(-1)!.upTo
  const beyond = entries.findIndex(({ key }) => Buffer.compare(key, position) > 0)
  const across = new ByteWriter()
  for (const entry of entries.slice(beyond - 1, beyond + 1)) writeEntry(across, entry)
  assert.match((await rejection(delivery.add(across.take()))).message, 'across the key')
  await delivery.abandon()
  assert.is(await staged(target), 0)
})

test('a chunk that goes on when it is full is refused', async () => {
  const { source, target } = await group()
  const whole = await sourceOf(source, target.store.vector.clone(), 'scan')
  const chunks = [(await whole.next())!.bytes, (await whole.next())!.bytes]
  await whole.close()
  const delivery = target.store.intake.begin('catch-up', [...source.store.vector], [...source.store.collected], 0)
  assert.match((await rejection(delivery.add(Buffer.concat(chunks)))).message, 'full')
  await delivery.abandon()
  assert.is(await staged(target), 0)
})

test('a chunk of large values is bounded, also the first of a catch-up by the log', async () => {
  const { source, target } = await group()
  const offered = await sourceOf(source, target.store.vector.clone(), 'catch-up')
  for (let chunk = await offered.next(); chunk !== undefined; chunk = await offered.next()) assert.ok(chunk.bytes.length < 2 * chunkBytes, String(chunk.bytes.length))
  await offered.close()
})

for (const chunks of [1, 17]) {
  test(`nothing goes on with a stage of which LevelDB has lost that it was applied, and not that it was swept: after ${chunks} chunks`, async () => {
    const { source } = await group()
    const memory = await LossyMemory.open()
    const target = await openReplica({ engine: memory.asEngine })
    await pullSome(target, source, chunks)
    await pull(target, source)
    assert.is(await staged(target), 0)
    const swept = memory.logLength - 1
    const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([swept - 2, swept - 1]))).asEngine, identity: target.identity })
    while (again.store.applying) await again.system.yield()
    await pull(again, source)
    await again.store.endRepair()
    await exchange(again, source)
    await checkEqual([source, again].map(({ engine }) => engine))
    assert.is(Object.keys(await again.data()).length, keyCount + 2)
  })
}

test('nor does what LevelDB has not swept after all become a part of what is staged next', async () => {
  const { source } = await group()
  const memory = await LossyMemory.open()
  const target = await openReplica({ engine: memory.asEngine })
  await pullSome(target, source, 6)
  await pull(target, source)
  const swept = memory.logLength - 1
  for (let index = 0; index < keyCount; index++) await source.put(keyOf(index), 'changed')
  await source.put('last', value)
  await source.put('last of all', value + value)
  await pullSome(target, source, 1)
  const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([swept]))).asEngine, identity: target.identity })
  await pull(again, source)
  await again.store.endRepair()
  await exchange(again, source)
  await checkEqual([source, again].map(({ engine }) => engine))
})

test('what a failed write has left in the stage is no part of what is staged after it', async () => {
  const { source, other, target } = await group()
  await pullSome(target, source, 3, 'transfer')
  const range = { ...wholeKeyspace(keyspace.stage), keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
  const left = await target.engine.iterator(range).all()
  assert.ok(left.length > 0)
  await target.store.intake.dropStage()
  await target.engine.batch(left.map(([key, value]) => ({ type: 'put', key, value })), { keyEncoding: 'buffer', valueEncoding: 'buffer' } as object)
  for (let index = 0; index < keyCount; index++) await source.put(keyOf(index), `${index}changed${value}`)
  await pull(other, source)
  await other.put(keyOf(0), 'last')
  await pull(target, other, 'transfer')
  assert.equal(await target.values(keyOf(0)), ['last'])
  assert.is(await staged(target), 0)
  await exchange(target, source)
  await checkEqual([source, target].map(({ engine }) => engine))
})

test.run()
