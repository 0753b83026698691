/**
 * Data messages on their way out: in fragments, as far as credit goes.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { decodeFrame, encodeData } from '../../lib/codec/message.ts'
import { creditWindowBytes, fragmentBytes } from '../../lib/limits.ts'
import { Outbox } from '../../lib/sync/outbox.ts'

/** A message with so many bytes of payload. */
const message = (bytes: number, fill = 0): Buffer => encodeData({ type: 'chunk', bytes: Buffer.alloc(bytes - 1, fill) })

function takeAll (outbox: Outbox): Array<{ last: boolean, bytes: Buffer }> {
  const fragments: Array<{ last: boolean, bytes: Buffer }> = []
  for (let frame = outbox.take(); frame !== undefined; frame = outbox.take()) {
    const decoded = decodeFrame(frame)
    if (decoded.type !== 'fragment') throw new Error(`a frame of type ${decoded.type}`)
    fragments.push(decoded)
  }
  return fragments
}

test('nothing goes without credit, and credit is used up by payload', () => {
  const outbox = new Outbox(0)
  outbox.push(message(100))
  assert.is(outbox.pending, 100)
  assert.equal(takeAll(outbox), [])
  outbox.grant(99)
  assert.equal(takeAll(outbox), [])
  outbox.grant(51)
  assert.is(takeAll(outbox).length, 1)
  assert.is(outbox.credit, 50)
  assert.is(outbox.pending, 0)
})

test('credit beyond a window counts for a window', () => {
  const outbox = new Outbox(0)
  for (let times = 0; times < 3; times++) outbox.grant(2 ** 40)
  assert.is(outbox.credit, creditWindowBytes)
})

test('a long message is cut, and put together it is what it was', () => {
  const outbox = new Outbox(10 * fragmentBytes)
  const encoded = message(2 * fragmentBytes + 5, 7)
  outbox.push(encoded)
  outbox.push(message(1))
  const fragments = takeAll(outbox)
  assert.equal(fragments.map(({ last, bytes }) => [last, bytes.length]), [[false, fragmentBytes], [false, fragmentBytes], [true, 5], [true, 1]])
  assert.ok(Buffer.concat(fragments.slice(0, 3).map(({ bytes }) => bytes)).equals(encoded.subarray(1)))
})

test('a message of exactly one or two fragments has no empty one at its end', () => {
  for (const count of [1, 2]) {
    const outbox = new Outbox(10 * fragmentBytes)
    outbox.push(message(count * fragmentBytes))
    assert.equal(takeAll(outbox).map(({ last, bytes }) => [last, bytes.length]), Array.from({ length: count }, (_, index) => [index === count - 1, fragmentBytes]))
  }
})

test('what has not begun can be dropped, what has begun is finished', () => {
  const outbox = new Outbox(fragmentBytes)
  outbox.push(message(2 * fragmentBytes))
  outbox.push(message(10))
  assert.is(takeAll(outbox).length, 1)
  outbox.dropUnsent(() => true)
  assert.is(outbox.pending, fragmentBytes)
  outbox.grant(10 * fragmentBytes)
  assert.equal(takeAll(outbox).map(({ last }) => last), [true])
  outbox.push(message(10))
  outbox.dropUnsent(() => true)
  assert.is(outbox.pending, 0)
  assert.equal(takeAll(outbox), [])
})

test('what may not be dropped keeps its place', () => {
  const outbox = new Outbox(0)
  for (const bytes of [10, 20, 30]) outbox.push(message(bytes))
  outbox.dropUnsent((message) => message.length !== 21)
  assert.is(outbox.pending, 20)
  outbox.grant(100)
  assert.equal(takeAll(outbox).map(({ bytes }) => bytes.length), [20])
})

test.run()
