/**
 * What a replica that has nothing is sent: the same, whether it is read as text, as bytes, or first as the one and then
 * as the other.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { VersionVector } from '../../lib/core/version-vector.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { inKeyspace, keyspace } from '../../lib/storage/keyspaces.ts'
import { TextSource } from '../../lib/storage/text-source.ts'
import { newDirectory } from '../support/directory.ts'
import { checkEqual } from '../support/invariants.ts'
import { exchange, openReplica, pull, type TestReplica } from '../support/store.ts'

const noText = Buffer.of(0xff, 0x00, 0xc3, 0x28)
const likeNoText = Buffer.from('a \ufffd of somebody')
const long = Buffer.from('é'.repeat(5000))
const keyOf = (index: number): Buffer => Buffer.from(`key ${String(index).padStart(5, '0')}`)
const count = 3000

type Change = readonly [index: number, key: Buffer | undefined, value: Buffer | undefined]

const cases: Record<string, readonly Change[]> = {
  'nothing but text': [],
  'a value that is no text, the first one': [[0, undefined, noText]],
  'a value that is no text, in the middle': [[1500, undefined, noText]],
  'a value that is no text, the last one': [[count - 1, undefined, noText]],
  'values that are no text here and there': [[700, undefined, noText], [701, undefined, noText], [2999, undefined, noText]],
  'a value of text that looks as if it were none': [[999, undefined, likeNoText]],
  'a long value': [[1001, undefined, long]],
  'an empty value': [[1, undefined, Buffer.alloc(0)]],
  'a key that is no text, before all others': [[0, Buffer.of(0x00, 0xff), undefined]],
  'a key that is no text, behind all others': [[1, Buffer.of(0xff, 0xff), undefined]],
  'a key that is no text, in the middle': [[2, Buffer.concat([keyOf(1200), noText]), undefined]],
  'the empty key': [[3, Buffer.alloc(0), undefined]],
  'keys whose text sorts otherwise than their bytes': [[4, Buffer.from('\uffee'), undefined], [5, Buffer.from('\u{10000}'), undefined], [6, Buffer.from('\u{1f600}'), undefined]]
}

async function fill (replica: TestReplica, changes: readonly Change[]): Promise<void> {
  for (let from = 0; from < count; from += 500) {
    await replica.store.commit(Array.from({ length: 500 }, (_, offset) => {
      const index = from + offset
      const change = changes.find(([place]) => place === index)
      return { type: 'put', key: change?.[1] ?? keyOf(index), value: change?.[2] ?? Buffer.from(`value ${index}`) }
    }), false)
  }
}

async function openClassic (seed: number): Promise<TestReplica> {
  return await openReplica({ seed, engine: new ClassicLevel<Buffer, Buffer>(newDirectory(), { keyEncoding: 'buffer', valueEncoding: 'buffer' }) as unknown as Engine })
}

for (const [name, changes] of Object.entries(cases)) {
  test(`${name}`, async () => {
    const [a, b] = [await openClassic(1), await openClassic(2)]
    await fill(a, changes)
    const source = await a.store.openSource(new VersionVector())
    assert.instance(source, TextSource)
    await source.close()
    const { entries } = await pull(b, a)
    assert.is(entries, count)
    await checkEqual([a.engine, b.engine])
    for (const { engine } of [a, b]) await engine.close()
  })
}

const unlike = ['a', 'b', '\u00e9', '\uffee', '\u{10000}', '\u{1f600}']

for (const conflicted of unlike) {
  test(`a conflict at ${JSON.stringify(conflicted)}, among text that sorts otherwise than its bytes, and deletes`, async () => {
    for (const types of [['put', 'put'], ['put', 'del'], ['del', 'del']] as const) {
      const [a, b, c] = [await openReplica(), await openReplica(), await openReplica()]
      for (const key of [...unlike, 'c']) await a.store.commit([{ type: 'put', key: Buffer.from(key), value: Buffer.from(`old ${key}`) }], false)
      await exchange(a, b)
      for (const [index, { store }] of [a, b].entries()) {
        const key = Buffer.from(conflicted)
        await store.commit([types[index] === 'put' ? { type: 'put', key, value: Buffer.from(`new ${index}`) } : { type: 'del', key }, { type: 'del', key: Buffer.from('c') }], false)
      }
      await exchange(a, b)
      const source = await a.store.openSource(new VersionVector())
      assert.instance(source, TextSource)
      await source.close()
      await pull(c, a)
      await checkEqual([a.engine, b.engine, c.engine])
    }
  })
}

for (const [name, recorded, stamped] of [['a delete', Buffer.of(0x80), Buffer.from('\u0100')], ['a value', Buffer.from('\u0100'), Buffer.of(0x80)]] as const) {
  test(`a key that is no text is sent, though what it is read as sorts behind the next one: ${name}`, async () => {
    const [a, b] = [await openReplica(), await openReplica()]
    for (const key of [recorded, stamped]) await a.store.commit([{ type: 'put', key, value: Buffer.from('value') }], false)
    await a.store.commit([{ type: 'del', key: recorded }], false)
    const { entries } = await pull(b, a)
    assert.is(entries, 2)
    await checkEqual([a.engine, b.engine])
  })
}

test('a value that is missing is noticed, and one whose versions are', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await fill(a, [])
  const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
  for (const index of [0, 1200, count - 1]) {
    await a.store.commit([{ type: 'put', key: keyOf(index), value: long }], false)
    for (const space of [keyspace.data, keyspace.version]) {
      const key = inKeyspace(space, keyOf(index))
      const value = await a.engine.get(key, buffers) as Buffer
      await a.engine.del(key, buffers)
      const error = await pull(b, a).then(() => undefined, (error: Error) => error)
      assert.match(error?.message ?? '', /The value of key 6b65.* is missing, or its versions are/)
      await a.engine.put(key, value, buffers)
    }
  }
})

test.run()
