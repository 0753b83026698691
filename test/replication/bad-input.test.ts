/**
 * Whatever comes in from the network ends in a coded error and harms nothing.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeControl, encodeData, type Hello } from '../../lib/codec/message.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { ReplicatedLevel } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { addressOf, closeAll, equal, openDatabase } from '../support/replicas.ts'

const test = suite('bad input')
test.after.each(closeAll)

function lengthPrefixed (bytes: Uint8Array): Buffer {
  const prefix: number[] = []
  let length = bytes.length
  for (; length >= 0x80; length = Math.floor(length / 0x80)) prefix.push((length % 0x80) | 0x80)
  return Buffer.concat([Buffer.from([...prefix, length]), bytes])
}

function hello (changes: Partial<Hello> = {}): Buffer {
  return lengthPrefixed(encodeControl({
    type: 'hello', versionMin: 1, versionMax: 1, group: 'default', replica: '77'.repeat(16), log: newLogId(randomBytes(8)), nonce: randomBytes(16).toString('hex'), resolverVersion: '', transactionBytesMax: 1e6, credit: 1e6, timeMs: Date.now(), host: '', port: 0, want: false, vector: [], collected: [], ...changes
  }))
}

async function dial (port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await new Promise((resolve) => { socket.once('connect', resolve) })
  return socket
}

const inputs: Record<string, { bytes: () => Buffer, code: string }> = {
  'random bytes': { bytes: () => Buffer.concat([Buffer.of(0x40), randomBytes(4096)]), code: 'REPLICATION_PROTOCOL' },
  'a request for a web page': { bytes: () => Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,application/xhtml+xml\r\nUser-Agent: a browser of some sort\r\n\r\n'), code: 'REPLICATION_PROTOCOL' },
  'a frame of 4 GiB': { bytes: () => Buffer.of(0x80, 0x80, 0x80, 0x80, 0x10, 1), code: 'REPLICATION_FRAME_TOO_LARGE' },
  'a length that never ends': { bytes: () => Buffer.alloc(64, 0xff), code: 'REPLICATION_PROTOCOL' },
  'another version of the protocol': { bytes: () => hello({ versionMin: 7, versionMax: 9 }), code: 'REPLICATION_PROTOCOL_VERSION' },
  'an unknown group': { bytes: () => hello({ group: 'strangers' }), code: 'REPLICATION_GROUP_MISMATCH' },
  'a vector of 100,000 logs': { bytes: () => hello({ vector: Array.from({ length: 100_000 }, () => ({ log: newLogId(randomBytes(8)), sequence: 1, hlc: 1 })) }), code: 'REPLICATION_PROTOCOL' },
  'a time that no clock can have': { bytes: () => hello({ vector: [{ log: newLogId(randomBytes(8)), sequence: 1, hlc: 2 ** 53 - 1 }] }), code: 'REPLICATION_CLOCK_IMPOSSIBLE' },
  'data before any hello': { bytes: () => lengthPrefixed(Buffer.of(0x11, 0x22, 0)), code: 'REPLICATION_PROTOCOL' },
  'a second hello': { bytes: () => Buffer.concat([hello(), hello()]), code: 'REPLICATION_PROTOCOL' },
  'more data than there is credit for': {
    bytes: () => {
      const log = newLogId(randomBytes(8)) // of which the next write is said to come from its owner, so that what follows waits a while
      return Buffer.concat([
        hello({ log }),
        lengthPrefixed(encodeData({ type: 'advance', vector: [{ log, sequence: 1, hlc: 1 }], acknowledge: false })),
        ...Array.from({ length: 3 }, () => lengthPrefixed(encodeData({ type: 'chunk', bytes: Buffer.alloc(1024 * 1024) })))
      ])
    },
    code: 'REPLICATION_PROTOCOL'
  },
  'a unit that makes no sense': { bytes: () => Buffer.concat([hello(), lengthPrefixed(Buffer.concat([Buffer.of(0x11, 0x23), randomBytes(100)]))]), code: 'REPLICATION_PROTOCOL' }
}

for (const [name, { bytes, code }] of Object.entries(inputs)) {
  test(`${name}: one coded error, the connection ends, and all goes on`, async () => {
    const db = await openDatabase()
    const socket = await dial(db.replication.address!.port)
    const closed = new Promise((resolve) => { socket.once('close', resolve) })
    socket.resume()
    socket.write(bytes())
    await closed
    await eventually(() => db.errors.length > 0)
    assert.is(db.errors[0]!.code, code)
    const peer = await openDatabase({ peers: [addressOf(db)] })
    await peer.put('key', 'value')
    await equal(db, peer)
  })
}

test('a peer that never says hello is cut, and delays nobody', async () => {
  const db = await openDatabase()
  const socket = await dial(db.replication.address!.port)
  const closed = new Promise((resolve) => { socket.once('close', resolve) })
  socket.resume()
  const peer = await openDatabase({ peers: [addressOf(db)] })
  await peer.put('key', 'value')
  await equal(db, peer)
  await closed
  await eventually(() => db.errors.some(({ code }) => code === 'REPLICATION_PEER_SILENT'))
})

test('a peer that stops reading costs a bounded amount of memory, and delays nobody', async () => {
  const db = await openDatabase()
  const socket = await dial(db.replication.address!.port)
  socket.pause()
  socket.write(hello({ want: true, credit: 2 ** 40 }))
  await eventually(() => db.replication.peers().some(({ id }) => id === '77'.repeat(16)))
  const peer = await openDatabase({ peers: [addressOf(db)] })
  const value = 'x'.repeat(1024 * 1024)
  for (let index = 0; index < 40; index++) await db.put(`key-${index % 4}`, value + index)
  await equal(db, peer)
  await eventually(() => db.replication.peers().every(({ id }) => id !== '77'.repeat(16)), { message: 'it is dropped' })
  socket.destroy()
})

const options: Record<string, object> = {
  'group: 7': { group: 7 },
  'an empty group': { group: '' },
  'a group that cannot become text': { group: Object.create(null) },
  'discovery as a word': { discovery: 'on' },
  'discovery on port 0': { discovery: { port: 0 } },
  'discovery over an interface that is no list': { discovery: { interfaces: 'eth0' } },
  'discovery with half a switch': { discovery: { bonjour: 1 } },
  'port: 70000': { port: 70_000 },
  'peers: 7': { peers: 7 },
  'peers as a promise': { peers: Promise.resolve(['127.0.0.1:9001']) },
  'peers as a set': { peers: new Set(['127.0.0.1:9001']) },
  'a bad address in a list of peers': { peers: ['127.0.0.1:9001', 'nowhere:0'] },
  'a bad address in a record of peers': { peers: { 'no where': true } },
  'a resolver that is no function': { resolver: {} },
  'host beyond loopback': { host: '0.0.0.0' },
  'a short secret': { secret: 'fifteen letters' },
  'a secret that is a number': { secret: 1234567890123456 },
  'a secret that was not set': { secret: undefined },
  'a secret and certificates': { secret: 'x'.repeat(16), tls: { key: 'k', cert: 'c', ca: 'a' } },
  'certificates without an authority': { tls: { key: 'k', cert: 'c' } },
  'certificates with no authority in the list': { tls: { key: 'k', cert: 'c', ca: [] } },
  'tls: true': { tls: true },
  'insecure: 1': { insecure: 1, host: '0.0.0.0' },
  'sync: 1': { sync: 1 },
  'transactionBytesMax: 0': { transactionBytesMax: 0 },
  'transactionBytesMax: 1 GiB': { transactionBytesMax: 1024 ** 3 },
  'initialSyncMs: -1': { initialSyncMs: -1 },
  'initialSyncMs that is no number': { initialSyncMs: NaN },
  'memberTtlMs: 0': { memberTtlMs: 0 },
  'memberTtlMs as text': { memberTtlMs: '30 days' },
  'a group of 256 bytes': { group: 'é'.repeat(128) },
  'a host that is no text': { host: 127 },
  'a resolverVersion that is no text': { resolverVersion: 2 },
  'a resolverVersion of 1025 bytes': { resolverVersion: 'v'.repeat(1025) },
  'discovery over interfaces that are no text': { discovery: { interfaces: [7] } }
}

for (const [name, bad] of Object.entries(options)) {
  test(`bad option, ${name}: refused with a code before anything is touched`, async () => {
    assert.throws(() => new ReplicatedLevel(newDirectory(), bad), (error: { code?: string }) => error.code === 'REPLICATION_INVALID_OPTION')
  })
}

test('options that are null are none; what is told of an adoption has to be a function', async () => {
  const db = await openDatabase()
  for await (const { key } of db.replication.conflicts(null)) assert.unreachable(key)
  const waiting = db.replication.synced(null)
  await Promise.all([db.close(), waiting.then(() => assert.unreachable(), ({ code }) => { assert.is(code, 'REPLICATION_DISCONNECTED') })])
  for (const [options, expected] of [[{ onProgress: 'yes' }, 'REPLICATION_INVALID_OPTION'], [null, 'LEVEL_DATABASE_NOT_OPEN']] as const) {
    await ReplicatedLevel.adopt(newDirectory(), options as never).then(() => assert.unreachable(), ({ code }) => { assert.is(code, expected) })
  }
})

test('versions of no key: refused with the code that a read of it has', async () => {
  const db = await openDatabase()
  for (const key of [undefined, null] as unknown as string[]) {
    for (const read of [() => db.replication.versions(key), () => db.get(key)]) {
      await read().then(() => assert.unreachable(), ({ code }) => { assert.is(code, 'LEVEL_INVALID_KEY') })
    }
  }
})

test.run()
