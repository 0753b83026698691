/**
 * Replicas that find each other: by Bonjour over loopback, and by being told of each other.
 */
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReplicatedLevel } from '../../lib/index.ts'
import { eventually } from '../support/eventually.ts'
import { freeUdpPort } from '../support/multicast.ts'
import { addressOf, closeAll, equal, openDatabase, type Events } from '../support/replicas.ts'

const test = suite('discovery')
test.after.each(closeAll)

type Db = ReplicatedLevel<any, any>

const exchange = { discovery: { bonjour: false } }

const linkedIds = (db: Db): string[] => db.replication.peers().flatMap(({ id }) => id ?? [])

/** Every two are linked, once. */
async function meshed (databases: Db[], timeoutMs = 15_000): Promise<void> {
  await eventually(() => databases.every((db) => {
    const ids = linkedIds(db)
    return ids.length === databases.length - 1 && new Set(ids).size === ids.length
  }), { timeoutMs, message: 'each two are linked once' })
}

test('with the same group, and nothing else, replicas of one machine find each other', async () => {
  const options = { group: `shop-${randomBytes(4).toString('hex')}`, discovery: { port: await freeUdpPort() } }
  const databases = await Promise.all([0, 1, 2].map(async () => await openDatabase(options)))
  const stranger = await openDatabase({ ...options, group: 'home' })
  await meshed(databases)
  await databases[0]!.put('key', 'value')
  await equal(...databases)
  assert.equal(stranger.replication.peers(), [])
  assert.equal([...databases, stranger].flatMap(({ errors }) => errors), [])
})

test('so do replicas that listen on another address of the machine itself', async () => {
  const options = { group: `shop-${randomBytes(4).toString('hex')}`, discovery: { port: await freeUdpPort(), exchange: false } }
  await meshed([await openDatabase({ ...options, host: '127.0.0.2' }), await openDatabase({ ...options, host: '127.0.0.3' })])
})

test('with group and secret too; another secret is not even dialled', async () => {
  const options = { group: 'shop', host: '127.0.0.1', secret: 'x'.repeat(20), discovery: { port: await freeUdpPort(), interfaces: ['127.0.0.1'] } }
  const databases = [await openDatabase(options), await openDatabase(options)]
  const stranger = await openDatabase({ ...options, secret: 'y'.repeat(20) })
  await meshed(databases)
  assert.equal(stranger.replication.peers(), [])
  assert.equal([...databases, stranger].flatMap(({ errors }) => errors), [])
})

test('a replica that is given one address finds all; and so do ten of which each knows one other', async () => {
  const databases: Db[] = [await openDatabase(exchange)]
  for (let index = 1; index < 10; index++) databases.push(await openDatabase({ ...exchange, peers: [addressOf(databases[index - 1]!)] }))
  await meshed(databases)
  await databases[9]!.put('key', 'value')
  await equal(...databases)
})

test('ten that are given the same address at the same moment all find each other, without a storm', async () => {
  const hub = await openDatabase(exchange)
  let events = 0
  const others = await Promise.all(Array.from({ length: 9 }, async () => {
    const db = await openDatabase({ ...exchange, peers: [addressOf(hub)] })
    ;(db as unknown as Events).on('connect', () => { events++ })
    return db
  }))
  await meshed([hub, ...others])
  assert.ok(events <= 2 * 45, `${events} links were made for 45`)
})

test('exchange is for those who take part: others are not named, and take no names', async () => {
  const hub = await openDatabase(exchange)
  const hermit = await openDatabase({ peers: [addressOf(hub)] })
  const other = await openDatabase({ ...exchange, peers: [addressOf(hub)] })
  const last = await openDatabase({ ...exchange, peers: [addressOf(hub)] })
  await eventually(() => linkedIds(last).length === 2 && linkedIds(other).length === 2)
  await equal(hub, hermit, other, last)
  assert.equal(linkedIds(hermit), [hub.replication.id])
  assert.not(linkedIds(last).includes(hermit.replication.id))
})

test('replicas that were found are dialled again, by both, when one comes back', async () => {
  const hub = await openDatabase(exchange)
  const a = await openDatabase({ ...exchange, peers: [addressOf(hub)] })
  const b = await openDatabase({ ...exchange, peers: [addressOf(hub)] })
  await meshed([hub, a, b])
  const { port } = hub.replication.address!
  await hub.close()
  await eventually(() => a.replication.peers().some(({ state, lastError }) => state === 'waiting' && lastError !== undefined), { message: 'it is shown' })
  const back = await openDatabase({ ...exchange, port })
  await meshed([back, a, b])
})

test('disconnect() keeps a found address away, until connect()', async () => {
  const options = { group: `shop-${randomBytes(4).toString('hex')}`, discovery: { port: await freeUdpPort(), exchange: false } }
  const a = await openDatabase({ ...options, port: false })
  const b = await openDatabase(options)
  await meshed([a, b])
  a.replication.disconnect(addressOf(b))
  await eventually(() => linkedIds(a).length === 0)
  await new Promise((resolve) => { setTimeout(resolve, 3500) }) // an announcement is repeated after 3 s
  assert.equal(a.replication.peers(), [])
  a.replication.connect(addressOf(b))
  await meshed([a, b])
})

test.run()
