/**
 * What a key holds is looked up where it matters, and nowhere else: not if the sender had seen all that is known here.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { writeEntry } from '../../lib/codec/entry.ts'
import { decodeData, type DataMessage } from '../../lib/codec/message.ts'
import type { Advance } from '../../lib/core/version-vector.ts'
import { chunkBytes, entriesDecodedBytesMax } from '../../lib/limits.ts'
import { keyspace } from '../../lib/storage/keyspaces.ts'
import type { Operation } from '../../lib/storage/local.ts'
import type { Unit } from '../../lib/storage/unit.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { encodeUnit } from '../support/units.ts'
import { LiveStream, del, exchange, openReplica, pull, put, type TestReplica } from '../support/store.ts'

type Read = (what: unknown, options: unknown) => unknown

/** How many keys are looked up meanwhile; those that an iterator reads count as one. */
async function countLookUps ({ engine }: TestReplica, run: () => Promise<void>): Promise<number> {
  const isVersion = (key: unknown): boolean => (key as Buffer)[0] === keyspace.data
  const counts: Record<string, (what: unknown) => number> = {
    getSync: (key) => isVersion(key) ? 1 : 0,
    getMany: (keys) => (keys as unknown[]).filter(isVersion).length,
    iterator: (options) => isVersion((options as { gte?: Buffer }).gte ?? (options as { gt: Buffer }).gt) ? 1 : 0
  }
  const reads = engine as unknown as Record<string, Read>
  let count = 0
  for (const [name, countOf] of Object.entries(counts)) {
    const read = reads[name]!.bind(engine)
    reads[name] = (what, options) => {
      count += countOf(what)
      return read(what, options)
    }
  }
  try {
    await run()
  } finally {
    for (const name of Object.keys(counts)) Reflect.deleteProperty(engine, name)
  }
  return count
}

/** How what one replica wrote comes to the other. */
const ways = {
  'in units': async (from: TestReplica, to: TestReplica, write: () => Promise<void>) => {
    const live = await LiveStream.open(from, to)
    await write()
    await live.send()
    live.close()
  },
  'in one unit': async (from: TestReplica, to: TestReplica, write: () => Promise<void>) => {
    const live = await LiveStream.open(from, to)
    await from.store.commit(Array.from({ length: 100 }, (_, index) => put(`filler ${index}`, 'x')), false)
    await write()
    await live.send()
    live.close()
  },
  'in a catch-up': async (from: TestReplica, to: TestReplica, write: () => Promise<void>) => {
    await write()
    await pull(to, from)
  },
  'in a long catch-up': async (from: TestReplica, to: TestReplica, write: () => Promise<void>) => {
    await write()
    await from.store.commit(Array.from({ length: 600 }, (_, index) => put(`filler ${index}`, 'x'.repeat(8192))), false)
    await pull(to, from)
  }
} as const

test('what a long unit changes is as if it had come in short ones, also at a key in conflict', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  for (const key of ['kept', 'overwritten', 'deleted', 'both', 'long']) await a.put(key, '1')
  await b.put('both', '2')
  await exchange(a, b)
  await exchange(a, b)
  const live = await LiveStream.open(a, b)
  await a.store.commit([put('overwritten', '3'), put('new', '3'), del('deleted'), put('both', '3'), put('long', 'x'.repeat(entriesDecodedBytesMax))], false)
  await live.send()
  live.close()
  assert.equal(await b.values('both'), await a.values('both'))
  await checkInvariants(b.engine, { vector: b.store.vector as never })
  await checkEqual([a.engine, b.engine])
})

for (const [way, bring] of Object.entries(ways)) {
  for (const reports of [true, false]) {
    const open = async (): Promise<TestReplica> => await openReplica({ reports: () => reports })

    test(`what a sender writes that had seen all is taken without a look at what is held, ${way}, ${reports ? 'reported' : 'and not reported'}`, async () => {
      const a = await open()
      const b = await open()
      for (const key of ['kept', 'overwritten', 'deleted', 'both']) await a.put(key, '1')
      await b.put('both', '2')
      await exchange(a, b)
      await a.put('settled', '1')
      await a.del('settled')
      await exchange(a, b)
      const lookUps = await countLookUps(b, async () => {
        await bring(a, b, async () => {
          await a.put('overwritten', '3')
          await a.put('new', '3')
          await a.del('deleted')
          await a.store.commit([put('settled', '3'), del('settled'), put('last', '3')], false)
        })
      })
      assert.is(lookUps, 0)
      const { kept, overwritten, new: added, deleted, settled, last } = await b.data()
      assert.equal({ kept, overwritten, added, deleted, settled, last }, { kept: '1', overwritten: '3', added: '3', deleted: undefined, settled: undefined, last: '3' })
      await checkInvariants(b.engine, { vector: b.store.vector as never })
      await checkEqual([a.engine, b.engine])
    })

    test(`a key in conflict is looked up, and the values of its versions go, ${way}, ${reports ? 'reported' : 'and not reported'}`, async () => {
      const a = await open()
      const b = await open()
      for (const key of ['put', 'deleted']) {
        await a.put(key, '1')
        await b.put(key, '2')
      }
      await exchange(a, b)
      assert.is((await b.values('put')).length, 2)
      await exchange(a, b)
      await bring(a, b, async () => {
        await a.put('put', '3')
        await a.del('deleted')
      })
      assert.equal([await b.values('put'), await b.values('deleted')], [['3'], [undefined]])
      await checkInvariants(b.engine, { vector: b.store.vector as never })
      await checkEqual([a.engine, b.engine])
    })

    test(`what a sender writes that had not seen all stands beside what it had not seen, ${way}, ${reports ? 'reported' : 'and not reported'}`, async () => {
      const a = await open()
      const b = await open()
      await a.put('seen', '1')
      await exchange(a, b)
      await b.put('unseen', '2')
      await bring(a, b, async () => {
        await a.put('seen', '3')
        await a.put('unseen', '3')
        await a.del('seen')
      })
      assert.equal(await b.values('unseen'), ['2', '3'])
      assert.equal(await b.values('seen'), [undefined])
      await checkInvariants(b.engine, { vector: b.store.vector as never })
      await exchange(a, b)
      await checkEqual([a.engine, b.engine])
    })
  }
}

for (const [name, count] of [['few', 3], ['many', 200]] as const) {
  test(`a sender that had seen all but what was written to other keys is believed without a look, too, of ${name} keys`, async () => {
    const a = await openReplica()
    const b = await openReplica()
    for (const { store } of [a, b]) store.feed.open()
    await b.store.commit([put('before', '1'), put('deleted', '1')], false)
    await pull(a, b)
    const stream = a.store.vector.clone()
    const write = async (operations: Operation[]): Promise<number> => {
      const number = a.store.feed.end
      await a.store.commit(operations, false)
      const { body } = a.store.feed.at(number) as Unit & { body: Buffer }
      const message = decodeData(encodeUnit([], body).subarray(1)) as Extract<DataMessage, { type: 'unit' }>
      return await countLookUps(b, async () => { await b.store.intake.apply({ ...message, stream, bytes: body.length }) })
    }
    await b.store.commit([put('unseen', '2'), put('deleted', '2')], false)
    assert.is(await write([put('before', '3'), ...Array.from({ length: count }, (_, index) => put(`other ${index}`, '3'))]), 0)
    assert.is(await b.get('before'), '3')
    assert.ok(await write([put('unseen', '3'), del('deleted'), ...Array.from({ length: count }, (_, index) => put(`another ${index}`, '3'))]) > 0)
    assert.equal(await b.values('unseen'), ['2', '3'])
    assert.is((await b.values('deleted')).length, 2)
    await checkInvariants(b.engine, { vector: b.store.vector as never })
    await exchange(a, b)
    await checkEqual([a.engine, b.engine])
  })
}

test('what is here already is not taken again, whatever is said of it', async () => {
  const a = await openReplica()
  const b = await openReplica()
  await a.put('k', '1')
  await pull(b, a)
  const [{ log, sequence, hlc }] = [...a.store.vector] as [Advance]
  const entry = { key: Buffer.from('k'), siblings: [{ type: 'put', log, sequence, hlc }], values: [Buffer.from('2')] } as const
  await b.store.intake.apply({ stream: a.store.vector.clone(), before: [], changes: [], collected: [], entries: [entry], bytes: 100 })
  assert.is(await b.get('k'), '1')
})

test('nor in a delivery that is staged', async () => {
  const a = await openReplica()
  const b = await openReplica({ reports: () => false })
  await a.put('k', '1')
  await pull(b, a)
  const [{ log, hlc }] = [...a.store.vector] as [Advance]
  const count = 600
  const delivery = b.store.intake.begin('catch-up', [{ log, sequence: count, hlc: hlc + 1 }], [], count)
  const writer = new ByteWriter()
  for (let sequence = 1; sequence <= count; sequence++) {
    const key = sequence === 1 ? 'k' : `l${String(sequence).padStart(3, '0')}`
    writeEntry(writer, { key: Buffer.from(key), siblings: [{ type: 'put', log, sequence, hlc: hlc + Math.min(1, sequence - 1) }], values: [Buffer.alloc(8192, '2')] })
    if (writer.length >= chunkBytes || sequence === count) await delivery.add(writer.take())
  }
  await delivery.end(count)
  assert.is(await b.get('k'), '1')
  assert.is(Object.keys(await b.data()).length, count)
})

test.run()
