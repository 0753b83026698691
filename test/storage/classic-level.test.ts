/**
 * What classic-level offers beyond abstract-level works unchanged on a replica.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { rejection } from '../support/rejection.ts'

type Options = ConstructorParameters<typeof ReplicatedLevel<string, string>>[1]

function create (location = newDirectory(), options: Options = {}): ReplicatedLevel {
  return new ReplicatedLevel(location, { port: false, ...options })
}

async function withOpen (use: (db: ReplicatedLevel) => unknown, options?: Options): Promise<void> {
  const db = create(undefined, options)
  await db.open()
  try {
    await use(db)
  } finally {
    await db.close()
  }
}

/** Incompressible text. */
function noise (length: number, seed: number): string {
  let state = seed
  let text = ''
  while (text.length < length) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    text += state.toString(36)
  }
  return text.slice(0, length)
}

async function fill (db: ReplicatedLevel, count = 10, length = 100_000): Promise<void> {
  for (let index = 0; index < count; index++) await db.put(`foo${index}`, noise(length, index + 1))
}

/** A key encoding that counts. */
function spyEncoding (): { encoding: object, calls: string[] } {
  const calls: string[] = []
  return { calls, encoding: { name: 'spy', format: 'utf8', encode: (key: string) => { calls.push(key); return key }, decode: (key: string) => key } }
}

test('location is what was given', () => {
  const location = newDirectory()
  assert.is(create(location).location, location)
})

test('a location that is no text is refused', () => {
  for (const location of [undefined, '', 1, {}]) assert.throws(() => create(location as string === undefined ? null as never : location as string))
})

test('an encoding that is falsy stands for text, as in abstract-level', async () => {
  for (const none of [false, '', 0, null]) {
    await withOpen(async (db) => {
      await db.put('key', 'value')
      assert.equal(await db.iterator().all(), [['key', 'value']])
      assert.is((await db.replication.versions('key'))[0]!.value, 'value')
    }, { keyEncoding: none as never, valueEncoding: none as never })
  }
})

test('missing directories are made on open, parents included', async () => {
  const location = join(newDirectory(), 'a', 'b')
  const db = create(location)
  await db.open()
  assert.ok(existsSync(join(location, 'CURRENT')))
  await db.close()
})

test('a database that is missing is not made if createIfMissing is false', async () => {
  const location = newDirectory()
  const error = await rejection(create(location, { createIfMissing: false }).open())
  assert.is(error.code, 'LEVEL_DATABASE_NOT_OPEN')
  assert.not.ok(existsSync(join(location, 'CURRENT')))
  assert.not.ok(existsSync(join(location, 'REPLICA')))
})

test('a database that is open is locked, and the one that is refused harms nothing', async () => {
  const location = newDirectory()
  const first = create(location)
  await first.put('a', '1')
  const error = await rejection(create(location).open())
  assert.is(error.code, 'LEVEL_DATABASE_NOT_OPEN')
  assert.is((error.cause as { code?: string }).code, 'LEVEL_LOCKED')
  await first.put('b', '2')
  await first.close()
  const again = create(location)
  assert.equal(await again.getMany(['a', 'b']), ['1', '2'])
  await again.close()
})

for (const method of ['approximateSize', 'compactRange'] as const) {
  test(`${method}() wants both bounds`, async () => {
    await withOpen(async (db) => {
      for (const bounds of [[], ['a'], [undefined, 'z'], ['a', undefined]]) {
        const error = await rejection((db[method] as (...bounds: unknown[]) => Promise<unknown>)(...bounds))
        assert.instance(error, TypeError)
        assert.is(error.message, "The arguments 'start' and 'end' are required")
      }
    })
  })

  test(`${method}() waits for open()`, async () => {
    const db = create()
    const events: string[] = []
    db.once('open', () => { events.push('open') })
    await db[method]('a', 'b').then(() => { events.push(method) })
    assert.equal(events, ['open', method])
    await db.close()
  })

  test(`${method}() is refused when the database is closed`, async () => {
    const db = create()
    await db.open()
    await db.close()
    assert.is((await rejection(db[method]('a', 'b'))).code, 'LEVEL_DATABASE_NOT_OPEN')
  })

  test(`${method}() encodes its bounds`, async () => {
    const spy = spyEncoding()
    await withOpen(async (db) => {
      await db[method]('a', 'b')
      assert.equal(spy.calls, ['a', 'b'])
      const own = spyEncoding()
      await db[method]('c', 'd', { keyEncoding: own.encoding as never })
      assert.equal(own.calls, ['c', 'd'])
      assert.is(spy.calls.length, 2)
    }, { keyEncoding: spy.encoding as never })
  })
}

test('approximateSize() tells how much a range takes', async () => {
  const location = newDirectory()
  const first = create(location)
  await fill(first)
  await first.close()
  const db = create(location)
  await db.open()
  await db.compactRange('foo', 'foo~')
  const size = await db.approximateSize('foo', 'foo~')
  assert.ok(size > 500_000, `${size} bytes`)
  assert.ok(await db.approximateSize('foo0', 'foo5') < size)
  assert.is(await db.approximateSize('x', 'y'), 0)
  await db.close()
})

test('compactRange() gives the space of deleted keys back', async () => {
  await withOpen(async (db) => {
    await fill(db)
    await db.compactRange('foo0', 'foo9')
    const before = await db.approximateSize('foo', 'foo~')
    await db.batch(Array.from({ length: 10 }, (_, index) => ({ type: 'del', key: `foo${index}` })))
    await db.compactRange('foo0', 'foo9')
    const after = await db.approximateSize('foo', 'foo~')
    assert.ok(before > 500_000 && after < before / 10, `${before} bytes before, ${after} after`)
  })
})

test('getProperty() answers as LevelDB does', async () => {
  await withOpen((db) => {
    for (let level = 0; level < 7; level++) assert.match(db.getProperty(`leveldb.num-files-at-level${level}`), /^\d+$/)
    assert.ok(db.getProperty('leveldb.stats').split('\n').length > 3)
    assert.type(db.getProperty('leveldb.sstables'), 'string')
    assert.is(db.getProperty('no.such.thing'), '')
    assert.throws(() => db.getProperty(undefined as never), (error: Error) => error instanceof TypeError)
    assert.throws(() => db.getProperty({} as never), (error: Error) => error instanceof TypeError)
  })
})

test('getProperty() is refused unless the database is open', async () => {
  const db = create()
  assert.throws(() => db.getProperty('leveldb.stats'), (error: { code?: string }) => error.code === 'LEVEL_DATABASE_NOT_OPEN')
  await db.open()
  await db.close()
  assert.throws(() => db.getProperty('leveldb.stats'), (error: { code?: string }) => error.code === 'LEVEL_DATABASE_NOT_OPEN')
})

test('destroy() leaves no directory behind', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.put('a', '1')
  await db.close()
  assert.ok(existsSync(join(location, 'REPLICA')))
  await writeFile(join(location, 'REPLICA.room'), 'of a process that was killed on a full disk')
  await ReplicatedLevel.destroy(location)
  assert.not.ok(existsSync(location))
  assert.ok(existsSync(dirname(location)))
})

test('after destroy() the same place takes a new, empty replica', async () => {
  const location = newDirectory()
  const first = create(location)
  await first.put('a', '1')
  await first.close()
  await ReplicatedLevel.destroy(location)
  const second = create(location)
  assert.is(await second.get('a'), undefined)
  await second.put('b', '2')
  await second.close()
})

test('destroy() of what is not there does nothing', async () => {
  const location = newDirectory()
  await ReplicatedLevel.destroy(location)
  assert.not.ok(existsSync(location))
  await ReplicatedLevel.destroy(join(location, 'beneath'))
  assert.not.ok(existsSync(location))
  assert.ok(existsSync(dirname(location)))
})

test('destroy() leaves what is not ours', async () => {
  const location = newDirectory()
  await mkdir(location, { recursive: true })
  await writeFile(join(location, 'foo'), 'FOO')
  await ReplicatedLevel.destroy(location)
  assert.equal(await readdir(location), ['foo'])
  assert.is(await readFile(join(location, 'foo'), 'utf8'), 'FOO')
})

test('where a file stands there is no database: destroy() does nothing, open() and adopt() say so', async () => {
  const location = newDirectory()
  await writeFile(location, 'mine')
  for (const place of [location, join(location, 'below')]) {
    await ReplicatedLevel.destroy(place)
    assert.is((await rejection(create(place).open())).code, 'LEVEL_DATABASE_NOT_OPEN')
    assert.is((await rejection(ReplicatedLevel.adopt(place))).code, 'LEVEL_DATABASE_NOT_OPEN')
  }
  assert.is(await readFile(location, 'utf8'), 'mine')
})

test('destroy() wants a location', async () => {
  for (const location of [undefined, '', {}]) assert.instance(await rejection(ReplicatedLevel.destroy(location as never)), TypeError)
})

test('destroy() of an open database is refused, and the database goes on and opens again', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.put('a', '1')
  await rejection(ReplicatedLevel.destroy(location))
  await db.put('b', '2')
  await db.close()
  const again = create(location)
  assert.equal(await again.getMany(['a', 'b']), ['1', '2'])
  await again.close()
})

test('repair() rebuilds tables from the log, and the replica is whole', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.put('a', '1')
  await db.batch([{ type: 'put', key: 'b', value: '2' }, { type: 'put', key: 'c', value: '3' }])
  await db.del('b')
  await db.close()
  await ReplicatedLevel.repair(location)
  assert.ok((await readdir(location)).some((name) => name.endsWith('.ldb')))
  const again = create(location)
  assert.equal(await again.iterator().all(), [['a', '1'], ['c', '3']])
  await again.put('d', '4')
  await again.close()
})

test('repair() of an open database is refused, and the database goes on and opens again', async () => {
  const location = newDirectory()
  const db = create(location)
  await db.put('a', '1')
  assert.is((await rejection(ReplicatedLevel.repair(location)) as { code?: string }).code, 'LEVEL_LOCKED')
  await db.put('b', '2')
  await db.close()
  const again = create(location)
  assert.equal(await again.getMany(['a', 'b']), ['1', '2'])
  await again.close()
})

test('repair() of what is not there is an error', async () => {
  const error = await rejection(ReplicatedLevel.repair(join(newDirectory(), 'beneath')))
  assert.match(error.message, /no such file or directory|IO error/i)
  for (const location of [undefined, '']) assert.instance(await rejection(ReplicatedLevel.repair(location as never)), TypeError)
})

test('highWaterMarkBytes limits what nextv() gives at once', async () => {
  await withOpen(async (db) => {
    for (const key of ['a', 'b', 'c', 'd']) await db.put(key, key.repeat(1000))
    const firstPage = async (highWaterMarkBytes: number): Promise<number> => {
      const iterator = db.iterator({ highWaterMarkBytes } as object)
      const page = await iterator.nextv(1000)
      await iterator.close()
      return page.length
    }
    assert.is(await firstPage(1), 1)
    assert.is(await firstPage(1500), 2)
    assert.is(await firstPage(1e6), 4)
    assert.is((await db.iterator({ highWaterMarkBytes: 1 } as object).all()).length, 4)
  })
})

test('many reads of an iterator in a row neither starve others nor overflow the stack', async () => {
  await withOpen(async (db) => {
    await db.batch(Array.from({ length: 5000 }, (_, index) => ({ type: 'put', key: String(index).padStart(5, '0'), value: '' })))
    let breaths = 0
    let reading = true
    const breathe = (): void => { if (reading) { breaths++; setImmediate(breathe) } }
    setImmediate(breathe)
    let seen = 0
    const iterator = db.iterator()
    while (await iterator.next() !== undefined) seen++
    await iterator.close()
    reading = false
    assert.is(seen, 5000)
    assert.ok(breaths > 0)
  })
})

test('without compression values read the same', async () => {
  await withOpen(async (db) => {
    await db.put('a', 'x'.repeat(10_000))
    assert.is(await db.get('a'), 'x'.repeat(10_000))
  }, { compression: false })
})

test('an iterator reads as much at once as it is told, and 32 KiB by default', async () => {
  await withOpen(async (db) => {
    await fill(db, 100, 1000)
    for (const [highWaterMarkBytes, least, most] of [[0, 1, 1], [5000, 5, 6], [undefined, 32, 34]] as const) {
      const iterator = db.iterator({ highWaterMarkBytes } as object)
      const { length } = await iterator.nextv(100)
      assert.ok(length >= least && length <= most, `${length} entries for ${highWaterMarkBytes} bytes`)
      await iterator.close()
    }
  })
})

test.run()
