/**
 * What abstract-level's own suite does not catch in a database that wraps another (see the head of each test).
 */
import { readdirSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { ReplicatedLevel } from '../../lib/index.ts'
import { buffers } from '../../lib/storage/engine.ts'
import { meta } from '../../lib/storage/keyspaces.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { rejection } from '../support/rejection.ts'

const onLinux = process.platform === 'linux' ? test : test.skip

type Options = ConstructorParameters<typeof ReplicatedLevel<string, string>>[1]

function create<K = string, V = string> (location = newDirectory(), options: object = {}): ReplicatedLevel<K, V> {
  return new ReplicatedLevel<K, V>(location, { port: false, ...options } as Options as never)
}

/** What a database that is opened anew holds. */
async function reopened (location: string): Promise<Array<[string, string]>> {
  const db = create(location)
  const entries = await db.iterator().all()
  await db.close()
  return entries
}

async function assertUnlocked (location: string): Promise<void> {
  const inner = new ClassicLevel(location)
  await inner.open()
  await inner.close()
}

onLinux('an open that fails late holds no file, nor a lock', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.put('a', '1')
  await db.close()
  const inner = new ClassicLevel<Buffer, Buffer>(location, buffers)
  await inner.put(meta.stage, Buffer.of(0))
  await inner.close()
  const open = (): number => readdirSync('/proc/self/fd').length
  await rejection(db.open())
  const before = open()
  for (let round = 0; round < 3; round++) await rejection(db.open())
  assert.is(open(), before)
  await assertUnlocked(location)
})

test('a database that is closed at once holds no lock', async () => {
  const location = newDirectory()
  await mkdir(location)
  for (let round = 0; round < 20; round++) {
    await create(location).close()
    await assertUnlocked(location).catch((error) => assert.unreachable(`round ${round}: ${String((error as Error).cause)}`))
    await ReplicatedLevel.destroy(location)
  }
})

test('a database that is never opened or fails to open holds no lock', async () => {
  const location = newDirectory()
  const first = create(location)
  await first.open()
  await first.close()
  await rejection(create(location, { errorIfExists: true }).open())
  await assertUnlocked(location)
})

test('writes that nobody waits for are all there after close()', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.open()
  const pending: Array<Promise<void>> = []
  for (let index = 0; index < 1000; index++) pending.push(db.put(`put-${String(index).padStart(4, '0')}`, String(index)))
  pending.push(db.batch([{ type: 'put', key: 'batch', value: '1' }, { type: 'del', key: 'put-0000' }]))
  pending.push(db.batch().put('chained', '1').write())
  await db.close()
  await Promise.all(pending)
  const entries = await reopened(location)
  assert.is(entries.length, 1001)
  assert.equal(entries.slice(0, 2), [['batch', '1'], ['chained', '1']])
  assert.equal(entries[2], ['put-0001', '1'])
})

test('a clear() of many keys that nobody waits for is whole after close()', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.batch(Array.from({ length: 3500 }, (_, index) => ({ type: 'put', key: String(index), value: '' })))
  const clearing = db.clear()
  const closing = db.close()
  await Promise.all([clearing, closing])
  assert.equal(await reopened(location), [])
})

for (const state of ['idle', 'busy'] as const) {
  for (const encoding of ['buffer', 'view'] as const) {
    test(`a ${encoding} that changes right after it was given does not reach the disk (writer ${state})`, async () => {
      const db = create<Uint8Array, Uint8Array>(newDirectory(), { keyEncoding: encoding, valueEncoding: encoding })
      await db.open()
      const bytes = (text: string): Uint8Array => encoding === 'buffer' ? Buffer.from(text) : Uint8Array.from(Buffer.from(text))
      await db.put(bytes('to-delete'), bytes('x'))
      const writes: Array<Promise<void>> = []
      if (state === 'busy') writes.push(db.put(bytes('first'), bytes('0')))
      const given: Uint8Array[] = []
      const give = (text: string): Uint8Array => {
        const given1 = bytes(text)
        given.push(given1)
        return given1
      }
      const writeAll: Array<() => Promise<void>> = [
        () => db.put(give('put'), give('1')),
        () => db.batch([{ type: 'put', key: give('batch'), value: give('2') }, { type: 'put', key: give('both'), value: give('3') }]),
        () => db.batch().put(give('chained'), give('4')).write(),
        () => db.del(give('to-delete'))
      ]
      for (const write of writeAll) {
        writes.push(write())
        for (const each of given) each.fill(0x5a)
        if (state === 'idle') await writes.at(-1)
      }
      await Promise.all(writes)
      const entries = (await db.iterator().all()).map(([key, value]) => [Buffer.from(key).toString(), Buffer.from(value).toString()])
      const expected = [['batch', '2'], ['both', '3'], ['chained', '4'], ['put', '1']]
      assert.equal(entries, state === 'idle' ? expected : [...expected.slice(0, 3), ['first', '0'], ...expected.slice(3)])
      assert.equal((await db.getMany([bytes('put'), bytes('chained')])).map((value) => Buffer.from(value!).toString()), ['1', '4'])
      await db.close()
    })
  }
}

test('an operation in a chained batch keeps what it was given', async () => {
  const db = create<Buffer, Buffer>(newDirectory(), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await db.open()
  const [key, value] = [Buffer.from('key'), Buffer.from('value')]
  const writing = db.batch().put(key, value).write()
  key.fill(0)
  value.fill(0)
  await writing
  assert.equal((await db.iterator().all()).map(([key, value]) => `${key}=${value}`), ['key=value'])
  await db.close()
})

test('a chained batch takes one buffer again and again, and is what was added since it was cleared', async () => {
  const db = create<Buffer, Buffer>(newDirectory(), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await db.open()
  await db.batch([{ type: 'put', key: Buffer.of(7), value: Buffer.of(7) }, { type: 'put', key: Buffer.of(8), value: Buffer.of(8) }])
  const [key, value] = [Buffer.of(9), Buffer.of(9)]
  const batch = db.batch().put(key, value).clear()
  for (const each of [1, 2, 3]) {
    key[0] = each
    value[0] = 10 * each
    batch.put(key, value)
  }
  key[0] = 7
  batch.del(key)
  key[0] = 8
  await batch.write()
  assert.equal((await db.iterator().all()).map(([key, value]) => [key[0], value[0]]), [[1, 10], [2, 20], [3, 30], [8, 8]])
  await db.close()
})

test('a clear() that waits for its turn keeps the bounds that it was given', async () => {
  const db = create<Buffer, Buffer>(newDirectory(), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await db.open()
  await db.batch([1, 2, 3, 4].map((each) => ({ type: 'put', key: Buffer.of(each), value: Buffer.of(each) })))
  const bounds = { gte: Buffer.of(2), lt: Buffer.of(3) }
  const writing = [db.put(Buffer.of(0), Buffer.of(0)), db.clear(bounds)]
  bounds.gte[0] = 0
  bounds.lt[0] = 9
  await Promise.all(writing)
  assert.equal((await db.keys().all()).map((key) => key[0]), [0, 1, 3, 4])
  await db.close()
})

test('a view of any kind counts for its bytes, as a key, a bound and a value', async () => {
  const db = create<any, any>(newDirectory(), { keyEncoding: 'view', valueEncoding: 'view' })
  await db.open()
  const numbers = (number: number): Uint16Array => Uint16Array.of(1, number, 2)
  const part = (number: number): DataView => new DataView(numbers(number).buffer, 2, 3)
  const text = (view: ArrayBufferView | undefined): string => view === undefined ? 'nothing' : Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString('hex')
  await Promise.all([db.put(numbers(300), numbers(301)), db.put(part(300), part(301)), db.put(numbers(302), part(300)), db.put(part(302), numbers(300))])
  await db.batch([{ type: 'put', key: numbers(304), value: numbers(305) }, { type: 'del', key: part(302) }])
  await db.batch().put(part(304), part(305)).del(numbers(302)).write()
  const expected: ArrayBufferView[][] = [[numbers(300), numbers(301)], [numbers(304), numbers(305)], [part(300), part(301)], [part(304), part(305)]]
  const entries = async (options: object = {}): Promise<unknown> => (await db.iterator(options).all()).map((entry) => entry.map(text))
  assert.equal(await entries(), expected.map((entry) => entry.map(text)))
  assert.equal(await entries({ gt: numbers(300), lte: part(300) }), expected.slice(1, 3).map((entry) => entry.map(text)))
  const keys = expected.map(([key]) => key)
  const values = expected.map(([, value]) => text(value))
  assert.equal((await db.getMany(keys)).map(text), values)
  assert.equal((await Promise.all(keys.map((key) => db.get(key)))).map(text), values)
  assert.equal(keys.map((key) => text(db.getSync(key))), values)
  assert.equal(await db.hasMany([...keys, numbers(302)]), [true, true, true, true, false])
  assert.is(await db.has(part(300)), true)
  const iterator = db.iterator()
  iterator.seek(part(300))
  assert.equal((await iterator.next())!.map(text), expected[2]!.map(text))
  await iterator.close()
  assert.equal((await db.replication.versions(numbers(300))).map(({ valueBytes }) => text(valueBytes)), [text(numbers(301))])
  await db.clear({ gte: numbers(304) as ArrayBufferView, lt: part(304) as ArrayBufferView })
  assert.equal(await entries(), [expected[0]!, expected[3]!].map((entry) => entry.map(text)))
  await db.close()
})

test('what an encoding has no text for counts as empty, and a seek to it does not undo an open', async () => {
  const db = create<unknown, any>(newDirectory(), { keyEncoding: 'json', valueEncoding: 'json' })
  const iterator = db.iterator()
  iterator.seek(undefined)
  const read = db.get('a')
  await db.open()
  assert.is(await read, undefined)
  const none = (): void => {}
  await Promise.all([db.put('a', none), db.put('b', 2), db.batch().put(none, 3).put('c', none).write()])
  const entries = async (): Promise<unknown> => await db.iterator({ keyEncoding: 'utf8', valueEncoding: 'utf8' }).all()
  assert.equal(await entries(), [['', '3'], ['"a"', ''], ['"b"', '2'], ['"c"', '']])
  assert.equal(await db.getMany([none, 'b']), [3, 2])
  await iterator.close()
  await db.batch([{ type: 'del', key: none }, { type: 'del', key: 'a' }, { type: 'del', key: 'c' }])
  assert.equal(await entries(), [['"b"', '2']])
  await db.close()
})

test('a bound that an encoding has no text for is empty, as in classic-level: nothing is below it', async () => {
  const [db, plain] = [create<any, string>(newDirectory(), { keyEncoding: 'json' }), new ClassicLevel<any, string>(newDirectory(), { keyEncoding: 'json' })]
  const bounds = [{ lt: undefined }, { lte: undefined }, { gt: undefined }, { gte: undefined, gt: 2 }, { gt: 1, lt: undefined }, { lte: undefined, lt: 3 }]
  const entries = async (level: typeof plain, range: object): Promise<unknown> => await level.iterator(range).all()
  for (const range of bounds) {
    for (const level of [db, plain]) await level.batch([1, 2, 3].map((key) => ({ type: 'put', key, value: 'here' })))
    for (const reverse of [false, true]) assert.equal(await entries(db as never, { ...range, reverse }), await entries(plain, { ...range, reverse }), JSON.stringify(Object.entries(range)))
    for (const level of [db, plain]) await level.clear(range)
    assert.equal(await entries(db as never, {}), await entries(plain, {}), JSON.stringify(Object.entries(range)))
  }
  await Promise.all([db.close(), plain.close()])
})

test('an iterator at a snapshot that is closed says so, also after a seek, and when it waited for the open', async () => {
  const db = create()
  await db.batch(['a', 'b'].map((key) => ({ type: 'put', key, value: '1' })))
  const snapshot = db.snapshot()
  await db.close()
  const opening = db.open()
  await eventually(() => db.status === 'opening')
  const waited = db.iterator({ snapshot })
  waited.seek('b')
  const read = rejection(waited.next())
  await opening
  assert.is((await read).code, 'LEVEL_SNAPSHOT_NOT_OPEN')
  const other = db.snapshot()
  await other.close()
  const inner = ClassicLevel.prototype as unknown as { _iterator: (options: object) => unknown }
  const { _iterator } = inner
  inner._iterator = () => assert.unreachable('LevelDB reads memory that it has given back, and may end the process')
  try {
    const iterator = db.iterator({ snapshot: other })
    iterator.seek('b')
    assert.is((await rejection(iterator.next())).code, 'LEVEL_SNAPSHOT_NOT_OPEN')
    await iterator.close()
  } finally {
    inner._iterator = _iterator
  }
  await db.close()
})

test('writes to one key keep their order though nobody waits for them', async () => {
  const db = create()
  await db.open()
  for (let round = 0; round < 200; round++) {
    const writes: Array<Promise<void>> = []
    for (let index = 0; index < 10; index++) {
      if (index % 3 === 0) writes.push(db.batch([{ type: 'put', key: 'key', value: `${round}-${index}` }]))
      else writes.push(db.put('key', `${round}-${index}`))
    }
    await Promise.all(writes)
    assert.is(await db.get('key'), `${round}-9`)
  }
  await db.close()
})

test('put, clear and put of one key keep their order though nobody waits for them', async () => {
  const db = create()
  await db.open()
  for (let round = 0; round < 100; round++) {
    await Promise.all([db.put('a', '1'), db.put('b', '1'), db.clear(), db.put('a', '2'), db.del('c'), db.put('c', '3')])
    assert.equal(await db.iterator().all(), [['a', '2'], ['c', '3']])
  }
  await db.close()
})

test('open iterators and snapshots are closed with the database', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.batch(Array.from({ length: 100 }, (_, index) => ({ type: 'put', key: String(index), value: 'x' })))
  const iterators = [db.iterator(), db.keys(), db.values(), db.iterator({ reverse: true, highWaterMarkBytes: 1 } as object)]
  for (const iterator of iterators) await iterator.next()
  const snapshot = db.snapshot()
  const reading = iterators.map(async (iterator) => await iterator.nextv(10).catch((error) => (error as { code?: string }).code))
  await db.close()
  await Promise.all(reading)
  await rejection(iterators[0]!.next())
  await snapshot.close()
  await assertUnlocked(location)
})

test('closing an iterator closes the one beneath, so that LevelDB lets its files go', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.put('a', '1')
  for (let round = 0; round < 2000; round++) {
    const iterator = db.iterator()
    if (round % 2 === 0) await iterator.next()
    await iterator.close()
  }
  // The batch that the writer uses again and again; and, until it is through, what an open looks for in the background.
  await eventually(() => innerResources(db) === 1, { message: 'iterators that were closed are let go' })
  await db.close()
})

test('a chained batch that is never written holds nothing back', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.open()
  for (let round = 0; round < 100; round++) db.batch().put('never', 'written')
  const batch = db.batch().put('never', 'written')
  await batch.close()
  for (let round = 0; round < 100; round++) await db.batch().put('a', String(round)).write()
  for (let round = 0; round < 100; round++) await db.del('absent')
  // Batches that the writer uses again and again.
  await eventually(() => innerResources(db) <= 2, { message: 'what was never written is let go' })
  await db.close()
  assert.equal(await reopened(location), [['a', '99']])
})

/** How many iterators, batches and snapshots are open on the database beneath. */
function innerResources (db: ReplicatedLevel): number {
  return openedLevels.findLast(({ location }) => location === db.location)!.resources.size
}

/** Every classic-level that was opened, and what is attached to it. */
const openedLevels: Array<{ location: string, resources: Set<unknown> }> = []
for (const [attach, change] of [['attachResource', 'add'], ['detachResource', 'delete']] as const) {
  const prototype = Object.getPrototypeOf(ClassicLevel.prototype) as Record<string, (resource: unknown) => void>
  const original = prototype[attach]!
  prototype[attach] = function (this: ClassicLevel, resource: unknown) {
    if (this instanceof ClassicLevel) {
      let level = openedLevels.find(({ location }) => location === this.location)
      if (level === undefined) openedLevels.push(level = { location: this.location, resources: new Set() })
      level.resources[change](resource)
    }
    original.call(this, resource)
  }
}

test('options may be null, as those of every Level', async () => {
  const db = new ReplicatedLevel(newDirectory(), null)
  await db.close()
})

test('multithreading is refused, since a replica has one writer', async () => {
  assert.throws(() => create(newDirectory(), { multithreading: true }), (error: { code?: string }) => error.code === 'LEVEL_NOT_SUPPORTED')
  const db = create()
  const error = await rejection(db.open({ multithreading: true } as object))
  assert.is((error.cause as { code?: string } | undefined)?.code ?? error.code, 'LEVEL_NOT_SUPPORTED')
  assert.is.not(db.status, 'open')
  await db.close()
})

test('seeking in an empty database does not end the process', async () => {
  const db = create<Buffer, Buffer>(newDirectory(), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await db.open()
  for (const range of [{}, { reverse: true }, { gt: Buffer.of(5) }, { lt: Buffer.of(5), reverse: true }]) {
    for (const target of [Buffer.alloc(0), Buffer.of(0), Buffer.of(0x60), Buffer.of(0xff, 0xff)]) {
      const iterator = db.iterator(range)
      iterator.seek(target)
      assert.is(await iterator.next(), undefined)
      await iterator.close()
    }
  }
  await db.close()
})

test('clear() whose only match is the empty key deletes it', async () => {
  for (const range of [{}, { gte: '', lte: '' }, { lte: '' }, { lt: 'a' }, { limit: 1 }]) {
    const db = create()
    await db.batch([{ type: 'put', key: '', value: 'empty' }, { type: 'put', key: 'a', value: '1' }])
    await db.clear(range)
    assert.equal(await db.keys().all(), Object.keys(range).length === 0 ? [] : ['a'], JSON.stringify(range))
    await db.clear()
    await db.put('', 'again')
    await db.clear()
    assert.equal(await db.keys().all(), [])
    await db.close()
  }
})

test('write events are those of abstract-level, one for each write, and only for local writes that were made', async () => {
  const db = create()
  await db.open()
  const events: unknown[] = []
  db.on('write', (operations) => { events.push(operations.map(({ type, key }: { type: string, key: unknown }) => `${type} ${String(key)}`)) })
  await db.put('a', '1')
  await db.batch([{ type: 'put', key: 'b', value: '2' }, { type: 'del', key: 'a' }])
  await db.batch().put('c', '3').write()
  await db.del('c')
  await db.clear()
  assert.equal(events, [['put a'], ['put b', 'del a'], ['put c'], ['del c']])
  await db.close()
})

test.run()
