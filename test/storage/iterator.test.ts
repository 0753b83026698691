import type { AbstractLevel } from 'abstract-level'
import { ClassicLevel } from 'classic-level'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel } from '../../lib/index.ts'
import { unstamped } from '../../lib/storage/data-record.ts'
import { DataIterator, type Reopenable } from '../../lib/storage/iterator.ts'
import type { Item } from '../../lib/storage/merged.ts'
import { newDirectory } from '../support/directory.ts'
import { rejection } from '../support/rejection.ts'
import { runs } from '../support/seed.ts'

/** An inner iterator whose reads end when they are told to, and that bears no other call meanwhile. */
class Inner {
  readonly sizes: number[] = []
  isReading = false
  isClosed = false
  #next = 0
  #settle: { resolve: (items: Item[]) => void, reject: (error: Error) => void } | undefined

  _iterator (): this {
    return this
  }

  async _nextv (size: number): Promise<Item[]> {
    this.#assertIdle()
    this.sizes.push(size)
    this.isReading = true
    return await new Promise((resolve, reject) => { this.#settle = { resolve, reject } })
  }

  _seek (target: string): void {
    this.#assertIdle()
    this.#next = Number(target.slice(1))
  }

  async close (): Promise<void> {
    this.#assertIdle()
    this.isClosed = true
  }

  #assertIdle (): void {
    assert.not.ok(this.isReading)
    assert.not.ok(this.isClosed)
  }

  give (): void {
    this.isReading = false
    const size = this.sizes.at(-1)!
    this.#settle!.resolve(Array.from({ length: size }, (_, index): Item => [`\`${this.#next + index}`, unstamped('value')]))
    this.#next += size
  }

  fail (error: Error): void {
    this.isReading = false
    this.#settle!.reject(error)
  }
}

interface Opened {
  readonly inner: Inner
  readonly iterator: DataIterator
  readonly reopenable: Reopenable & { generation: number }
  /** Reads so many entries, and has LevelDB give what that waits for. */
  readonly read: (size: number) => Promise<string[]>
}

async function open (limit = -1): Promise<Opened> {
  const inner = new Inner()
  const reopenable = { generation: 0, reads: new Set<Promise<unknown>>() }
  const db = new ClassicLevel(newDirectory()) as unknown as AbstractLevel<string | Uint8Array> & { _iterator: (options: object) => DataIterator }
  db._iterator = (options) => new DataIterator(db, () => inner, undefined, options, reopenable)
  await db.open()
  const iterator = db.iterator({ limit }) as unknown as DataIterator
  const read = async (size: number): Promise<string[]> => {
    const reading = Promise.resolve(iterator._nextv(size, {}))
    while (inner.isReading) {
      inner.give()
      if (await Promise.race([reading.then(() => true), new Promise((resolve) => setImmediate(resolve, false))]) === true) break
    }
    return (await reading).map(([key]) => key as string)
  }
  return { inner, iterator, reopenable, read }
}

test('from the second whole page on the next one is read meanwhile, and whatever comes of that is what would have been read', async () => {
  const { inner, read } = await open()
  assert.equal(await read(3), ['0', '1', '2'])
  assert.not.ok(inner.isReading)
  assert.equal(await read(3), ['3', '4', '5'])
  assert.ok(inner.isReading)
  assert.equal(await read(2), ['6', '7'])
  assert.equal(await read(2), ['8'])
  assert.equal(await read(5), ['9', '10'])
  assert.equal(inner.sizes, [3, 3, 3, 2, 5])
})

test('the first page of one entry is none', async () => {
  const { inner, iterator } = await open()
  for (const size of [1, 1000]) {
    const reading = iterator.next()
    assert.is(inner.sizes.at(-1), size)
    inner.give()
    await reading
  }
  assert.not.ok(inner.isReading)
})

test('a seek waits for what is being read ahead, and forgets it', async () => {
  const { inner, iterator, read } = await open()
  await read(2)
  await read(2)
  assert.ok(inner.isReading)
  iterator._seek('50', {})
  iterator._seek('70', {})
  assert.equal(await read(2), ['70', '71'])
  assert.not.ok(inner.isReading)
  assert.equal(await read(2), ['72', '73'])
})

test('it is closed when what is being read ahead has been read', async () => {
  const { inner, iterator, read } = await open()
  await read(2)
  await read(2)
  const closing = iterator._close()
  assert.not.ok(inner.isClosed)
  inner.give()
  await closing
  assert.ok(inner.isClosed)
})

test('that reading ahead has failed is said by the next read, once', async () => {
  const { inner, iterator, read } = await open()
  await read(2)
  await read(2)
  inner.fail(new Error('damaged'))
  await new Promise(setImmediate) // an unhandled rejection would end the process here
  assert.is((await rejection(Promise.resolve(iterator._nextv(2, {})))).message, 'damaged')
  assert.equal(await read(2), ['4', '5'])
})

test('nothing is read ahead of a database that is being closed under it', async () => {
  const { inner, iterator, reopenable, read } = await open()
  await read(2)
  const reading = Promise.resolve(iterator._nextv(2, {}))
  assert.is(reopenable.reads.size, 1)
  reopenable.generation++
  inner.give()
  assert.is((await reading).length, 2)
  assert.not.ok(inner.isReading)
  assert.is(reopenable.reads.size, 0)
  assert.is((await rejection(Promise.resolve(iterator._nextv(2, {})))).code, 'LEVEL_ITERATOR_NOT_OPEN')
})

test('no more is asked for than the limit leaves, nor read ahead', async () => {
  const { inner, iterator } = await open(4)
  for (const size of [1, 3]) {
    const reading = iterator.next()
    assert.is(inner.sizes.at(-1), size)
    inner.give()
    await reading
  }
  const other = await open(4)
  for (const _ of [1, 2]) {
    const reading = other.iterator.nextv(2)
    other.inner.give()
    await reading
  }
  assert.not.ok(other.inner.isReading)
})

test('what cannot be decoded counts towards the limit, as in classic-level', async () => {
  const given = async (db: ClassicLevel, limit: number, size: number): Promise<unknown[]> => {
    const iterator = db.iterator<string, unknown>({ limit, valueEncoding: 'json' })
    const found: unknown[] = []
    for (let read = 0; read < 6; read++) found.push(await (size === 0 ? iterator.next() : iterator.nextv(size)).catch(({ code }) => code))
    await iterator.close()
    return found
  }
  const databases = [new ClassicLevel(newDirectory()), new ReplicatedLevel(newDirectory(), { port: false }) as unknown as ClassicLevel]
  for (const isLanded of [false, true]) {
    const [expected, found] = await Promise.all(databases.map(async (db) => {
      await db.batch(['{', '1', '{', '2', '3'].map((value, index) => ({ type: 'put', key: `key-${index}`, value })))
      if (isLanded) await db.compactRange('key', 'l')
      return await Promise.all([1, 2, 3, 4].flatMap((limit) => [0, 1, 2, 9].map(async (size) => await given(db, limit, size))))
    }))
    assert.equal(found, expected)
  }
  for (const db of databases) await db.close()
})

test('reads and seeks of any sizes give the entries in order, and no more than the limit', async () => {
  const db = new ReplicatedLevel(newDirectory(), { port: false })
  const keys = Array.from({ length: 3000 }, (_, index) => String(index).padStart(4, '0'))
  await db.batch(keys.map((key, index) => ({ type: 'put', key, value: 'x'.repeat(index % 100) })))
  await db.compactRange('', '~') // what is pending comes from elsewhere
  const step = fc.oneof(fc.record({ next: fc.integer({ min: 1, max: 700 }) }), fc.record({ nextv: fc.integer({ min: 1, max: 700 }) }), fc.record({ seek: fc.integer({ min: 0, max: 2999 }) }))
  const options = fc.record({ reverse: fc.boolean(), limit: fc.constantFrom(-1, 700, 2000), highWaterMarkBytes: fc.constantFrom(100, 5000, 1e6) })
  await fc.assert(fc.asyncProperty(options, fc.array(step, { maxLength: 12 }), async (options, steps) => {
    const order = options.reverse ? [...keys].reverse() : keys
    const iterator = db.iterator(options)
    const read: string[] = []
    const expected: string[] = []
    let place = 0
    for (const step of steps) {
      if ('seek' in step) {
        iterator.seek(keys[step.seek]!)
        place = order.indexOf(keys[step.seek]!)
        continue
      }
      if ('next' in step) for (let left = step.next, entry; left > 0 && (entry = await iterator.next()) !== undefined; left--) read.push(entry[0])
      else for (let left = step.nextv, page; left > 0 && (page = await iterator.nextv(left)).length > 0; left -= page.length) read.push(...page.map(([key]) => key))
      const left = options.limit === -1 ? Infinity : options.limit - expected.length
      const entries = order.slice(place, place + Math.min(left, 'next' in step ? step.next : step.nextv))
      expected.push(...entries)
      place += entries.length
    }
    await iterator.close()
    assert.equal(read, expected)
  }), runs(60))
  await db.close()
})

test.run()
