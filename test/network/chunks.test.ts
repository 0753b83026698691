/** Chunks between who pushes them and who pulls. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Chunks } from '../../lib/network/chunks.ts'

const chunk = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes)

test('chunks come in their order, to a reader who waits and to one who comes later', async () => {
  const chunks = new Chunks()
  const first = chunks.next()
  chunks.push(chunk(1))
  chunks.push(chunk(2, 2))
  chunks.push(chunk(3, 3, 3))
  assert.is(chunks.length, 2)
  assert.is(chunks.bytes, 5)
  assert.equal(await first, { done: false, value: chunk(1) })
  assert.equal(await chunks.next(), { done: false, value: chunk(2, 2) })
  assert.is(chunks.bytes, 3)
})

test('a reader who waits goes on in the next microtask', async () => {
  const chunks = new Chunks()
  let came = false
  const reading = chunks.next().then(() => { came = true })
  chunks.push(chunk(1))
  await undefined
  assert.ok(came)
  await reading
})

test('what has come before the end is read, then there is nothing more', async () => {
  const chunks = new Chunks()
  chunks.push(chunk(1))
  chunks.end()
  chunks.push(chunk(2))
  const read: Uint8Array[] = []
  for await (const value of chunks) read.push(value)
  assert.equal(read, [chunk(1)])
  assert.equal(await chunks.next(), { done: true, value: undefined })
})

test('who waits hears of the end, and of a failure', async () => {
  const ended = new Chunks()
  const waiting = ended.next()
  ended.end()
  assert.equal(await waiting, { done: true, value: undefined })
  const failed = new Chunks()
  const rejected = failed.next().then(() => undefined, (error: Error) => error.message)
  failed.end(new Error('broken'))
  assert.is(await rejected, 'broken')
  assert.is(await failed.next().then(() => undefined, (error: Error) => error.message), 'broken')
})

test('a reader who leaves leaves nothing behind', async () => {
  const chunks = new Chunks()
  chunks.push(chunk(1))
  chunks.push(chunk(2))
  assert.equal(await chunks.next(), { done: false, value: chunk(1) })
  assert.equal(await chunks.return(), { done: true, value: undefined })
  assert.is(chunks.length, 0)
  assert.is(chunks.bytes, 0)
  chunks.push(chunk(3))
  assert.equal(await chunks.next(), { done: true, value: undefined })
})

test.run()
