/**
 * What is large goes over a link too: values, and transactions of very many operations, live and while catching up.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../support/eventually.ts'
import { addressOf, closeAll, equal, linked, openDatabase } from '../support/replicas.ts'

const test = suite('large')
test.after.each(closeAll)

const MiB = 1024 * 1024

// A replica takes no message above twice its transactionBytesMax, or 8 MiB: a small one lets 20 MB be large.
const small = { transactionBytesMax: MiB }

for (const kind of ['state transfer', 'catch-up']) {
  test(`many values of 500 kB come with a ${kind}`, async () => {
    const a = await openDatabase(small)
    const b = await openDatabase(small)
    if (kind === 'catch-up') {
      a.replication.connect(addressOf(b))
      await Promise.all(Array.from({ length: 200 }, async (_, index) => { await a.put(`small-${index}`, 'value') }))
      await equal(a, b)
      a.replication.disconnect(addressOf(b))
    }
    // Small ones before them, in the order of the log and of keys, so that large ones come as a surprise.
    await Promise.all(Array.from({ length: 100 }, async (_, index) => { await a.put(`a-${index}`, 'value') }))
    for (let index = 0; index < 40; index++) await a.put(`large-${index}`, String(index).padEnd(500_000, '.'))
    a.replication.connect(addressOf(b))
    await equal(a, b)
    assert.equal([...a.errors, ...b.errors], [])
  })
}

for (const [live, operations] of [[true, 150_000], [false, 30_000]] as const) {
  test(`a batch of ${operations} tiny operations comes ${live ? 'live' : 'with a catch-up'}`, async () => {
    const a = await openDatabase()
    const b = await openDatabase()
    a.replication.connect(addressOf(b))
    await linked(a, b)
    const roundsBefore = live ? 0 : 5
    for (let round = 0; round < roundsBefore; round++) await a.batch(Array.from({ length: operations }, (_, index) => ({ type: 'put', key: index.toString(36), value: String(round) })))
    await equal(a, b)
    if (!live) a.replication.disconnect(addressOf(b))
    await a.batch(Array.from({ length: operations }, (_, index) => ({ type: 'put', key: index.toString(36), value: 'x' })))
    a.replication.connect(addressOf(b))
    await equal(a, b)
    assert.equal([...a.errors, ...b.errors], [])
  })
}

test('a transaction that is taken can be sent, however small its operations are', async () => {
  const a = await openDatabase({ transactionBytesMax: 5 * MiB })
  const b = await openDatabase({ transactionBytesMax: 5 * MiB })
  a.replication.connect(addressOf(b))
  await linked(a, b)
  let taken = 0
  for (const count of [10_000, 400_000]) {
    try {
      await a.batch(Array.from({ length: count }, (_, index) => ({ type: 'put', key: String(index).padStart(8, '0'), value: '' })))
      taken++
    } catch (error) {
      assert.is((error as { code: string }).code, 'REPLICATION_TRANSACTION_TOO_LARGE')
    }
    await equal(a, b)
  }
  assert.ok(taken > 0)
  assert.equal([...a.errors, ...b.errors], [])
})

test('a transaction above what the peer takes ends the link with a code on both sides, and what it takes in parts comes all the same', async () => {
  const a = await openDatabase()
  const b = await openDatabase({ transactionBytesMax: MiB })
  a.replication.connect(addressOf(b))
  await linked(a, b)
  await a.batch(Array.from({ length: 40 }, (_, index) => ({ type: 'put', key: String(index), value: 'x'.repeat(MiB) })))
  await eventually(() => [a, b].every(({ errors }) => errors.some(({ code }) => code === 'REPLICATION_FRAME_TOO_LARGE')))
  await eventually(async () => (await b.keys().all()).length === 40)
})

test('values in conflict that are larger together than a message: both sides say so before they are sent, and the next write lets everything come', async () => {
  const options = { transactionBytesMax: 12 * MiB }
  const [a, b, c] = [await openDatabase(options), await openDatabase(options), await openDatabase(options)]
  for (const db of [a, b, c]) await db.put('conflict', 'x'.repeat(11 * MiB))
  await a.put('another', 'value')
  for (const db of [b, c]) a.replication.connect(addressOf(db))
  await eventually(async () => (await a.replication.versions('conflict')).length === 3)
  const newcomer = await openDatabase({ ...options, peers: [addressOf(a)] })
  for (const { errors } of [newcomer, a]) {
    const { message } = (await eventually(() => errors.find(({ code }) => code === 'REPLICATION_FRAME_TOO_LARGE')))!
    assert.match(message, 'Values in conflict at one key make a message of 34603')
  }
  await a.put('conflict', 'settled')
  await eventually(async () => await newcomer.get('conflict') === 'settled')
  assert.is(await newcomer.get('another'), 'value')
})

test.run()
