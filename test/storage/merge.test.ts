import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Resolver } from '../../lib/types.ts'
import { logIdFrom } from '../../lib/core/ids.ts'
import { VersionVector } from '../../lib/core/version-vector.ts'
import { entriesAtOnce } from '../../lib/limits.ts'
import { meta } from '../../lib/storage/keyspaces.ts'
import { eventually } from '../support/eventually.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { exchange, LiveStream, openReplica, pull, put, type Kind, type TestReplica } from '../support/store.ts'

const kinds: Kind[] = ['catch-up', 'transfer']

async function open (count: number, resolver?: Resolver): Promise<TestReplica[]> {
  const replicas: TestReplica[] = []
  for (let index = 0; index < count; index++) replicas.push(await openReplica({ seed: index + 1, ...(resolver === undefined ? {} : { resolver }) }))
  return replicas
}

for (const kind of kinds) {
  test(`writes that follow each other are no conflict (${kind})`, async () => {
    const [a, b] = await open(2) as [TestReplica, TestReplica]
    await a.put('k', '1')
    await exchange(a, b, kind)
    // The later write has the earlier time, and wins all the same.
    b.system.jumpWallClock(-1e9)
    await b.put('k', '2')
    await exchange(a, b, kind)
    assert.equal(await a.values('k'), ['2'])
    assert.equal(await a.data(), { k: '2' })
    assert.is(a.reports.flatMap(({ conflicts }) => conflicts).length, 0)
    await checkEqual([a.engine, b.engine])
  })

  test(`concurrent writes are a conflict on both sides, and the later one is visible (${kind})`, async () => {
    const [a, b] = await open(2) as [TestReplica, TestReplica]
    b.system.jumpWallClock(1000)
    await a.put('k', 'earlier')
    await b.put('k', 'later')
    await exchange(a, b, kind)
    for (const replica of [a, b]) {
      assert.equal((await replica.versions('k')).map(({ value }) => value), ['later', 'earlier'])
      assert.equal(await replica.data(), { k: 'later' })
      assert.equal(replica.reports.flatMap(({ conflicts }) => conflicts).map(({ key }) => Buffer.from(key).toString()), ['k'])
    }
    await checkEqual([a.engine, b.engine])
  })

  test(`the next write settles a conflict everywhere, and its values go (${kind})`, async () => {
    const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
    await a.put('k', 'a')
    await b.put('k', 'b')
    await exchange(a, b, kind)
    await pull(c, a, kind)
    assert.is((await c.values('k')).length, 2)
    await b.put('k', 'settled')
    assert.equal(await b.values('k'), ['settled'])
    await exchange(a, b, kind)
    await pull(c, b, kind)
    await pull(a, c, kind)
    for (const replica of [a, b, c]) assert.equal(await replica.values('k'), ['settled'])
    await checkEqual([a.engine, b.engine, c.engine])
  })

  test(`a delete and a concurrent put are a conflict, and both are kept (${kind})`, async () => {
    const [a, b] = await open(2) as [TestReplica, TestReplica]
    await a.put('k', '1')
    await exchange(a, b, kind)
    await a.del('k')
    b.system.jumpWallClock(1)
    await b.put('k', '2')
    await exchange(a, b, kind)
    assert.equal(await a.values('k'), ['2', undefined])
    assert.equal(await a.data(), { k: '2' })
    await checkEqual([a.engine, b.engine])
  })

  test(`a delete that meets a losing put removes it (${kind})`, async () => {
    const [a, b] = await open(2) as [TestReplica, TestReplica]
    await a.put('k', '1')
    await exchange(a, b, kind)
    await a.put('k', 'loser')
    b.system.jumpWallClock(1000)
    await b.del('k')
    await exchange(a, b, kind)
    // Nothing is visible, and yet there is something to delete.
    assert.equal(await a.data(), {})
    assert.equal(await a.values('k'), ['loser', undefined])
    await a.del('k')
    assert.equal(await a.values('k'), [undefined])
    await exchange(a, b, kind)
    assert.equal(await b.values('k'), [undefined])
    await checkEqual([a.engine, b.engine])
  })

  test(`concurrent deletes are no conflict that anybody sees; a put that meets them is (${kind})`, async () => {
    const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
    await a.put('k', '1')
    await exchange(a, b, kind)
    await pull(c, a, kind)
    await a.del('k')
    await b.del('k')
    c.system.jumpWallClock(1000)
    await c.put('k', 'c')
    await exchange(a, b, kind)
    assert.equal(await a.values('k'), [undefined, undefined])
    assert.is(a.reports.flatMap(({ conflicts }) => conflicts).length, 0)
    const conflicts: string[] = []
    for await (const { key } of a.store.conflicts({})) conflicts.push(key.toString())
    assert.equal(conflicts, [])
    await exchange(a, c, kind)
    await pull(b, c, kind)
    assert.equal(await a.values('k'), ['c', undefined, undefined])
    assert.equal(await b.data(), { k: 'c' })
    await checkEqual([a.engine, b.engine, c.engine])
    await a.put('k', 'settled')
    await checkInvariants(a.engine)
  })
}

test('an unfair resolver, one that ties, one that merges and one that throws converge in every order of exchange', async () => {
  const resolvers: Resolver[] = [
    (a) => a.type === 'put' && String(a.value) > 'b',
    () => false,
    (a, b) => String(a.value).length < String(b.value).length,
    (a, b) => ({ value: `${String(a.value)}+${String(b.value)}` }),
    (_a, b) => b.type === 'del' ? { type: 'del' } : true,
    () => { throw new Error('planted') },
    () => 'nonsense' as never,
    (async () => true) as never
  ]
  for (const resolver of resolvers) {
    const outcomes = new Set<string>()
    for (const order of [[0, 1, 2], [2, 1, 0], [1, 2, 0]]) {
      const replicas = await open(3, resolver)
      for (const [index, replica] of replicas.entries()) {
        replica.system.jumpWallClock(index === 1 ? 1000 : 0)
        await replica.put('k', 'abc'[index]!)
        await replica.put('l', 'cab'[index]!)
      }
      await replicas[1]!.del('l')
      for (let round = 0; round < 2; round++) {
        await exchange(replicas[order[0]!]!, replicas[order[1]!]!)
        await exchange(replicas[order[1]!]!, replicas[order[2]!]!)
      }
      await checkEqual(replicas.map(({ engine }) => engine), { resolver })
      outcomes.add(JSON.stringify(await replicas[0]!.data()))
    }
    assert.is(outcomes.size, 1, [...outcomes].join())
  }
})

test('a resolver that throws is reported, and the later version is taken', async () => {
  const [a, b] = await open(2, () => { throw new Error('planted') }) as [TestReplica, TestReplica]
  await a.put('k', '1')
  b.system.jumpWallClock(1)
  await b.put('k', '2')
  await pull(a, b)
  assert.equal(await a.data(), { k: '2' })
  assert.is(a.errors[0]!.code, 'REPLICATION_RESOLVER')
  assert.is((a.errors[0]!.cause as Error).message, 'planted')
})

test('of siblings with equal times the log decides, the same everywhere', async () => {
  const replicas = await open(3)
  for (const [index, replica] of replicas.entries()) await replica.put('k', String(index))
  for (const from of replicas) for (const to of replicas) if (from !== to) await pull(to, from)
  await checkEqual(replicas.map(({ engine }) => engine))
  const winner = replicas.map(({ store }, index) => [store.ownLog, String(index)] as const).sort(([a], [b]) => a < b ? -1 : 1).at(-1)![1]
  assert.equal(await replicas[0]!.data(), { k: winner })
})

test('a write that has seen only some of the siblings leaves the others', async () => {
  const [a, b, c] = await open(3) as [TestReplica, TestReplica, TestReplica]
  for (const [index, replica] of [a, b, c].entries()) await replica.put('k', 'abc'[index]!)
  await exchange(a, b)
  await a.put('k', 'ab')
  await pull(c, a)
  assert.equal(await c.values('k'), ['ab', 'c'])
  await pull(a, c)
  await pull(b, a)
  await checkEqual([a.engine, b.engine, c.engine])
})

for (const reports of [true, false]) {
  test(`of many keys that both have written both have all versions, ${reports ? 'and say what they have taken in' : 'though nobody asks what they take in'}`, async () => {
    for (const kind of [...kinds, 'scan'] as const) {
      const [a, b] = [await openReplica({ reports: () => reports }), await openReplica({ reports: () => reports })]
      const keys = Array.from({ length: entriesAtOnce + 100 }, (_, index) => `k${index}`)
      for (const { store } of [a, b]) await store.commit(keys.map((key) => put(key, 'value')), false)
      await exchange(a, b, kind)
      for (const { engine } of [a, b]) {
        const { versions } = await checkInvariants(engine)
        assert.is([...versions.values()].filter((siblings) => siblings.length === 2).length, keys.length)
      }
      for (const key of ['new', 'newer']) await a.put(key, 'value')
      await pull(b, a, kind)
      await checkEqual([a.engine, b.engine])
      const changed = b.reports.flatMap(({ changed }) => changed).map(({ key }) => String(key))
      assert.equal(changed.sort(), reports ? [...keys, 'new', 'newer'].sort() : [])
    }
  })

  test(`what was deleted here and is forgotten does not come back with a state that knows it, ${reports ? 'if' : 'nor if not'} somebody asks what is taken in`, async () => {
    const [a, b] = [await openReplica(), await openReplica({ reports: () => reports })]
    for (const key of ['k', 'stays']) await a.put(key, 'value')
    await pull(b, a)
    await a.put('later', 'value')
    await b.del('k')
    await b.store.flush()
    await b.store.housekeeping.collect()
    assert.equal(await b.versions('k'), [])
    await pull(b, a, 'transfer')
    assert.equal(await b.data(), { stays: 'value', later: 'value' })
    await checkInvariants(b.engine, { collected: b.store.collected })
  })
}

test('what a relay takes in while somebody is linked with it is handed on, though nobody asks what it takes in', async () => {
  const [a, b, c] = [await openReplica(), await openReplica({ reports: () => false }), await openReplica()]
  const stream = await LiveStream.open(b, c)
  b.store.feed.open() // a link with a
  for (const key of ['k', 'l']) await a.put(key, 'value')
  await a.del('l')
  await pull(b, a, 'catch-up')
  assert.is.not(await stream.send(), 'lost')
  await checkEqual([a.engine, b.engine, c.engine])
})

test('conflicts() names the keys in a range, in either order, at most as many as asked for', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  for (const key of ['a', 'b', 'c', 'd', 'e']) {
    await a.put(key, '1')
    if (key !== 'b') await b.put(key, '2')
  }
  await pull(a, b)
  const found = async (range: object): Promise<string[]> => {
    const keys: string[] = []
    for await (const { key, versions } of a.store.conflicts(range)) {
      assert.is(versions.length, 2)
      keys.push(key.toString())
    }
    return keys
  }
  assert.equal(await found({}), ['a', 'c', 'd', 'e'])
  assert.equal(await found({ gt: 'a', lte: 'd' }), ['c', 'd'])
  assert.equal(await found({ gte: Buffer.from('d') }), ['d', 'e'])
  assert.equal(await found({ reverse: true }), ['e', 'd', 'c', 'a'])
  assert.equal(await found({ gt: 'a', limit: 1 }), ['c'])
  assert.equal(await found({ gte: 'b', limit: 2 }), ['c', 'd'])
  assert.equal(await found({ limit: 0 }), [])
})

test('versions() and conflicts() show one moment, while writes settle and remake what they look at', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  await a.put('k', 'a')
  await b.put('k', 'b')
  await exchange(a, b)
  const writing = new AbortController()
  const reading = (async () => {
    while (!writing.signal.aborted) {
      for (const { type, valueBytes } of await a.versions('k')) assert.ok(type === 'del' || valueBytes !== undefined)
      for await (const { versions } of a.store.conflicts({})) for (const { type, valueBytes } of versions) assert.ok(type === 'del' || valueBytes !== undefined)
    }
  })()
  try {
    for (let round = 0; round < 100; round++) {
      await Promise.all([a.put('k', `a${round}`), b.put('k', `b${round}`)])
      await exchange(a, b)
    }
  } finally {
    writing.abort()
  }
  await reading
})

test('another resolver, told by its version, has the conflicts folded again when the store is opened', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  b.system.jumpWallClock(1)
  await a.put('k', 'first')
  await b.put('k', 'second')
  await a.put('single', 'x')
  await exchange(a, b)
  assert.is(await a.get('k'), 'second')
  await a.store.close()
  const resolver = (): boolean => false
  const again = await a.reopened({ resolver, resolverVersion: '2' })
  await eventually(async () => await again.get('k') === 'first')
  assert.equal(await again.data(), { k: 'first', single: 'x' })
  await eventually(async () => (await a.engine.get(meta.resolverVersion, { keyEncoding: 'buffer', valueEncoding: 'buffer' }))?.toString() === '2')
  await again.store.close()
  await checkInvariants(a.engine, { resolver })
  let asked = 0
  const third = await a.reopened({ resolver: () => { asked++; return false }, resolverVersion: '2' })
  await third.store.close()
  assert.is(asked, 0)
})

test('a put to a key with siblings removes their values, also right after open and in a group', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  for (const key of ['x', 'y', 'z']) {
    await a.put(key, 'a')
    await b.put(key, 'b')
  }
  await exchange(a, b)
  const again = await a.reopened()
  const early = again.put('x', '1')
  await Promise.all([early, again.put('y', '1'), again.put('y', '2'), again.del('y'), again.store.commit([put('z', '1'), put('z', '2')], false)])
  await checkInvariants(again.engine)
  assert.equal(await again.data(), { x: '1', z: '2' })
  await exchange(again, b)
  await checkEqual([again.engine, b.engine])
})

test('a key with more siblings than any unit had is taken by others', async () => {
  const [a, b] = await open(2) as [TestReplica, TestReplica]
  for (const name of ['0000000000000011', '0000000000000022']) {
    const log = logIdFrom(Buffer.from(name, 'hex'))
    const siblings = Array.from({ length: 4096 }, (_, index) => ({ log, sequence: index + 1, hlc: index + 1, type: 'put' as const }))
    await a.store.intake.apply({ stream: new VersionVector(), before: [], changes: [{ log, sequence: 4096, hlc: 4096 }], collected: [], bytes: 1e5, entries: [{ key: Buffer.from('k'), siblings, values: siblings.map(() => Buffer.from('v')) }] })
  }
  await pull(b, a)
  assert.is((await b.versions('k')).length, 8192)
})

test.run()
