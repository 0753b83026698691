/**
 * What is special about TCP; the rest is in transport-contract.test.ts.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Uint8ArrayList } from 'uint8arraylist'
import type { ReplicationError } from '../../lib/errors.ts'
import { SocketConnection, TcpTransport } from '../../lib/network/tcp.ts'
import { Protection } from '../../lib/network/tls.ts'
import type { Connection, Listener } from '../../lib/network/transport.ts'
import { system } from '../../lib/system.ts'
import type { System } from '../../lib/types.ts'
import { eventually } from '../support/eventually.ts'

const transport = new TcpTransport({ system })
const options = { signal: new AbortController().signal, timeoutMs: 5000 }
const loopback = { host: '127.0.0.1', port: 0 }

async function rejection (promise: Promise<unknown>): Promise<ReplicationError> {
  return await promise.then(() => assert.unreachable('it did not reject'), (error) => error)
}

/** What a test leaves open, also one that fails. */
const leftOpen: Array<() => void> = []
test.after.each(() => { for (const end of leftOpen.splice(0)) end() })

/** A raw socket with a raw peer, and the sizes of the system calls that write to it. */
async function rawPair (): Promise<{ socket: Socket, peer: Socket, writes: number[] }> {
  const peers: Socket[] = []
  const server = createServer((socket) => { peers.push(socket.on('error', () => {})) }).listen(0, '127.0.0.1')
  await eventually(() => server.listening)
  const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
  const peer = await eventually(() => peers[0]) as Socket
  await eventually(() => socket.readyState === 'open')
  const writes: number[] = []
  const [write, writev] = [socket._write.bind(socket), socket._writev?.bind(socket)]
  socket._write = (chunk, encoding, callback) => { writes.push(chunk.length); write(chunk, encoding, callback) }
  socket._writev = (chunks, callback) => {
    writes.push(chunks.reduce((sum, { chunk }) => sum + chunk.length, 0))
    writev?.(chunks, callback)
  }
  leftOpen.push(() => { socket.destroy(); peer.destroy(); server.close() })
  return { socket, peer, writes }
}

test('all that is ready in one tick goes out in one system call, in that tick', async () => {
  const { socket, writes } = await rawPair()
  const connection = new SocketConnection(socket, loopback, system)
  connection.sink((async function * () {
    for (let i = 0; i < 100; i++) yield Buffer.alloc(10)
    yield new Uint8ArrayList(Buffer.alloc(10), Buffer.alloc(10))
    await new Promise(() => {})
  })()).catch(() => {})
  await new Promise((resolve) => { setImmediate(resolve) })
  assert.equal(writes, [1020])
})

test('a chunk that is alone leaves at once', async () => {
  const { socket, writes } = await rawPair()
  let push: (chunk: Uint8Array) => void = () => {}
  new SocketConnection(socket, loopback, system).sink((async function * () {
    for (;;) yield await new Promise<Uint8Array>((resolve) => { push = resolve })
  })()).catch(() => {})
  for (let i = 1; i <= 3; i++) {
    await new Promise((resolve) => { setImmediate(resolve) })
    push(Buffer.alloc(i))
    await new Promise((resolve) => { setImmediate(resolve) })
    assert.is(writes.length, i, 'it had left before the next turn of the event loop')
  }
  assert.equal(writes, [1, 2, 3])
})

test('much at once goes out in large writes, and the source is pulled no further than it is taken', async () => {
  const { socket, peer, writes } = await rawPair()
  let pulledBytes = 0
  const connection = new SocketConnection(socket, loopback, system)
  peer.pause()
  connection.sink((async function * () {
    for (;;) {
      pulledBytes += 1000
      yield Buffer.alloc(1000)
    }
  })()).catch(() => {})
  await eventually(() => connection.unsentBytes > 0)
  assert.ok(Math.max(...writes) >= 200_000, `largest write: ${Math.max(...writes)}`)
  assert.ok(connection.unsentBytes < 300 * 1024, `${connection.unsentBytes} bytes wait`)
  assert.ok(pulledBytes - connection.bytesSent <= 300 * 1024)
})

test('a socket whose reader does not pull is paused, and has read a bounded number of bytes', async () => {
  const { socket, peer } = await rawPair()
  const connection = new SocketConnection(socket, loopback, system)
  for (let i = 0; i < 200; i++) peer.write(Buffer.alloc(100_000))
  await eventually(() => socket.isPaused())
  await eventually(() => peer.writableLength > 0)
  assert.ok(connection.bytesReceived < 2 * 1024 * 1024, `${connection.bytesReceived} bytes were read`)
  let bytes = 0
  for await (const chunk of connection.source) {
    bytes += chunk.byteLength
    if (bytes === 20_000_000) break
  }
})

test('many small packets pause it too', async () => {
  const { socket, peer } = await rawPair()
  peer.setNoDelay(true)
  const connection = new SocketConnection(socket, loopback, system)
  for (let sent = 1; !socket.isPaused(); sent++) {
    peer.write('x')
    await eventually(() => connection.bytesReceived >= sent)
    assert.ok(sent < 1000)
  }
})

test('a reset ends source and sink with REPLICATION_DISCONNECTED, after what had arrived', async () => {
  const { socket, peer } = await rawPair()
  const connection = new SocketConnection(socket, { host: 'there', port: 7 }, system)
  const sink = rejection(connection.sink((async function * () { await new Promise(() => {}) })()))
  peer.write('last words')
  await eventually(() => connection.bytesReceived === 10)
  peer.resetAndDestroy()
  assert.is((await sink).code, 'REPLICATION_DISCONNECTED')
  assert.match((await sink).message, 'there:7')
  assert.is(((await sink).cause as NodeJS.ErrnoException).code, 'ECONNRESET')
  const iterator = connection.source[Symbol.asyncIterator]()
  assert.is(Buffer.from((await iterator.next()).value as Uint8Array).toString(), 'last words')
  assert.is((await rejection(iterator.next())).code, 'REPLICATION_DISCONNECTED')
})

test('several reads at once are answered in order', async () => {
  const { socket, peer } = await rawPair()
  const iterator = new SocketConnection(socket, loopback, system).source[Symbol.asyncIterator]()
  const reads = [iterator.next(), iterator.next(), iterator.next()]
  peer.write('1')
  await reads[0]
  peer.end('2')
  const results = await Promise.all(reads)
  assert.equal(results.map(({ value }) => value === undefined ? value : Buffer.from(value).toString()), ['1', '2', undefined])
})

test('a dial without an answer fails at its time limit, with the limit', async () => {
  const impatient: System = { ...system, setTimer: (callback, delayMs) => { queueMicrotask(callback); return delayMs } }
  const listener = await transport.listen(loopback, (connection) => { connection.close() }, assert.unreachable)
  const error = await rejection(new TcpTransport({ system: impatient }).dial(listener.address, { ...options, timeoutMs: 321 }))
  assert.is(error.code, 'REPLICATION_DIAL_FAILED')
  assert.match(error.message, '321 ms')
  assert.is((error.cause as ReplicationError).code, 'REPLICATION_TIMEOUT')
  await listener.close()
})

for (const protection of [undefined, Protection.bySecret(Buffer.alloc(32))]) {
  test(`a dial that has succeeded is over: neither its time nor an abort ends the connection${protection === undefined ? '' : ', with a secret'}`, async () => {
    const timers = new Set<unknown>()
    const watched: System = {
      ...system,
      setTimer: (...given) => {
        const timer = system.setTimer(...given)
        timers.add(timer)
        return timer
      },
      clearTimer: (timer) => {
        timers.delete(timer)
        system.clearTimer(timer)
      }
    }
    const dialler = new TcpTransport({ system: watched, protection })
    const controller = new AbortController()
    const accepted: Connection[] = []
    const listener = await new TcpTransport({ system, protection }).listen(loopback, (connection) => { accepted.push(connection) }, assert.unreachable)
    const near = await dialler.dial(listener.address, { ...options, signal: controller.signal })
    const far = await eventually(() => accepted[0]) as Connection
    assert.is(timers.size, 0)
    controller.abort()
    await far.sink((async function * () { yield Buffer.from('there') })())
    assert.is(Buffer.from((await near.source[Symbol.asyncIterator]().next()).value as Uint8Array).toString(), 'there')
    for (const connection of [near, far]) connection.close()
    await listener.close()
    await rejection(dialler.dial(listener.address, options))
    assert.is(timers.size, 0)
  })
}

test('a dial that is aborted while the other end does not answer the handshake ends at once, and says why', async () => {
  const sockets: Socket[] = []
  const server = createServer((socket) => { sockets.push(socket.on('error', () => {})) }).listen(0, '127.0.0.1')
  await eventually(() => server.listening)
  leftOpen.push(() => { for (const socket of sockets) socket.destroy(); server.close() })
  const controller = new AbortController()
  const dial = rejection(new TcpTransport({ system, protection: Protection.bySecret(Buffer.alloc(32)) }).dial({ host: '127.0.0.1', port: (server.address() as AddressInfo).port }, { ...options, signal: controller.signal }))
  await eventually(() => (sockets[0]?.bytesRead ?? 0) > 0)
  const reason = new Error('not wanted')
  controller.abort(reason)
  const error = await dial
  assert.equal([error.code, error.cause], ['REPLICATION_DIAL_FAILED', reason])
})

test('a refused dial names the address and keeps the cause; an impossible port is an error, not a crash', async () => {
  const listener = await transport.listen(loopback, () => {}, assert.unreachable)
  await listener.close()
  const error = await rejection(transport.dial(listener.address, options))
  assert.match(error.message, `127.0.0.1:${listener.address.port}`)
  assert.is((error.cause as NodeJS.ErrnoException).code, 'ECONNREFUSED')
  assert.is((await rejection(transport.dial({ host: '127.0.0.1', port: 70_000 }, options))).code, 'REPLICATION_DIAL_FAILED')
})

test('a host with several addresses fails with the reasons of all', async () => {
  const listener = await transport.listen(loopback, () => {}, assert.unreachable)
  await listener.close()
  const error = await rejection(transport.dial({ host: 'localhost', port: listener.address.port }, options))
  assert.match(error.message, /ECONNREFUSED|EADDRNOTAVAIL/)
})

test('listening where it cannot be fails with REPLICATION_LISTEN_FAILED', async () => {
  for (const address of [{ host: '192.0.2.1', port: 0 }, { host: '127.0.0.1', port: 70_000 }]) {
    const error = await rejection(transport.listen(address, () => {}, assert.unreachable))
    assert.is(error.code, 'REPLICATION_LISTEN_FAILED')
    assert.match(error.message, address.host)
  }
})

test('an IPv4 remote of a listener on all interfaces is shown as IPv4', async () => {
  const accepted: Connection[] = []
  let listener: Listener
  try {
    listener = await transport.listen({ host: '::', port: 0 }, (connection) => { accepted.push(connection) }, assert.unreachable)
  } catch (error) {
    console.error('skipped: no IPv6 on this machine:', (error as Error).message)
    return
  }
  const connection = await transport.dial({ host: '127.0.0.1', port: listener.address.port }, options)
  const inbound = await eventually(() => accepted[0]) as Connection
  assert.is(inbound.remote.host, '127.0.0.1')
  inbound.close()
  connection.close()
  await listener.close()
})

test('small messages are not delayed: RFC 896 is off at both ends', async () => {
  const { socket } = await rawPair()
  const handle = Object.getPrototypeOf((socket as unknown as { _handle: object })._handle)
  const { setNoDelay } = handle
  const calls: boolean[] = []
  handle.setNoDelay = function (on: boolean) { calls.push(on); return setNoDelay.call(this, on) }
  leftOpen.push(() => { handle.setNoDelay = setNoDelay })
  const accepted: Connection[] = []
  const listener = await transport.listen(loopback, (connection) => { accepted.push(connection) }, assert.unreachable)
  const near = await transport.dial(listener.address, options)
  const far = await eventually(() => accepted[0])
  near.close()
  far?.close()
  await listener.close()
  assert.equal(calls, [true, true])
})

test.run()
