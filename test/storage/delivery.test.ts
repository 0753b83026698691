/**
 * Catch-ups and state transfers from one store to another: in one batch, staged, interrupted and resumed.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { VersionVector } from '../../lib/core/version-vector.ts'
import { chunkBytes, innerBatchBytesMax, heldBytesMax, logKeysBytesMax, MiB } from '../../lib/limits.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { keyspace, meta, wholeKeyspace } from '../../lib/storage/keyspaces.ts'
import type { Source } from '../../lib/storage/source.ts'
import { eventually } from '../support/eventually.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { newDirectory } from '../support/directory.ts'
import { rejection } from '../support/rejection.ts'
import { del, exchange, newMemory, openReplica, pull, pullSome, put, sourceOf, type Kind, type TestReplica } from '../support/store.ts'

const kinds: Kind[] = ['catch-up', 'scan', 'transfer']
const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
const big = 'x'.repeat(innerBatchBytesMax / 16)

async function stagedKeys ({ engine }: TestReplica): Promise<number> {
  return (await engine.keys({ ...wholeKeyspace(keyspace.stage), keyEncoding: 'buffer' }).all()).length
}

/** Two replicas that share some history, then grow apart by more than one inner batch takes. */
async function apart (engine?: () => Engine): Promise<[TestReplica, TestReplica]> {
  const [a, b] = [await openReplica({ seed: 1 }), await openReplica({ seed: 2, ...(engine === undefined ? {} : { engine: engine() }) })]
  for (let index = 0; index < 6; index++) await a.put(`shared${index}`, 'old')
  await b.put('own', 'b')
  await exchange(a, b)
  for (let index = 0; index < 24; index++) await a.put(`big${String(index).padStart(2, '0')}`, `${index}${big}`)
  await a.put('shared0', 'new')
  await a.del('shared1')
  await b.put('shared2', 'conflict b')
  await a.put('shared2', 'conflict a')
  await b.del('shared3')
  await a.store.commit([put('shared4', 'new'), del('own')], false)
  return [a, b]
}

test('a source sends each key once, with values for what the receiver lacks only', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await a.put('k', '1')
  await a.put('k', '2')
  await b.put('k', 'b')
  await a.put('l', '1')
  await exchange(a, b)
  await a.put('m', '1')
  for (const kind of kinds) {
    const source = await sourceOf(a, b.store.vector.clone(), kind)
    const chunk = await source.next()
    assert.is(chunk!.entries, kind === 'transfer' ? 3 : 1)
    assert.is(await source.next(), undefined)
    await source.close()
  }
})

/** Counts what is open of an engine's snapshots and iterators. */
function countOpen ({ engine }: TestReplica): () => number {
  const open = new Set<object>()
  for (const make of ['snapshot', 'iterator'] as const) {
    const before = engine[make].bind(engine) as (options?: object) => { close (): Promise<void> }
    engine[make] = ((options?: object) => {
      const made = before(options)
      const close = made.close.bind(made)
      open.add(made)
      made.close = async () => {
        open.delete(made)
        await close()
      }
      return made
    }) as never
  }
  return () => open.size
}

test('a source that is closed holds nothing open, wherever it was read to', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  const write = async (): Promise<void> => {
    for (const key of ['a', 'b', 'c', 'd']) await a.store.commit([{ type: 'put', key: Buffer.from(key), value: Buffer.alloc(chunkBytes, key === 'c' ? 0xff : 0x20) }], false)
  }
  await write()
  await pullSome(b, a, 2, 'scan')
  await write()
  const open = countOpen(a)
  const sources: Array<() => Promise<Source>> = [
    ...kinds.map((kind) => async () => await sourceOf(a, b.store.vector, kind)),
    async () => await sourceOf(a, new VersionVector()),
    async () => await sourceOf(a, b.store.vector, undefined, b.store.intake.resumePoint)
  ]
  for (const make of sources) {
    for (const chunks of [0, 1, 3, 10]) {
      const source = await make()
      for (let index = 0; index < chunks; index++) await source.next()
      assert.ok(open() > 0)
      await source.close()
      assert.is(open(), 0)
    }
  }
})

test('a catch-up by the log of more keys than it holds in memory scans for them', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await a.put('k', '1')
  await pull(b, a)
  const open = countOpen(a)
  const pad = 'x'.repeat(MiB)
  for (let index = 0; index * MiB <= logKeysBytesMax; index++) await a.put(`${index}${pad}`, '1')
  const read: object[] = []
  const iterator = a.engine.iterator.bind(a.engine)
  a.engine.iterator = ((options: object) => {
    read.push(options)
    return iterator(options)
  }) as never
  const scans = (): boolean => read.some((options) => 'gte' in options && Buffer.compare(options.gte as Buffer, wholeKeyspace(keyspace.version).gte) === 0)
  const source = await sourceOf(a, b.store.vector, 'catch-up')
  read.length = 0
  await source.next()
  assert.ok(scans())
  await source.close()
  assert.is(open(), 0)
  await pull(b, a, 'catch-up')
  await checkEqual([a.engine, b.engine])
})

test('who lacks everything gets it, who lacks little gets that, who lacks nothing an empty catch-up', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  for (let index = 0; index < 20; index++) await a.put(`k${index}`, '1')
  assert.is((await pull(b, a)).entries, 20)
  await a.put('k', '1')
  const second = await pull(b, a)
  assert.equal([second.kind, second.entries], ['catch-up', 1])
  const third = await pull(b, a)
  assert.equal([third.kind, third.entries], ['catch-up', 0])
  await checkEqual([a.engine, b.engine])
})

test('a source shows the moment of its opening, whatever is written while it is read', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  for (let index = 0; index < 2000; index++) await a.put(`k${String(index).padStart(4, '0')}`, 'x'.repeat(500))
  for (const kind of kinds) {
    const source = await sourceOf(a, new VersionVector(), kind)
    const first = await source.next()
    assert.ok(first!.bytes.length >= chunkBytes)
    await a.store.commit([put('k1999', `later ${kind}`), del('k1998'), put('zzz', 'new')], false)
    const delivery = b.store.intake.begin(source.kind, [...source.vector], [], source.entries)
    let entries = 0
    for (let chunk = first; chunk !== undefined; chunk = await source.next()) {
      entries += chunk.entries
      await delivery.add(chunk.bytes)
    }
    await delivery.end(entries)
    assert.ok(b.store.vector.equals(source.vector))
    await source.close()
    await pull(b, a)
    await checkEqual([a.engine, b.engine])
  }
})

for (const kind of kinds) {
  test(`a ${kind} too long for one inner batch goes by the stage, and the end is the same`, async () => {
    const [a, b] = await apart()
    await pull(b, a, kind)
    assert.is(await stagedKeys(b), 0)
    await checkInvariants(b.engine, { vector: b.store.vector as never })
    await pull(a, b, kind)
    await checkEqual([a.engine, b.engine])
    assert.equal(await a.values('shared2'), ['conflict a', 'conflict b'])
  })

  test(`what a ${kind} brings is no part of the state before its end`, async () => {
    const [a, b] = await apart()
    const source = await sourceOf(a, b.store.vector.clone(), kind)
    const delivery = b.store.intake.begin(source.kind, [...source.vector], [], source.entries)
    const before = await b.data()
    for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) await delivery.add(chunk.bytes)
    assert.equal(await b.data(), before)
    const { staged } = await checkInvariants(b.engine, { vector: b.store.vector as never })
    assert.ok(staged > 0)
    await source.close()
    await exchange(a, b, kind)
    assert.is(await stagedKeys(b), 0)
    await checkEqual([a.engine, b.engine])
  })

  test(`a ${kind} that an unclean end left unfinished goes on at the next open`, async () => {
    const [a, b] = await apart()
    const source = await sourceOf(a, b.store.vector.clone(), kind)
    const delivery = b.store.intake.begin(source.kind, [...source.vector], [], source.entries)
    for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) await delivery.add(chunk.bytes)
    await source.close()
    const again = await b.reopened()
    const { resumes, entries } = await pull(again, a)
    assert.ok(resumes)
    assert.is(entries, 0)
    assert.is(await stagedKeys(again), 0)
    await pull(a, again)
    await checkEqual([a.engine, again.engine])
  })

  test(`local writes during the apply phase of a ${kind} stay, and supersede what they have seen`, async () => {
    const [a, b] = await apart()
    const seen = new Set<string>()
    let writing: Promise<void> | undefined
    // Between any two batches of the apply phase, a write to a key before the cursor, and one after it.
    b.memory.beforeBatch = async () => {
      if (!b.store.applying || writing !== undefined) return
      writing = Promise.all([b.put('big00', 'local'), b.put('shared5', 'local'), b.put('zzz', 'local')]).then(() => { writing = undefined; seen.add('written') })
    }
    await pull(b, a, kind)
    b.memory.revive()
    await writing
    assert.ok(seen.size > 0)
    await checkInvariants(b.engine, { vector: b.store.vector as never })
    await pull(a, b)
    await checkEqual([a.engine, b.engine])
    assert.is(await a.get('zzz'), 'local')
  })

  test(`an apply phase of a ${kind} that dies at any batch goes on after reopen, with writes meanwhile, and ends equal`, async () => {
    for (let after = 0; ; after += after < 4 ? 1 : 5) {
      const [a, b] = await apart()
      const source = await sourceOf(a, b.store.vector.clone(), kind)
      const delivery = b.store.intake.begin(source.kind, [...source.vector], [], source.entries)
      let entries = 0
      for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
        entries += chunk.entries
        await delivery.add(chunk.bytes)
      }
      const vector = source.vector.clone()
      await source.close()
      b.memory.dieAfter(after)
      const died = await delivery.end(entries).then(() => false, () => true)
      const dead = b.memory.asked
      b.memory.revive()
      if (!died) {
        assert.ok(after > 3, `only ${after} batches`)
        return
      }
      await checkInvariants(b.engine, { alsoCovered: vector })
      const again = await b.reopened()
      assert.ok(dead > 0)
      if (after > 0) assert.ok(again.store.applying || again.store.vector.dominates(vector), 'applying at once after open')
      await Promise.all([again.put('big00', 'local'), again.put('zzz', 'local')])
      await eventually(() => !again.store.applying)
      // Before the apply phase began the stage was not complete, and waits.
      if (after > 0) assert.ok(again.store.vector.dominates(vector))
      await exchange(again, a)
      assert.is(await stagedKeys(again), 0)
      await checkEqual([a.engine, again.engine])
    }
  })
}

test('what was written in an apply phase that died supersedes what it had brought', async () => {
  const [a, b] = await apart()
  let writing: Promise<void> | undefined
  b.memory.beforeBatch = async () => {
    if (!b.store.applying || await b.get('big00') === undefined) return
    if (writing === undefined) writing = b.put('big00', 'local')
    else if (await b.get('big00') === 'local') throw new Error('dead')
  }
  await pull(b, a).then(() => { assert.unreachable() }, () => {})
  await writing
  b.memory.revive()
  const again = await b.reopened()
  await eventually(() => !again.store.applying)
  assert.equal(await again.values('big00'), ['local'])
  await exchange(again, a)
  await checkEqual([a.engine, again.engine])
})

test('a close does not wait for the end of an apply phase, which goes on at the next open', async () => {
  const [a, b] = await apart()
  let steps = 0
  let closed: Promise<void> | undefined
  b.memory.beforeBatch = () => { if (b.store.applying && ++steps === 2) closed = b.store.close() }
  assert.is((await rejection(pull(b, a, 'transfer'))).code, 'REPLICATION_DISCONNECTED')
  await closed
  const left = await stagedKeys(b)
  assert.ok(left > 0)
  b.memory.revive()
  const again = await b.reopened()
  await eventually(() => !again.store.applying)
  await pull(a, again)
  await checkEqual([a.engine, again.engine])
})

test('timestamps of writes during a resumed apply phase are above what it brings', async () => {
  const [a, b] = await apart()
  a.system.jumpWallClock(1e9)
  await a.put('big00', 'from the future')
  const source = await sourceOf(a, b.store.vector.clone(), 'catch-up')
  const delivery = b.store.intake.begin('catch-up', [...source.vector], [], source.entries)
  let entries = 0
  for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
    entries += chunk.entries
    await delivery.add(chunk.bytes)
  }
  await source.close()
  b.memory.dieAfter(2)
  await rejection(delivery.end(entries))
  b.memory.revive()
  const again = await b.reopened()
  await again.put('local', '1')
  const [version] = await again.versions('local')
  assert.ok(version!.timestamp >= a.system.nowMs())
})

test('timestamps of writes during an apply phase are above what it brings, from its beginning', async () => {
  const [a, b] = await apart()
  a.system.jumpWallClock(1e9)
  await a.put('zz', 'from the future')
  const source = await sourceOf(a, b.store.vector.clone(), 'catch-up')
  const delivery = b.store.intake.begin('catch-up', [...source.vector], [], source.entries)
  let entries = 0
  for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
    entries += chunk.entries
    await delivery.add(chunk.bytes)
  }
  await source.close()
  const ending = delivery.end(entries)
  while (!b.store.applying) await new Promise((resolve) => { setImmediate(resolve) })
  await b.put('local', '1')
  assert.ok(b.store.applying, 'written in the apply phase')
  const [version] = await b.versions('local')
  assert.ok(version!.timestamp >= a.system.nowMs())
  await ending
})

test('a stage that is being swept does not take the next one with it', async () => {
  const memory = newMemory()
  const b = await openReplica({ engine: memory as unknown as Engine, seed: 2 })
  // As a crash leaves it between the end of an apply phase and of its sweep: so much that it takes several batches.
  await memory.batch(Array.from({ length: 3000 }, (_, index) => ({ type: 'put', key: Buffer.from(`\x30\x00big${String(index).padStart(4, '0')}`), value: Buffer.from('old') })), buffers)
  const second = memory.asked + 2
  let sweep = (): void => {}
  memory.beforeBatch = async (number) => {
    if (number === second) await new Promise<void>((resolve) => { sweep = resolve })
  }
  const again = await b.reopened()
  const [a] = await apart()
  const pulling = pull(again, a, 'catch-up')
  const waits = await Promise.race([pulling.then(() => 'done'), new Promise((resolve) => { setTimeout(resolve, 100, 'waits') })])
  sweep()
  await pulling
  assert.is(waits, 'waits')
  await pull(a, again)
  await checkEqual([a.engine, again.engine])
})

test('a transfer deletes what both knew and the source has no more, and nothing else', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  for (const key of ['a', 'b', 'c']) await a.put(key, '1')
  await exchange(a, b)
  await b.put('own', 'b')
  // As when tombstones are collected: the key leaves no trace at the source.
  await a.del('b')
  const batch = [{ type: 'del', key: Buffer.from('\x40b') }] as const
  await a.engine.batch([...batch], buffers)
  await pull(b, a, 'transfer')
  assert.equal(await b.data(), { a: '1', c: '1', own: 'b' })
  await checkInvariants(b.engine)
})

for (const kind of ['transfer', 'scan'] as const) {
  test(`what is held is gone through in parts where its values are long (${kind})`, async () => {
    const [a, b] = [await openReplica(), await openReplica()]
    const keys = Array.from({ length: 20 }, (_, index) => `k${String(index).padStart(2, '0')}`)
    for (const key of keys) await a.put(key, 'x'.repeat(heldBytesMax / 16))
    await exchange(a, b)
    await b.put('own', 'b')
    const left = keys.filter((_, index) => index % 7 === 0)
    const gone = keys.filter((key) => !left.includes(key))
    for (const key of gone) await a.del(key)
    for (const key of left) await a.put(key, 'new')
    if (kind === 'transfer') await a.engine.batch(gone.map((key) => ({ type: 'del' as const, key: Buffer.from(`\x40${key}`) })), buffers)
    await pull(b, a, kind)
    assert.equal(await b.data(), { ...Object.fromEntries(left.map((key) => [key, 'new'])), own: 'b' })
    await checkInvariants(b.engine)
  })
}

test('a count that does not fit is refused, and nothing has changed', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await a.put('k', '1')
  const source = await sourceOf(a, new VersionVector(), 'catch-up')
  const delivery = b.store.intake.begin('catch-up', [...source.vector], [], 1)
  await delivery.add((await source.next())!.bytes)
  assert.equal(delivery.progress, { received: 1, total: 1 })
  assert.is((await rejection(delivery.end(2))).code, 'REPLICATION_PROTOCOL')
  await delivery.abandon()
  await source.close()
  assert.equal(await b.data(), {})
  await pull(b, a)
  await checkEqual([a.engine, b.engine])
})

test('a delivery without a value that is lacking is refused as it comes, before it could be staged', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await a.put('k', '1')
  // A source that believes the receiver to have everything sends no values.
  const source = await sourceOf(a, a.store.vector.clone(), 'transfer')
  const delivery = b.store.intake.begin('transfer', [...source.vector], [], 1)
  const chunk = await source.next()
  assert.is((await rejection(delivery.add(chunk!.bytes))).code, 'REPLICATION_PROTOCOL')
  await delivery.abandon()
  await source.close()
  assert.equal(await b.data(), {})
  assert.is(b.store.vector.size, 0)
  await pull(b, a)
  await checkEqual([a.engine, b.engine])
})

test('a delivery of a write that its own vector does not cover is refused as it comes', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await a.put('k', '1')
  const tooOld = [...a.store.vector]
  await a.put('k', '2')
  const source = await sourceOf(a, new VersionVector(), 'transfer')
  const delivery = b.store.intake.begin('transfer', tooOld, [], 1)
  const chunk = await source.next()
  assert.is((await rejection(delivery.add(chunk!.bytes))).code, 'REPLICATION_PROTOCOL')
  await source.close()
  assert.equal(await b.data(), {})
})

test('all of it on classic-level too: staged, closed abruptly in the apply phase, opened again', async () => {
  const location = newDirectory()
  const open = (): Engine => new ClassicLevel<Buffer, Buffer>(location, buffers) as unknown as Engine
  for (const kind of kinds) {
    const [a, b] = await apart(open)
    const source = await sourceOf(a, b.store.vector.clone(), kind)
    const delivery = b.store.intake.begin(source.kind, [...source.vector], [], source.entries)
    let entries = 0
    for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) {
      entries += chunk.entries
      await delivery.add(chunk.bytes)
    }
    await source.close()
    const ending = delivery.end(entries).catch(() => {})
    await eventually(async () => (await b.engine.get(meta.stage, buffers) as Buffer | undefined)?.[0] === 1)
    await b.engine.close()
    await ending
    const again = await b.reopened({ engine: open() })
    await eventually(() => !again.store.applying)
    await exchange(a, again)
    await checkEqual([a.engine, again.engine])
    await again.store.close()
    await again.engine.close()
    await ClassicLevel.destroy(location)
  }
})

test.run()
