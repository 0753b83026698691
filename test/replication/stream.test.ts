/**
 * A conversation rides on anything that carries bytes in order.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { MessageChannel, Worker } from 'node:worker_threads'
import { pipe } from 'it-pipe'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Duplex } from '../../lib/index.ts'
import { StreamConnection } from '../../lib/network/stream.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { portDuplex } from '../support/port-duplex.ts'
import { addressOf, closeAll, equal, linked, openDatabase, type Events } from '../support/replicas.ts'

type Database = Awaited<ReturnType<typeof openDatabase>>

const test = suite('stream()')
test.after.each(closeAll)

test('two databases of one process, piped into each other', async () => {
  const a = await openDatabase({ port: false })
  const b = await openDatabase({ port: false })
  await a.put('a', '1')
  await b.put('b', '2')
  const [left, right] = [a.replication.stream(), b.replication.stream()]
  const piped = pipe(left, right, left)
  await equal(a, b)
  assert.equal(await a.keys().all(), ['a', 'b'])
  await closeAll()
  await piped
})

for (const [name, options] of [['', {}], [', with a secret', { secret: 'correct horse battery staple' }]] as const) {
  test(`a stream that fails is told with a code${name}`, async () => {
    const db = await openDatabase({ port: false, ...options })
    let ended = false
    db.on('error', () => { ended = true })
    const { source, sink } = db.replication.stream()
    await sink((async function * (): AsyncGenerator<Uint8Array> { throw new Error('the wire was cut') })())
    for await (const _bytes of source) { /* until it ends */ }
    if ('secret' in options) await eventually(() => ended)
    for (const { code, message } of db.errors) assert.equal([code, message], ['REPLICATION_DISCONNECTED', 'the wire was cut'])
    assert.equal(db.replication.peers(), [])
  })
}

test('who writes to a stream is held back while nobody reads, and lets others have their turn', async () => {
  const stream = new StreamConnection()
  let given = 0
  const source = async function * (): AsyncGenerator<Uint8Array> {
    for (; given < 20; given++) yield new Uint8Array(100_000)
  }
  const sunk = stream.duplex.sink(source())
  await setImmediate()
  assert.is(given, 2, 'the third is waited with')
  const reader = stream.source[Symbol.asyncIterator]()
  for (let read = 0; read < 3; read++) await reader.next()
  await setImmediate()
  assert.is(given, 5)
  stream.close()
  await sunk
})

for (const [name, options] of [['', {}], [', with a secret', { secret: 'correct horse battery staple' }]] as const) {
  test(`more than may wait for a reader goes over a stream${name}`, async () => {
    const a = await openDatabase({ port: false, ...options })
    for (let index = 0; index < 50; index++) await a.put(`key-${index}`, 'x'.repeat(100_000))
    const b = await openDatabase({ port: false, ...options })
    const [left, right] = [a.replication.stream(), b.replication.stream()]
    const piped = pipe(left, right, left).catch(() => {}) // what is said last may be cut off
    await equal(a, b)
    await b.close()
    await piped
  })
}

for (const lowerDials of [true, false]) {
  for (const streamFirst of [true, false]) {
    test(`a stream ${streamFirst ? 'before' : 'after'} a link that the replica with the ${lowerDials ? 'lower' : 'higher'} id dials: it stays, and when it has ended the other comes back`, async () => {
      const [low, high] = [await openDatabase(), await openDatabase()].sort((a, b) => a.replication.id < b.replication.id ? -1 : 1)
      const [near, far] = lowerDials ? [low!, high!] : [high!, low!]
      const links = (): string => [near, far].flatMap((db) => db.replication.peers().map(({ address, state }) => `${address.host} ${state}`)).join(', ')
      const dial = (): void => { near.replication.connect(addressOf(far)) }
      let streamsEnded = 0
      ;(near as Events).on('disconnect', (host) => { if (host === 'stream') streamsEnded++ })
      if (!streamFirst) {
        dial()
        await linked(near, far)
      }
      const [left, right] = [near.replication.stream(), far.replication.stream()]
      const wire = new AbortController()
      const cut = once(wire.signal, 'abort').then(() => { throw new Error('the wire was cut') })
      const piped = pipe(left, right, async function * (source) {
        const bytes = source[Symbol.asyncIterator]()
        for (let next = await bytes.next(); next.done !== true; next = await Promise.race([bytes.next(), cut])) yield next.value
      }, left).catch(() => {})
      await eventually(() => links() === 'stream live, stream live')
      if (streamFirst) dial()
      await eventually(() => links() === 'stream live, stream live')
      await near.put('key', 'value')
      await near.replication.synced()
      assert.is(streamsEnded, 0)
      wire.abort()
      await piped
      await eventually(() => links() === '127.0.0.1 live, 127.0.0.1 live')
    })
  }
}

for (const lowerFirst of ['first', 'second'] as const) {
  for (const higherFirst of ['first', 'second'] as const) {
    test(`two streams, of which the replica with the lower id greets on the ${lowerFirst} before the other, and the one with the higher id on the ${higherFirst}: both keep the same one`, async () => {
      const [low, high] = [await openDatabase({ port: false }), await openDatabase({ port: false })].sort((a, b) => a.replication.id < b.replication.id ? -1 : 1) as [Database, Database]
      const ended = [0, 0]
      for (const [index, db] of [low, high].entries()) (db as Events).on('disconnect', () => { ended[index]!++ })
      const isGreeted = new Map([low, high].map((db) => [db, once(db as Events, 'connection')]))
      const from = async function * (source: Duplex['source'], after?: Promise<unknown>): AsyncGenerator<Uint8Array> {
        await after
        for await (const bytes of source) yield bytes.subarray()
      }
      const over = { first: false, second: false }
      for (const name of ['first', 'second'] as const) {
        const [left, right] = [low.replication.stream(), high.replication.stream()]
        const ends = [
          left.sink(from(right.source, lowerFirst === name ? undefined : isGreeted.get(low))),
          right.sink(from(left.source, higherFirst === name ? undefined : isGreeted.get(high)))
        ]
        void Promise.allSettled(ends).then(() => { over[name] = true })
      }
      await eventually(() => over.first || over.second)
      await low.put('key', 'value')
      await eventually(async () => await high.get('key') === 'value')
      assert.equal(over, { first: lowerFirst === 'first', second: lowerFirst === 'second' }, 'the one that came later to the lower id stays')
      assert.equal(ended, [1, 1])
      for (const db of [low, high]) assert.equal(db.replication.peers().map(({ state }) => state), ['live'])
    })
  }
}

test('a worker, over a MessagePort', async () => {
  const db = await openDatabase({ port: false })
  const [conversation, control] = [new MessageChannel(), new MessageChannel()]
  const worker = new Worker(`import('tsx/esm/api').then(({ tsImport }) => tsImport(${JSON.stringify(new URL('../support/stream-worker.ts', import.meta.url).href)}, ${JSON.stringify(import.meta.url)}))`, {
    eval: true,
    workerData: { directory: newDirectory(), conversation: conversation.port2, control: control.port2 },
    transferList: [conversation.port2, control.port2]
  })
  const ask = async (message: object): Promise<unknown> => {
    control.port1.postMessage(message)
    return (await once(control.port1, 'message'))[0]
  }
  const duplex = portDuplex(conversation.port1)
  const piped = pipe(duplex, db.replication.stream(), duplex)
  await db.put('main', 'thread')
  await ask({ put: ['worker', 'thread'] })
  await eventually(async () => await db.get('worker') === 'thread')
  await eventually(async () => await ask({ get: 'main' }) === 'thread')
  await db.replication.synced()
  await ask({ close: true })
  await piped
  conversation.port1.close()
  control.port1.close()
  await worker.terminate()
})

test('a child process, over its standard input and output', async () => {
  const db = await openDatabase({ port: false })
  await db.put('parent', 'is here')
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), fileURLToPath(new URL('../support/stream-child.ts', import.meta.url)), newDirectory()], { stdio: ['pipe', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const stdio: Duplex = {
    source: child.stdout,
    sink: async (chunks) => {
      for await (const chunk of chunks) child.stdin.write(chunk.subarray())
      child.stdin.end()
    }
  }
  const piped = pipe(stdio, db.replication.stream(), stdio)
  await eventually(async () => await db.get('child') === 'was here')
  await db.replication.synced()
  await closeAll()
  await piped.catch(() => {})
  assert.equal(await exited, [0, null])
})

test.run()
