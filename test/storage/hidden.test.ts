/**
 * No key of ours is ever seen, and nothing that a user does to the data touches the records of replication.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { ReplicatedLevel } from '../../lib/index.ts'
import { keyspace } from '../../lib/storage/keyspaces.ts'
import { newDirectory } from '../support/directory.ts'

type Db = ReplicatedLevel<any, any>

function create (location = newDirectory(), options: object = {}): Db {
  return new ReplicatedLevel<any, any>(location, { port: false, ...options } as never)
}

/** Keys at every edge: beside the prefixes of our keyspaces, the empty one, the lowest and the highest. */
const edgeKeys = [
  Buffer.alloc(0),
  Buffer.of(0x00),
  Buffer.of(0x00, 0x00),
  ...Object.values(keyspace).flatMap((space) => [Buffer.of(space), Buffer.of(space + 1), Buffer.of(space, 0xff)]),
  Buffer.of(keyspace.meta, 'F'.charCodeAt(0)),
  Buffer.of(0xff),
  Buffer.of(0xff, 0xff, 0xff)
].filter((key, index, keys) => keys.findIndex((other) => other.equals(key)) === index).sort(Buffer.compare)

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

/** How many keys each keyspace has on disk, once a database is closed. */
async function keyspaceSizes (location: string): Promise<Record<string, number>> {
  const inner = new ClassicLevel<Buffer, Buffer>(location, buffers)
  const sizes: Record<string, number> = {}
  for await (const key of inner.keys()) {
    const name = Object.entries(keyspace).find(([, prefix]) => prefix === key[0])?.[0] ?? `unknown ${String(key[0])}`
    sizes[name] = (sizes[name] ?? 0) + 1
  }
  await inner.close()
  return sizes
}

const encodings: Array<{ encoding: 'buffer' | 'view' | 'utf8' | 'json', keys: unknown[] }> = [
  { encoding: 'buffer', keys: edgeKeys },
  { encoding: 'view', keys: edgeKeys.map((key) => new Uint8Array(key)) },
  { encoding: 'utf8', keys: ['', '\0', '\x10', ' ', '0', '@', 'P', '`', '`a', 'a', '~', '\x7f', 'é', '\u{10ffff}'] },
  { encoding: 'json', keys: ['', '\0', 0, 16, 'a', [1, 2], { a: 1 }, true, '\u{10ffff}'] }
]

for (const { encoding, keys } of encodings) {
  const options = { keyEncoding: encoding, valueEncoding: encoding }
  const plain = (value: unknown): unknown => value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value

  test(`with ${encoding} keys an empty database shows nothing, whatever the range`, async () => {
    const db = create(undefined, options)
    const [low, high] = [keys[0], keys.at(-1)]
    for (const range of [{}, { gte: low }, { gt: low }, { lte: high }, { lt: high }, { gte: low, lte: high }]) {
      for (const reverse of [false, true]) {
        assert.equal(await db.iterator({ ...range, reverse }).all(), [])
        assert.equal(await db.keys({ ...range, reverse }).all(), [])
        assert.equal(await db.values({ ...range, reverse }).all(), [])
      }
    }
    await db.close()
  })

  test(`with ${encoding} keys every read shows what was put and nothing else`, async () => {
    const db = create(undefined, options)
    const plainLevel = new ClassicLevel<any, any>(newDirectory(), options)
    const both = async (use: (level: Db) => Promise<unknown>): Promise<void> => {
      assert.equal(await use(db), await use(plainLevel as unknown as Db))
    }
    const operations = keys.map((key) => ({ type: 'put' as const, key, value: key }))
    await db.batch(operations)
    await plainLevel.batch(operations)
    for (const reverse of [false, true]) {
      await both(async (level) => (await level.iterator({ reverse }).all()).map((entry) => entry.map(plain)))
      await both(async (level) => (await level.keys({ reverse }).all()).map(plain))
      await both(async (level) => (await level.values({ reverse }).all()).map(plain))
      await both(async (level) => (await level.iterator({ reverse, values: false }).all()).map((entry) => entry.map(plain)))
      await both(async (level) => (await level.iterator({ reverse, keys: false }).all()).map((entry) => entry.map(plain)))
      for (const bound of keys) {
        for (const name of ['gt', 'gte', 'lt', 'lte'] as const) {
          await both(async (level) => (await level.keys({ reverse, [name]: bound }).all()).map(plain))
        }
        await both(async (level) => {
          const iterator = level.keys({ reverse })
          iterator.seek(bound)
          const rest = await iterator.all()
          return rest.map(plain)
        })
      }
    }
    await both(async (level) => (await level.getMany(keys)).map(plain))
    await both(async (level) => await level.hasMany(keys))
    for (const key of keys) {
      await both(async (level) => plain(await level.get(key)))
      await both(async (level) => plain(level.getSync(key)))
      await both(async (level) => await level.has(key))
    }
    await db.close()
    await plainLevel.close()
  })
}

test('seeking beyond either end stays inside the data', async () => {
  const db = create(undefined, buffers)
  await db.put(Buffer.from('a'), Buffer.from('1'))
  await db.put(Buffer.from('b'), Buffer.from('2'))
  const from = async (target: Buffer, reverse: boolean): Promise<string[]> => {
    const iterator = db.keys({ reverse })
    iterator.seek(target)
    return (await iterator.all()).map(String)
  }
  assert.equal(await from(Buffer.of(0), false), ['a', 'b'])
  assert.equal(await from(Buffer.of(0xff, 0xff), false), [])
  assert.equal(await from(Buffer.of(0), true), [])
  assert.equal(await from(Buffer.of(0xff, 0xff), true), ['b', 'a'])
  await db.close()
})

test('keys that were never put are not there, least of all ours', async () => {
  const db = create(undefined, buffers)
  await db.put(Buffer.from('some key'), Buffer.from('1'))
  for (const key of edgeKeys) {
    assert.is(await db.get(key), undefined)
    assert.is(db.getSync(key), undefined)
    assert.is(await db.has(key), false)
  }
  assert.equal(await db.getMany(edgeKeys), edgeKeys.map(() => undefined))
  assert.equal(await db.hasMany(edgeKeys), edgeKeys.map(() => false))
  await db.close()
})

test('text that is no text is the same key for every method', async () => {
  const db = create()
  const lone = 'a\ud800b'
  await db.put(lone, lone)
  const classic = new ClassicLevel(newDirectory())
  await classic.put(lone, lone)
  assert.is(await db.get(lone), await classic.get(lone))
  assert.equal(await db.iterator().all(), await classic.iterator().all())
  await db.del(lone)
  assert.equal(await db.keys().all(), [])
  await db.close()
  await classic.close()
})

test('an iterator that reads keys as text finds those that are none, or are behind such, as they were written last', async () => {
  const db = create()
  const bytes = { keyEncoding: 'buffer' }
  const put = async (key: Buffer, value: string): Promise<void> => { await db.put(key as never, value, bytes as never) }
  const [none, behind] = [Buffer.of(0x80), Buffer.from('é')]
  for (const key of [none, behind]) await put(key, 'before')
  await db.put('ascii', 'before')
  await db.compactRange('', '\uffff') // LevelDB has all
  await put(none, 'after')
  assert.equal(await db.iterator().all(), [['ascii', 'before'], ['\ufffd', 'after'], ['é', 'before']])
  await db.compactRange('', '\uffff')
  await put(behind, 'after')
  assert.equal(await db.iterator().all(), [['ascii', 'before'], ['\ufffd', 'after'], ['é', 'after']])
  await db.compactRange('', '\uffff')
  await db.put('ascii', 'after')
  assert.equal(await db.iterator({ reverse: true }).all(), [['é', 'after'], ['\ufffd', 'after'], ['ascii', 'after']])
  await db.del(none as never, bytes as never)
  assert.equal(await db.keys().all(), ['ascii', 'é'])
  await db.close()
})

test('keys and values far longer than any scratch memory are kept whole', async () => {
  const db = create()
  const long = 'é'.repeat(100_000)
  await db.batch([{ type: 'put', key: 'short', value: 'x' }, { type: 'put', key: long, value: long }, { type: 'put', key: 'z', value: '' }])
  assert.is(await db.get(long), long)
  assert.equal((await db.keys().all()).map((key: string) => key.length), [5, 1, 100_000])
  await db.del(long)
  assert.equal(await db.keys().all(), ['short', 'z'])
  await db.close()
})

test('sublevels see their own keys only, nested and in other encodings', async () => {
  const db = create()
  const outer = db.sublevel<string, string>('outer', {})
  const inner = outer.sublevel<string, object>('inner', { valueEncoding: 'json' })
  const binary = db.sublevel<Buffer, Buffer>('binary', { ...buffers })
  assert.equal(await outer.iterator().all(), [])
  await outer.put('a', '1')
  await inner.put('b', { c: 2 })
  for (const key of edgeKeys) await binary.put(key, key)
  await db.put('zzz', 'root')
  assert.equal(await inner.iterator().all(), [['b', { c: 2 }]])
  assert.equal((await outer.iterator().all()).length, 2)
  assert.equal((await binary.keys().all()).map((key) => key.toString('hex')), edgeKeys.map((key) => key.toString('hex')))
  assert.equal((await binary.keys({ reverse: true }).all()).map((key) => key.toString('hex')), edgeKeys.map((key) => key.toString('hex')).reverse())
  await binary.clear()
  assert.equal(await binary.keys().all(), [])
  await inner.clear()
  assert.equal(await outer.keys().all(), ['a'])
  assert.equal(await db.keys().all(), ['!outer!a', 'zzz'])
  await db.close()
})

const clears: Array<{ name: string, range: () => object, left: (keys: string[]) => string[] }> = [
  { name: 'everything', range: () => ({}), left: () => [] },
  { name: 'a range', range: () => ({ gte: 'b', lt: 'd' }), left: (keys) => keys.filter((key) => key < 'b' || key >= 'd') },
  { name: 'a range without a lower bound', range: () => ({ lte: 'b' }), left: (keys) => keys.filter((key) => key > 'b') },
  { name: 'a range without an upper bound', range: () => ({ gt: 'b' }), left: (keys) => keys.filter((key) => key <= 'b') },
  { name: 'the first two', range: () => ({ limit: 2 }), left: (keys) => keys.slice(2) },
  { name: 'the last two', range: () => ({ limit: 2, reverse: true }), left: (keys) => keys.slice(0, -2) },
  { name: 'none', range: () => ({ limit: 0 }), left: (keys) => keys },
  { name: 'a range that is empty', range: () => ({ gt: 'x' }), left: (keys) => keys }
]

for (const { name, range, left } of clears) {
  test(`clear() of ${name} leaves the records of replication`, async () => {
    const location = newDirectory()
    const keys = ['a', 'b', 'c', 'd', 'e']
    const db = create(location)
    await db.batch(keys.map((key) => ({ type: 'put', key, value: '1' })))
    await db.clear(range())
    assert.equal(await db.keys().all(), left(keys))
    await db.put('b', '2')
    await db.close()
    const sizes = await keyspaceSizes(location)
    assert.is(sizes.version ?? 0, 5 - new Set([...left(keys), 'b']).size, 'a version record for each delete')
    assert.is(sizes.data, new Set([...left(keys), 'b']).size)
    assert.is(Object.keys(sizes).filter((each) => each.startsWith('unknown')).length, 0)
    const again = create(location)
    assert.is(await again.get('b'), '2')
    assert.equal(await again.keys().all(), [...new Set([...left(keys), 'b'])].sort())
    await again.put('f', '3')
    assert.is(await again.get('f'), '3')
    await again.close()
  })
}

test('clear() at a snapshot deletes what the snapshot holds', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.batch(['a', 'b'].map((key) => ({ type: 'put', key, value: '1' })))
  const snapshot = db.snapshot()
  await db.batch(['b', 'c'].map((key) => ({ type: 'put', key, value: '2' })))
  await db.clear({ snapshot })
  await snapshot.close()
  assert.equal(await db.keys().all(), ['c'])
  await db.close()
  const { version, data } = await keyspaceSizes(location)
  assert.equal([version, data], [2, 1])
})

test('clear() of a database that is empty writes nothing', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.clear()
  await db.close()
  const sizes = await keyspaceSizes(location)
  assert.is(sizes.log, undefined)
  assert.is(sizes.version, undefined)
})

test('entries come once and in order, however next, nextv, all and seek are mixed', async () => {
  const db = new ReplicatedLevel(newDirectory(), { port: false })
  const keys = Array.from({ length: 3000 }, (_, index) => String(index).padStart(5, '0'))
  await db.batch(keys.map((key) => ({ type: 'put', key, value: key })))
  const iterator = db.keys()
  const read: Array<string | undefined> = [await iterator.next(), await iterator.next(), ...await iterator.nextv(5)]
  // A page may end before so many.
  while (read.length < 1500) read.push(...await iterator.nextv(700))
  read.push(await iterator.next())
  assert.equal(read, keys.slice(0, read.length))
  iterator.seek(keys[10]!)
  assert.equal([await iterator.next(), await iterator.next(), ...await iterator.nextv(2)], keys.slice(10, 14))
  iterator.seek(keys[2990]!)
  assert.is(await iterator.next(), keys[2990])
  assert.equal(await iterator.all(), keys.slice(2991))
  assert.is(await iterator.next().catch(({ code }) => code), 'LEVEL_ITERATOR_NOT_OPEN')

  const empty = db.keys({ gt: keys.at(-1)! })
  assert.is(await empty.next(), undefined)
  empty.seek(keys[0]!)
  assert.equal(await empty.nextv(10), [])
  await db.close()
})

test.run()
