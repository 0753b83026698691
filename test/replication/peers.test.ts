/**
 * How replicas find each other, stay connected by exactly one link, and say so.
 */
import { createServer } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { rejection } from '../support/rejection.ts'
import { addressOf, closeAll, equal, linked, openDatabase, type Events } from '../support/replicas.ts'

const test = suite('peers')
test.after.each(closeAll)

const forms: Record<string, (address: string) => any> = {
  'a list': (address) => [address],
  'a record': (address) => ({ [address]: { rack: 1 } }),
  'a function': (address) => () => [address],
  'a function that returns a promise of a record': (address) => async () => ({ [address]: true }),
  'an async iterable': (address) => (async function * () { yield address })()
}

for (const [name, peers] of Object.entries(forms)) {
  test(`peers as ${name}`, async () => {
    const a = await openDatabase()
    await a.put('key', 'value')
    const b = await openDatabase({ peers: peers(addressOf(a)) })
    await equal(a, b)
  })
}

test('open() catches up with a peer that it reaches before it accepts writes', async () => {
  const a = await openDatabase()
  await a.put('key', 'value')
  const b = await openDatabase({ peers: [addressOf(a)], initialSyncMs: 20_000 })
  assert.is(await b.get('key'), 'value')
  assert.is(b.replication.peers()[0]!.state, 'live')
})

test('open() waits for peers as long as it takes if it may', async () => {
  const a = await openDatabase()
  await a.put('key', 'value')
  const b = await openDatabase({ peers: async () => await new Promise((resolve) => { setTimeout(() => { resolve([addressOf(a)]) }, 100) }), initialSyncMs: Infinity })
  assert.is(await b.get('key'), 'value')
})

test('close() ends an open() that waits for peers, at whatever moment it comes', async () => {
  let asked = (): void => {}
  const db = new ReplicatedLevel(newDirectory(), { port: 0, initialSyncMs: Infinity, peers: async () => await new Promise<never>(() => { asked() }) })
  const moments: Array<() => Promise<unknown>> = [
    async () => {},
    async () => await new Promise((resolve) => { db.once('listening', resolve) }),
    async () => await new Promise<void>((resolve) => { asked = resolve })
  ]
  for (const moment of moments) {
    const reached = moment()
    const opening = db.open()
    await reached
    await db.close()
    await opening
    assert.is(db.status, 'closed')
  }
  const later = [db.open(), db.put('key', 'value'), db.close(), db.open(), db.close()] // of several open() and close() each ends the one before it
  await Promise.all(later)
  assert.is(db.status, 'closed')
})

test('an unreachable peer is no error, and is connected once it is there', async () => {
  const late = await openDatabase()
  const address = addressOf(late)
  const { port } = late.replication.address!
  await late.close()
  const a = await openDatabase({ peers: [address], initialSyncMs: 60_000 })
  assert.equal(a.errors, [])
  assert.is(a.replication.peers()[0]!.state, 'waiting')
  assert.is((a.replication.peers()[0]!.lastError as { code?: string }).code, 'REPLICATION_DIAL_FAILED')
  const back = await openDatabase({ port })
  await linked(a, back)
})

test('a peer that accepts and says nothing delays open() by initialSyncMs and no more', async () => {
  const silent = createServer(() => {})
  await new Promise<void>((resolve) => { silent.listen(0, '127.0.0.1', resolve) })
  const { port } = silent.address() as { port: number }
  const db = await openDatabase({ peers: [`127.0.0.1:${port}`], initialSyncMs: 50 })
  assert.is(db.status, 'open')
  await db.close()
  silent.close()
})

test('both list each other: one link stays', async () => {
  const a = await openDatabase()
  const b = await openDatabase()
  a.replication.connect(addressOf(b))
  b.replication.connect(addressOf(a))
  await linked(a, b)
  for (let round = 0; round < 5; round++) {
    await a.put(`key-${round}`, 'value')
    await equal(a, b)
  }
  await eventually(() => a.replication.peers().length === 1 && b.replication.peers().length === 1, { message: 'one link' })
  assert.is(a.replication.peers()[0]!.id, b.replication.id)
  assert.equal([...a.errors, ...b.errors], [])
})

test('a replica that dials itself notices, and does not dial again', async () => {
  const a = await openDatabase()
  a.replication.connect(addressOf(a))
  await eventually(() => a.replication.peers().length === 0)
  assert.equal(a.errors, [])
})

test('port 9000 or any free one; a port that was given and is taken fails open()', async () => {
  const a = await openDatabase({ port: undefined as never })
  const b = await openDatabase({ port: undefined as never })
  assert.not.equal(a.replication.address!.port, b.replication.address!.port)
  const taken = new ReplicatedLevel(newDirectory(), { port: a.replication.address!.port })
  try {
    await taken.open()
    assert.unreachable()
  } catch (error) {
    assert.is((error as { cause: { code: string } }).cause.code, 'REPLICATION_ADDRESS_IN_USE')
  }
  assert.is(taken.status, 'closed')
})

test('port false dials only', async () => {
  const a = await openDatabase()
  const b = await openDatabase({ port: false, peers: [addressOf(a)] })
  assert.is(b.replication.address, undefined)
  await b.put('key', 'value')
  await equal(a, b)
})

test('events tell what happens, with their arguments', async () => {
  const told: unknown[][] = []
  const a = await openDatabase()
  const b = new ReplicatedLevel(newDirectory(), { port: 0, peers: [addressOf(a)] })
  for (const name of ['listening', 'connect', 'sync']) (b as Events).on(name, (...args) => { told.push([name, ...args]) })
  const connections: unknown[][] = []
  ;(a as Events).on('connection', (...args) => { connections.push(args) })
  const ended: unknown[][] = []
  ;(a as Events).on('disconnect', (...args) => { ended.push(args) })
  const written: Array<{ type: string, key: string, value: string, origin: string }> = []
  ;(a as Events).on('replicate', (operations) => { written.push(...operations) })
  await b.open()
  await b.put('key', 'value')
  await equal(a, b)
  const { port } = a.replication.address!
  assert.equal(told.slice(0, 2), [['listening', b.replication.address], ['connect', '127.0.0.1', port]])
  assert.is((told[2]![1] as { id: string }).id, a.replication.id)
  assert.is(connections[0]![0], '127.0.0.1')
  assert.equal(written.map(({ type, key, value, origin }) => ({ type, key, value, origin })), [{ type: 'put', key: 'key', value: 'value', origin: b.replication.status().log }])
  await b.close()
  await eventually(() => ended.length === 1)
  assert.is((ended[0]![2] as { code: string }).code, 'REPLICATION_DISCONNECTED')
})

test('synced() waits until both have it on disk; without a peer it says so in time', async () => {
  const a = await openDatabase()
  try {
    await a.replication.synced({ timeoutMs: 20 })
    assert.unreachable()
  } catch (error) {
    assert.is((error as { code: string }).code, 'REPLICATION_TIMEOUT')
  }
  for (const timeoutMs of [NaN, -1, 'soon' as never, '30000' as never, null as never]) assert.is((await rejection(a.replication.synced({ timeoutMs }))).code, 'REPLICATION_INVALID_OPTION')
  const b = await openDatabase({ peers: [addressOf(a)] })
  await Promise.all(Array.from({ length: 500 }, async (_, index) => { await (index % 2 === 0 ? a : b).put(`key-${index}`, 'value') }))
  await a.replication.synced()
  const mine = a.replication.status().log
  assert.is(b.replication.status().durable[mine], 250)
  assert.equal(a.replication.status().durable, a.replication.status().vector)
})

test('replicas of different groups do not talk, and the error says so', async () => {
  const a = await openDatabase({ group: 'one' })
  const b = await openDatabase({ group: 'two', peers: [addressOf(a)] })
  await a.put('key', 'value')
  await eventually(() => [...a.errors, ...b.errors].some(({ code }) => code === 'REPLICATION_GROUP_MISMATCH'))
  assert.is(await b.get('key'), undefined)
})

test('closing and opening again, while others write, ends equal', async () => {
  const directory = newDirectory()
  const a = await openDatabase()
  for (let round = 0; round < 5; round++) {
    const b = await openDatabase({ peers: [addressOf(a)], initialSyncMs: 0 }, directory)
    await Promise.all([a.put(`a-${round}`, 'value'), b.put(`b-${round}`, 'value')])
    if (round < 4) await b.close()
    else await equal(a, b)
  }
  assert.is((await a.keys().all()).length, 10)
})

test.run()
