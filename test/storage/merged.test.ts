import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { logIdFrom } from '../../lib/core/ids.ts'
import type { Bytes } from '../../lib/storage/engine.ts'
import { Merged, type Item, type MergedOptions } from '../../lib/storage/merged.ts'
import type { MemtableEntry } from '../../lib/storage/memtable.ts'
import { runs } from '../support/seed.ts'

/** What the engine would give: all that is in a range, in pages of any size, and after a seek from there on. */
class Engine {
  readonly #keys: Buffer[]
  readonly #reverse: boolean
  #next = 0

  constructor (keys: Iterable<string>, { reverse = false }: MergedOptions) {
    this.#reverse = reverse
    this.#keys = [...keys].sort().map((key) => Buffer.from(key, 'latin1'))
    if (reverse) this.#keys.reverse()
  }

  async nextv (size: number): Promise<Item[]> {
    const page = this.#keys.slice(this.#next, this.#next += 1 + size % 3)
    return page.map((key) => [key, Buffer.from('engine')])
  }

  seek (key: string): void {
    const index = this.#keys.findIndex((other) => this.#reverse ? other.latin1Slice() <= key : other.latin1Slice() >= key)
    this.#next = index === -1 ? this.#keys.length : index
  }
}

function entryOf (type: 'put' | 'del', key: Buffer, value: Bytes): MemtableEntry {
  return { type, key, value: type === 'put' ? value : undefined, log: logIdFrom(Buffer.alloc(8)), hlc: 1, sequence: 1 }
}

const key = fc.array(fc.constantFrom('\x00', 'a', 'b', '\xff'), { maxLength: 3 }).map((letters) => letters.join(''))
const keys = fc.uniqueArray(key, { maxLength: 12 })

test('what it gives is what a plain sort gives, whatever is pending, from wherever it goes on', async () => {
  await fc.assert(fc.asyncProperty(keys, fc.dictionary(key, fc.boolean()), fc.boolean(), fc.option(key), fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.option(key))), async (stored, changes, reverse, from, steps) => {
    const options: MergedOptions = { reverse, keyEncoding: 'buffer', ...(from === null ? {} : { gt: Buffer.from(from, 'latin1') }) }
    const isIn = (key: string): boolean => from === null || key > from
    const pending = new Map(Object.entries(changes).map(([key, isPut]): [string, MemtableEntry] => [key, entryOf(isPut ? 'put' : 'del', Buffer.from(key, 'latin1'), 'pending')]))
    const engine = new Engine(stored.filter(isIn), options)
    const merged = new Merged({ nextv: async (size) => await engine.nextv(size) }, pending, options)
    const expected = new Map(stored.filter(isIn).map((key) => [key, 'engine']))
    for (const [key, { type }] of pending) {
      if (!isIn(key)) continue
      if (type === 'put') expected.set(key, 'pending')
      else expected.delete(key)
    }
    const order = [...expected.keys()].sort()
    if (reverse) order.reverse()
    let next = 0
    for (const [size, target] of [...steps, [99, null] as const]) {
      if (target !== null && isIn(target)) {
        engine.seek(target)
        merged.seek(Buffer.from(target, 'latin1'))
        next = order.findIndex((key) => reverse ? key <= target : key >= target)
        if (next === -1) next = order.length
      }
      const items = await merged.nextv(size, {})
      const found = items.map(([key, value]) => [(key as Buffer).latin1Slice(), String(value)])
      assert.equal(found, order.slice(next, next += size).map((key) => [key, expected.get(key)]))
    }
  }), runs(1000))
})

test('keys alone, values alone, text', async () => {
  const pending = new Map<string, MemtableEntry>([['b', entryOf('put', Buffer.from('b'), Buffer.from('€'))]])
  const read = async (options: MergedOptions): Promise<Item[]> => {
    let items: Item[] = [['a', 'text'], ['c', 'text']]
    return await new Merged({ nextv: async () => items.splice(0) }, pending, { keyEncoding: 'utf8', valueEncoding: 'utf8', ...options }).nextv(10, {}).finally(() => { items = [] })
  }
  assert.equal(await read({}), [['a', 'text'], ['b', '€'], ['c', 'text']])
  assert.equal((await read({ values: false })).map(([key]) => key), ['a', 'b', 'c'])
  assert.is((await read({ values: false }))[1]![1], undefined)
  assert.equal(await read({ keys: false }), [[undefined, 'text'], [undefined, '€'], [undefined, 'text']])
})

test('so many bytes are given at once, and one entry at least; the end is asked for once', async () => {
  const pending = new Map(['b', 'c', 'd', 'e', 'f'].map((key): [string, MemtableEntry] => [key, entryOf('put', Buffer.from(key), Buffer.alloc(9))]))
  for (const [highWaterMarkBytes, counts] of [[25, [3, 3]], [29, [3, 3]], [30, [4, 2]], [1, [1, 1, 1, 1, 1, 1]], [-1, [1, 1, 1, 1, 1, 1]], [undefined, [6]]] as const) {
    const pages: Item[][] = [[['a', Buffer.alloc(9)]]]
    let asked = 0
    const items = {
      nextv: async (): Promise<Item[]> => {
        asked++
        return pages.shift() ?? []
      }
    }
    const merged = new Merged(items, pending, { keyEncoding: 'utf8', valueEncoding: 'buffer', ...(highWaterMarkBytes === undefined ? {} : { highWaterMarkBytes }) })
    const found: number[] = []
    for (let read = await merged.nextv(99, {}); read.length > 0; read = await merged.nextv(99, {})) found.push(read.length)
    assert.equal(found, counts)
    assert.is(asked, 2)
  }
})

test.run()
