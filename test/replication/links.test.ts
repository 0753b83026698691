/**
 * Exactly one link to each replica, however it is found and however often it breaks; and processes that end well.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReplicatedLevel } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { addressOf, closeAll, equal, linked, openDatabase, type Events } from '../support/replicas.ts'
import { seed } from '../support/seed.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const test = suite('links')
test.after.each(closeAll)

type Db = ReplicatedLevel<any, any>

function openLinks (db: Db): number {
  return db.replication.peers().filter(({ id }) => id !== undefined).length
}

/** Counts what becomes connected and disconnected. */
function counted (db: Db): { connected: number, disconnected: number } {
  const counts = { connected: 0, disconnected: 0 }
  for (const name of ['connect', 'connection']) (db as unknown as Events).on(name, () => { counts.connected++ })
  ;(db as unknown as Events).on('disconnect', () => { counts.disconnected++ })
  return counts
}

/** One link between each two, and nobody changes his mind any more. */
async function settled (databases: Db[]): Promise<void> {
  const counts = databases.map(counted)
  const text = (): string => JSON.stringify(counts)
  let before = ''
  await eventually(async () => {
    before = text()
    for (const db of databases) {
      const ids = db.replication.peers().map(({ id }) => id)
      if (ids.length !== databases.length - 1 || new Set(ids).size !== ids.length || ids.includes(undefined)) return false
    }
    await new Promise((resolve) => { setTimeout(resolve, 300) })
    return text() === before
  }, { message: 'each two are linked once' })
}

test('peers() counts the operations each way, those of a catch-up too', async () => {
  const a = await openDatabase()
  await a.batch([1, 2, 3].map((key) => ({ type: 'put', key: `a-${key}`, value: '' })))
  const b = await openDatabase({ peers: [addressOf(a)] })
  await equal(a, b)
  await b.batch([1, 2].map((key) => ({ type: 'put', key: `b-${key}`, value: '' })))
  await a.put('a-4', '')
  await equal(a, b)
  const operations = (db: Db): unknown => db.replication.peers()[0]!.operations
  assert.equal([operations(a), operations(b)], [{ received: 2, sent: 4 }, { received: 4, sent: 2 }])
})

test('five that all list each other, some under two names, have one link each', async () => {
  const databases: Db[] = []
  for (let index = 0; index < 5; index++) databases.push(await openDatabase())
  for (const db of databases) {
    for (const other of databases) {
      if (other === db) continue
      db.replication.connect(addressOf(other))
      db.replication.connect(addressOf(other).replace('127.0.0.1', 'localhost'))
    }
  }
  await settled(databases)
  await databases[0]!.put('key', 'value')
  await equal(...databases)
  for (const db of databases) assert.equal((db as unknown as { errors: unknown[] }).errors, [])
})

test('links that break again and again, from either side, come back as one', async () => {
  const random = new VirtualSystem({ seed })
  const [a, b] = [await openDatabase(), await openDatabase()]
  a.replication.connect(addressOf(b))
  b.replication.connect(addressOf(a))
  await linked(a, b)
  for (let round = 0; round < 15; round++) {
    const [one, other] = random.random() < 0.5 ? [a, b] : [b, a]
    one.replication.disconnect(addressOf(other))
    one.replication.connect(addressOf(other))
    if (random.random() < 0.5) await eventually(() => openLinks(a) === 1 && openLinks(b) === 1)
  }
  await settled([a, b])
  const counts = counted(a)
  await b.put('key', 'value')
  await equal(a, b)
  assert.equal(counts, { connected: 0, disconnected: 0 })
})

test('what connects is disconnected once, and once only', async () => {
  const a = await openDatabase()
  const counts = counted(a)
  for (let round = 0; round < 5; round++) {
    const b = await openDatabase({ peers: [addressOf(a)] })
    a.replication.connect(addressOf(b))
    await linked(a, b)
    await b.close()
  }
  await eventually(() => counts.disconnected === counts.connected)
  assert.ok(counts.connected >= 5)
})

test('a peer that is gone for long is tried for ever, and found when it is back', async () => {
  const a = await openDatabase()
  const b = await openDatabase({ peers: [addressOf(a)] })
  const { port } = a.replication.address!
  await linked(b, a)
  await a.close()
  // Somebody else has the port meanwhile, and hangs up at once.
  let tries = 0
  const rude: Server = createServer((socket) => { tries++; socket.destroy() }).listen(port, '127.0.0.1')
  await eventually(() => tries >= 5)
  assert.is(b.replication.peers().length, 1)
  rude.close()
  const back = await openDatabase({ port })
  await linked(b, back)
  assert.equal(b.errors, [])
})

test('disconnect() lasts until the other one dials', async () => {
  const a = await openDatabase()
  const b = await openDatabase({ peers: [addressOf(a)] })
  await linked(b, a)
  b.replication.disconnect(addressOf(a))
  await eventually(() => openLinks(a) === 0 && openLinks(b) === 0)
  assert.equal(b.replication.peers(), [])
  await a.put('key', 'value')
  assert.is(await b.get('key'), undefined)
  a.replication.connect(addressOf(b))
  await equal(a, b)
})

test('an iterable of peers may go on feeding, and may fail', async () => {
  const [a, c] = [await openDatabase(), await openDatabase()]
  let feed: (address: string | Error) => void = () => {}
  const b = await openDatabase({
    peers: (async function * () {
      while (true) {
        const next = await new Promise<string | Error>((resolve) => { feed = resolve })
        if (next instanceof Error) throw next
        yield next
      }
    })()
  })
  feed(addressOf(a))
  await linked(b, a)
  feed(addressOf(c))
  await linked(b, c)
  feed('no address at all')
  await eventually(() => b.errors.some(({ code }) => code === 'REPLICATION_PEERS'))
  feed(new Error('planted'))
  await eventually(() => b.errors.length === 2)
  assert.is(openLinks(b), 2)
})

test('close() while a first sync is under way, then open() again, ends equal', async () => {
  const a = await openDatabase()
  for (let batch = 0; batch < 40; batch++) await a.batch(Array.from({ length: 500 }, (_, index) => ({ type: 'put', key: `${batch}-${index}`, value: 'x'.repeat(500) })))
  const directory = newDirectory()
  let interrupted = 0
  for (let round = 0; round < 4; round++) {
    const b = await openDatabase({ peers: [addressOf(a)], initialSyncMs: 0 }, directory)
    await eventually(() => b.replication.peers().some(({ progress, state }) => state === 'live' || (progress ?? 0) > 0))
    if (b.replication.peers()[0]!.state !== 'live') interrupted++
    await b.close()
  }
  const b = await openDatabase({ peers: [addressOf(a)], initialSyncMs: 0 }, directory)
  await equal(a, b)
  assert.ok(interrupted > 0, 'no sync was interrupted')
  assert.equal([...a.errors, ...b.errors], [])
})

/** A script in a process of its own; how it ends, and what it prints. */
async function run (script: string, ...args: string[]): Promise<{ code: number | null, output: string }> {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), '--input-type=module', '--eval', `
    import { ReplicatedLevel } from ${JSON.stringify(new URL('../../lib/index.ts', import.meta.url).href)}
    const args = ${JSON.stringify(args)}
    ${script}
  `], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += String(chunk) })
  const timer = setTimeout(() => { child.kill('SIGKILL') }, 120_000)
  const [code] = await once(child, 'close')
  clearTimeout(timer)
  return { code: code as number | null, output }
}

test('a process without a listener for errors survives all of them, and ends by itself after close()', async () => {
  const stranger = await openDatabase({ group: 'strangers' })
  const peer = await openDatabase({ resolverVersion: '2' })
  await peer.put('key', 'theirs')
  const rude = createServer((socket) => { socket.on('error', () => {}); socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\nX-Filler: filler filler\r\n\r\n') }).listen(0, '127.0.0.1')
  await once(rude, 'listening')
  const { code, output } = await run(`
    const db = new ReplicatedLevel(args[0], {
      port: 0,
      resolver: () => { throw new Error('planted') }
    })
    await db.put('key', 'mine')
    for (const address of args.slice(1)) db.replication.connect(address)
    const failed = () => db.replication.peers().filter(({ lastError }) => lastError !== undefined).length
    while ((await db.replication.versions('key')).length < 2 || failed() < 4) await new Promise((resolve) => { setTimeout(resolve, 10) })
    await db.close()
    console.log('closed')
  `, newDirectory(), addressOf(stranger), addressOf(peer), `127.0.0.1:${(rude.address() as { port: number }).port}`, '127.0.0.1:1', 'localhost:2')
  rude.close()
  assert.is(output, 'closed\n')
  assert.is(code, 0)
  await eventually(() => stranger.errors.some((error) => error.code === 'REPLICATION_GROUP_MISMATCH'))
})

test('opening and closing many times leaves nothing behind that keeps a process alive', async () => {
  const peer = await openDatabase()
  const { code, output } = await run(`
    const db = new ReplicatedLevel(args[0], { port: 0, peers: [args[1]], initialSyncMs: 5000 })
    for (let round = 0; round < 5; round++) {
      await db.open()
      await db.put('key', String(round))
      if (round % 2 === 0) await db.replication.synced()
      await db.close()
    }
    await db.open()
    db.replication.connect('127.0.0.1:1')
    const closing = db.close()
    await closing
    console.log('closed', process.getActiveResourcesInfo().filter((name) => /TCP|Timeout|FSReq/.test(name)).join())
  `, newDirectory(), addressOf(peer))
  assert.is(output.trim(), 'closed')
  assert.is(code, 0)
  assert.is(await peer.get('key'), '4')
})

test.run()
