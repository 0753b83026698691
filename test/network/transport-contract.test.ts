/**
 * What every transport has to do, run on TCP and on the network in memory.
 */
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Uint8ArrayList } from 'uint8arraylist'
import type { ReplicationError } from '../../lib/errors.ts'
import { TcpTransport } from '../../lib/network/tcp.ts'
import { Protection } from '../../lib/network/tls.ts'
import type { Bytes, Connection, Listener, Transport } from '../../lib/network/transport.ts'
import { system } from '../../lib/system.ts'
import { makeCertificate } from '../support/certificates.ts'
import { eventually } from '../support/eventually.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'

transportContract('TCP', () => {
  const transport = new TcpTransport({ system })
  return { transport, remote: transport }
})

transportContract('TCP, protected by a secret', () => {
  const transport = new TcpTransport({ system, protection: Protection.bySecret(randomBytes(32)) })
  return { transport, remote: transport }
})

transportContract('TCP, protected by certificates', () => {
  const authority = makeCertificate('authority', { authority: true })
  const member = (name: string): TcpTransport => {
    const { key, cert } = makeCertificate(name, { issuer: authority })
    return new TcpTransport({ system, protection: Protection.byCertificate({ key, cert, ca: authority.cert }) })
  }
  return { transport: member('a'), remote: member('b') }
})

transportContract('memory', () => {
  const network = new MemoryNetwork()
  return { transport: network.transport('a'), remote: network.transport('b') }
})

transportContract('memory, in pieces of 7 bytes, in later turns', () => {
  const network = new MemoryNetwork({ fragmentBytes: 7, windowBytes: 700, schedule: (deliver) => { setImmediate(deliver) } })
  return { transport: network.transport('a'), remote: network.transport('b') }
}, 20_000)

const faults = suite('network in memory: faults')

async function faultyPair (): Promise<{ network: MemoryNetwork, near: Connection, far: Connection }> {
  const network = new MemoryNetwork()
  const accepted: Connection[] = []
  const listener = await network.transport('b').listen({ host: '0.0.0.0', port: 9000 }, (connection) => { accepted.push(connection) }, fail)
  assert.equal(listener.address, { host: 'b', port: 9000 })
  const near = await network.transport('a').dial(listener.address, { signal: new AbortController().signal, timeoutMs: 5000 })
  return { network, near, far: accepted[0] as Connection }
}

faults('cut() breaks both ends with REPLICATION_DISCONNECTED, and only between those two', async () => {
  const { network, near, far } = await faultyPair()
  const ends = [near.sink(silence()), far.sink(silence()), readAll(near), readAll(far)].map(rejection)
  network.cut('a', 'c')
  await new Promise((resolve) => { setImmediate(resolve) })
  network.cut('b', 'a')
  for (const end of ends) assert.is((await end).code, 'REPLICATION_DISCONNECTED')
})

faults('in a partition nothing arrives and nobody notices, a close neither; when it heals, what was held back arrives', async () => {
  const { network, near, far } = await faultyPair()
  let news = ''
  const read = (async () => { for await (const chunk of far.source) news += Buffer.from(chunk.slice()).toString() })().then(() => { news += '.' })
  network.partition('b', 'a', true)
  await near.sink(from([Buffer.from('late')]))
  near.close()
  for (let i = 0; i < 100; i++) await new Promise((resolve) => { setImmediate(resolve) })
  assert.is(news, '')
  assert.is(near.bytesSent, 4)
  network.partition('a', 'b', false)
  await read
  assert.is(news, 'late.')
})

faults.run()

interface Pair {
  transport: Transport
  remote: Transport
  listener: Listener
  /** The dialler's end, and the listener's. */
  near: Connection
  far: Connection
  errors: ReplicationError[]
}

function transportContract (name: string, make: () => { transport: Transport, remote: Transport }, manyBytes = 32 * 1024 * 1024): void {
  const test = suite(`transport contract: ${name}`)
  const dialOptions = { signal: new AbortController().signal, timeoutMs: 5000 }

  const withPair = (run: (pair: Pair) => Promise<void>) => async (): Promise<void> => {
    const { transport, remote } = make()
    const accepted: Connection[] = []
    const errors: ReplicationError[] = []
    const listener = await remote.listen({ host: '127.0.0.1', port: 0 }, (connection) => { accepted.push(connection) }, (error) => { errors.push(error) })
    const near = await transport.dial(listener.address, dialOptions)
    const far = await eventually(() => accepted[0])
    try {
      await run({ transport, remote, listener, near, far: far as Connection, errors })
    } finally {
      near.close()
      far?.close()
      await listener.close()
    }
  }

  test('bytes arrive whole and in order, both ways at once', withPair(async ({ near, far }) => {
    const [there, back] = [pseudoRandom(manyBytes / 16, 1), pseudoRandom(manyBytes / 16, 2)]
    const [farRead, nearRead] = await Promise.all([
      readAll(far), readAll(near), near.sink(inChunks(there, 5000)), far.sink(inChunks(back, 77_777))
    ])
    assert.ok(there.equals(farRead))
    assert.ok(back.equals(nearRead))
  }))

  test('a list of chunks is written as its bytes, and an empty one as nothing', withPair(async ({ near, far }) => {
    const list = new Uint8ArrayList(Buffer.from('one '), Buffer.from('two '))
    near.sink(from([list, new Uint8ArrayList(), new Uint8Array(0), Buffer.from('three')])).catch(fail)
    far.sink(from([])).catch(fail)
    assert.is((await readAll(far)).toString(), 'one two three')
  }))

  test('a small chunk arrives although the source stays open', withPair(async ({ near, far }) => {
    near.sink(then(from([Buffer.from('ping')]), silence())).catch(() => {})
    assert.is((await far.source[Symbol.asyncIterator]().next()).value.slice().toString(), 'ping')
  }))

  test('a reader that does not pull stops the writer, and loses nothing', withPair(async ({ transport, listener, near, far }) => {
    const bytes = pseudoRandom(manyBytes, 3)
    let pulledBytes = 0
    async function * counted (): AsyncIterable<Uint8Array> {
      for await (const chunk of inChunks(bytes, 1000)) {
        pulledBytes += chunk.byteLength
        yield chunk
      }
    }
    const written = near.sink(counted())
    await eventually(() => near.unsentBytes > 0)
    // Another connection is the clock: while it comes and goes, this one had every chance to run on.
    for (let i = 0; i < 100; i++) (await transport.dial(listener.address, dialOptions)).close()
    assert.ok(pulledBytes < manyBytes / 2, `${pulledBytes} of ${manyBytes} bytes were pulled`)
    assert.is(near.bytesSent + near.unsentBytes <= pulledBytes, true)
    far.sink(from([])).catch(fail)
    assert.ok(bytes.equals(await readAll(far)))
    await written
    assert.is(near.bytesSent, manyBytes)
    assert.is(near.unsentBytes, 0)
    assert.is(far.bytesReceived, manyBytes)
  }))

  test('the end of one direction leaves the other open', withPair(async ({ near, far }) => {
    await near.sink(from([Buffer.from('question')]))
    assert.is((await readAll(far)).toString(), 'question')
    await far.sink(from([Buffer.from('answer')]))
    assert.is((await readAll(near)).toString(), 'answer')
  }))

  test('what was written before the end arrives, although the writer closes then', withPair(async ({ near, far }) => {
    const goodbye = pseudoRandom(500, 4)
    await near.sink(from([goodbye]))
    near.close()
    assert.ok(goodbye.equals(await readAll(far)))
  }))

  test('close() ends source and sink, and the remote\'s source', withPair(async ({ near, far }) => {
    let left = false
    const sink = near.sink(silence(() => { left = true }))
    const source = readAll(near)
    near.close()
    near.close(new Error('only the first call counts'))
    await sink
    assert.is((await source).byteLength, 0)
    assert.ok(left, 'the given source was returned')
    assert.is((await readWhatComes(far)).byteLength, 0)
  }))

  test('what had arrived and was not read is lost with close()', withPair(async ({ near, far }) => {
    far.sink(then(from([Buffer.from('unread')]), silence())).catch(() => {})
    await eventually(() => near.bytesReceived === 6)
    near.close()
    assert.is((await readAll(near)).byteLength, 0)
  }))

  test('a sink used after close() ends at once, and a second use is refused', withPair(async ({ near, far }) => {
    near.close()
    await near.sink(silence())
    far.sink(silence()).catch(() => {})
    assert.is((await rejection(far.sink(silence()))).code, 'REPLICATION_INTERNAL')
  }))

  test('close(error) ends source and sink with that error', withPair(async ({ near }) => {
    const error = new Error('no more')
    const sink = near.sink(silence())
    const source = near.source[Symbol.asyncIterator]().next()
    near.close(error)
    assert.is(await rejection(sink), error)
    assert.is(await rejection(source), error)
    assert.is(await rejection(near.source[Symbol.asyncIterator]().next()), error)
  }))

  test('writing to a remote that has closed fails with REPLICATION_DISCONNECTED', withPair(async ({ near, far }) => {
    const endless = near.sink(forEver())
    far.close()
    assert.is((await rejection(endless)).code, 'REPLICATION_DISCONNECTED')
  }))

  test('an error of the given source closes the connection and rejects the sink', withPair(async ({ near, far }) => {
    const error = new Error('source broke')
    async function * broken (): AsyncIterable<Uint8Array> { throw error }
    assert.is(await rejection(near.sink(broken())), error)
    assert.is((await readWhatComes(far)).byteLength, 0)
  }))

  test('leaving the source early closes the connection', withPair(async ({ near, far }) => {
    near.sink(then(from([Buffer.from('x')]), silence())).catch(() => {})
    const sink = far.sink(silence())
    let bytes = 0
    for await (const chunk of far.source) {
      bytes += chunk.byteLength
      if (bytes === 1) break
    }
    await sink
    assert.is((await readAll(near)).byteLength, 0)
  }))

  test('a writer that never pauses lets others have their turn', withPair(async ({ near, far }) => {
    near.sink(forEver()).catch(() => {})
    let bytes = 0
    for await (const chunk of far.source) {
      bytes += chunk.byteLength
      if (bytes > manyBytes / 4) break
    }
    await new Promise((resolve) => { setImmediate(resolve) })
  }))

  test('dialling where nobody listens fails with REPLICATION_DIAL_FAILED', withPair(async ({ transport, listener }) => {
    await listener.close()
    const error = await rejection(transport.dial(listener.address, dialOptions))
    assert.is(error.code, 'REPLICATION_DIAL_FAILED')
    assert.match(error.message, `:${listener.address.port}`)
  }))

  test('an aborted dial fails with REPLICATION_DIAL_FAILED, before and while it is made', withPair(async ({ transport, listener }) => {
    const controller = new AbortController()
    const dial = transport.dial(listener.address, { signal: controller.signal, timeoutMs: 5000 })
    const reason = new Error('not wanted')
    controller.abort(reason)
    const error = await rejection(dial)
    assert.is(error.code, 'REPLICATION_DIAL_FAILED')
    assert.is(error.cause, reason)
    assert.is((await rejection(transport.dial(listener.address, { signal: controller.signal, timeoutMs: 5000 }))).code, 'REPLICATION_DIAL_FAILED')
  }))

  test('a port is taken while it is listened on, and free again after close() while connections live on', withPair(async ({ remote, listener, near, far }) => {
    const error = await rejection(remote.listen(listener.address, () => {}, fail))
    assert.is(error.code, 'REPLICATION_ADDRESS_IN_USE')
    await listener.close()
    await listener.close()
    const again = await remote.listen(listener.address, () => {}, fail)
    assert.equal(again.address, listener.address)
    await again.close()
    await near.sink(from([Buffer.from('still here')]))
    assert.is((await readAll(far)).toString(), 'still here')
  }))

  test('an onConnection that throws closes that connection, and is reported', async () => {
    const { transport, remote } = make()
    const errors: ReplicationError[] = []
    const listener = await remote.listen({ host: '127.0.0.1', port: 0 }, () => { throw new Error('refused') }, (error) => { errors.push(error) })
    // Where a handshake is part of the dial, it may be cut short.
    const connection = await transport.dial(listener.address, dialOptions).catch(() => undefined)
    if (connection !== undefined) assert.is((await readWhatComes(connection)).byteLength, 0)
    await eventually(() => errors.length > 0)
    assert.is(errors.length, 1)
    assert.is(errors[0]?.message, 'refused')
    assert.is(errors[0]?.code, 'REPLICATION_INTERNAL')
    connection?.close()
    await listener.close()
  })

  test('each end knows the host of the other', withPair(async ({ listener, near, far }) => {
    assert.equal(near.remote, listener.address)
    assert.type(far.remote.host, 'string')
    assert.ok(far.remote.port > 0)
  }))

  test.run()
}

async function readAll ({ source }: Connection): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk instanceof Uint8Array ? chunk : chunk.slice())
  return Buffer.concat(chunks)
}

/** As {@link readAll}; a remote that closes with bytes unread, TLS's own too, breaks the connection instead of ending it. */
async function readWhatComes (connection: Connection): Promise<Buffer> {
  return await readAll(connection).catch((error: ReplicationError) => {
    assert.is(error.code, 'REPLICATION_DISCONNECTED')
    return Buffer.alloc(0)
  })
}

async function * from (chunks: Bytes[]): AsyncIterable<Bytes> {
  yield * chunks
}

async function * then (...sources: Array<AsyncIterable<Bytes>>): AsyncIterable<Bytes> {
  for (const source of sources) yield * source
}

async function * inChunks (bytes: Buffer, size: number): AsyncIterable<Uint8Array> {
  for (let offset = 0; offset < bytes.byteLength; offset += size) yield bytes.subarray(offset, offset + size)
}

async function * forEver (): AsyncIterable<Uint8Array> {
  const chunk = new Uint8Array(1000)
  for (;;) yield chunk
}

/** A source that says nothing; `onReturn` tells that it was left. */
function silence (onReturn: () => void = () => {}): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]: () => ({
      next: async () => await new Promise(() => {}),
      return: async () => { onReturn(); return { done: true, value: undefined } }
    })
  }
}

async function rejection (promise: Promise<unknown>): Promise<ReplicationError> {
  try {
    await promise
  } catch (error) {
    return error as ReplicationError
  }
  throw new Error('it did not reject')
}

function pseudoRandom (size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size)
  let state = seed
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    bytes[i] = state >>> 16
  }
  return bytes
}

function fail (error: unknown): never {
  throw error
}
