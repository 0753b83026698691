/**
 * A conversation rides on anything that carries bytes in order.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { MessageChannel, Worker } from 'node:worker_threads'
import { pipe } from 'it-pipe'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Duplex } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { portDuplex } from '../support/port-duplex.ts'
import { closeAll, equal, openDatabase } from '../support/replicas.ts'

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
  test(`more than what may wait for a reader${name}, and a close in the middle of it`, async () => {
    const a = await openDatabase({ port: false, ...options })
    for (let index = 0; index < 200; index++) await a.put(`key-${index}`, 'x'.repeat(100_000))
    const b = await openDatabase({ port: false, ...options })
    for (let index = 0; index < 4; index++) {
      const other = index < 3 ? await openDatabase({ port: false, ...options }) : b
      const [left, right] = [a.replication.stream(), other.replication.stream()]
      const piped = pipe(left, right, left).catch(() => {}) // TLS may be cut off
      if (other === b) await equal(a, b)
      else await eventually(() => other.replication.peers().some(({ bytes }) => bytes.received > 1_000_000))
      await other.close()
      await piped
    }
  })
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
  const [code] = await once(child, 'exit')
  assert.is(code, 0)
})

test.run()
