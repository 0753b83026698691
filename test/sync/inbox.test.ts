/**
 * Data messages on their way in: put together from fragments, and granted again when they are consumed.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeData, encodeUnitBody } from '../../lib/codec/message.ts'
import { encodeUnit } from '../support/units.ts'
import { MiB, waitingMessagesMax } from '../../lib/limits.ts'
import { Inbox } from '../../lib/sync/inbox.ts'

const chunk = (bytes: number): Buffer => encodeData({ type: 'chunk', bytes: Buffer.alloc(bytes - 1) }).subarray(1)
const begin = encodeData({ type: 'begin', resumes: false, kind: 'catch-up', vector: [], collected: [], entries: 0 }).subarray(1)

function codeOf (act: () => void): string | undefined {
  try {
    act()
  } catch (error) {
    return (error as { code: string }).code
  }
  return undefined
}

test('a message is there when its last fragment is', () => {
  const inbox = new Inbox(1000, 1000)
  const bytes = chunk(100)
  inbox.receive(bytes.subarray(0, 40), false)
  assert.is(inbox.head, undefined)
  inbox.receive(bytes.subarray(40), true)
  assert.is(inbox.head!.type, 'chunk')
  assert.is(inbox.take().bytes, 100)
  assert.is(inbox.head, undefined)
})

test('messages that wait keep what they hold while others come in pieces', () => {
  const inbox = new Inbox(1000, 1000)
  for (const fill of ['a', 'b']) {
    const bytes = encodeData({ type: 'chunk', bytes: Buffer.alloc(99, fill) }).subarray(1)
    inbox.receive(bytes.subarray(0, 40), false)
    inbox.receive(bytes.subarray(40), true)
  }
  for (const fill of ['a', 'b']) assert.equal((inbox.take().message as { bytes: Buffer }).bytes, Buffer.alloc(99, fill))
})

test('of messages that wait there are so many at most, however small', () => {
  const inbox = new Inbox(MiB, MiB)
  for (let count = 0; count < waitingMessagesMax; count++) inbox.receive(chunk(2), true)
  assert.is(codeOf(() => { inbox.receive(chunk(2), true) }), 'REPLICATION_PROTOCOL')
})

test('a message that has waited takes no longer for all that wait behind it', () => {
  const filled = (count: number): Inbox => {
    const inbox = new Inbox(MiB, MiB)
    for (let index = 0; index < count; index++) inbox.receive(chunk(2), true)
    return inbox
  }
  const nsEach = (inbox: Inbox): number => {
    const start = process.hrtime.bigint()
    for (let index = 0; index < 1000; index++) {
      inbox.take()
      inbox.consumed()
    }
    return Number(process.hrtime.bigint() - start) / 1000
  }
  /** Of samples that are as long on both sides, so that it is all the same to them what else the machine does. */
  const median = (inboxOf: () => Inbox): number => Array.from({ length: 21 }, () => nsEach(inboxOf())).sort((a, b) => a - b)[10]!
  const few = median(() => filled(1000))
  const full = filled(waitingMessagesMax)
  const many = median(() => full)
  assert.ok(many < 10 * few, `${many} ns each of ${waitingMessagesMax}, ${few} of 1000`)
})

test('the rest of a message that comes behind a delivery that is given up has room', () => {
  const inbox = new Inbox(1000, 10_000)
  inbox.receive(begin, true)
  inbox.receive(chunk(5000).subarray(0, 1000 - begin.length), false)
  assert.is(inbox.grant(1), 0)
  inbox.dropDelivery()
  assert.is(inbox.grant(1), 1000)
})

test('what is consumed is granted again, once, and not before it is worth a frame', () => {
  const inbox = new Inbox(1000, 1000)
  inbox.receive(chunk(300), true)
  inbox.take()
  assert.is(inbox.grant(1), 0)
  inbox.consumed()
  assert.is(inbox.grant(301), 0)
  assert.is(inbox.grant(300), 300)
  assert.is(inbox.grant(1), 0)
})

test('a message larger than the window is granted as it comes, and not twice', () => {
  const inbox = new Inbox(1000, 10_000)
  const bytes = chunk(5000)
  let granted = 1000
  for (let sent = 0; sent < bytes.length; sent += 500) {
    assert.ok(granted >= 500, 'the sender starves')
    granted -= 500
    inbox.receive(bytes.subarray(sent, sent + 500), sent + 500 === bytes.length)
    granted += inbox.grant(1)
  }
  inbox.take()
  inbox.consumed()
  granted += inbox.grant(1)
  assert.is(granted, 1000, 'as much as at the beginning')
})

test('fragments behind a message that waits are not granted until it is consumed', () => {
  const inbox = new Inbox(1000, 10_000)
  inbox.receive(chunk(100), true)
  inbox.receive(Buffer.alloc(600), false)
  assert.is(inbox.grant(1), 0)
  inbox.take()
  assert.is(inbox.grant(1), 0)
  inbox.consumed()
  assert.is(inbox.grant(1), 700)
})

test('nor those that come while it has been taken and is not consumed', () => {
  const inbox = new Inbox(1000, 10_000)
  inbox.receive(chunk(100), true)
  inbox.take()
  inbox.receive(Buffer.alloc(600), false)
  assert.is(inbox.grant(1), 0)
  inbox.consumed()
  assert.is(inbox.grant(1), 700)
})

test('over any sequence of messages nothing of the window is lost or won', () => {
  const inbox = new Inbox(1000, 10_000)
  let credit = 1000
  const waiting: number[] = []
  for (let round = 0; round < 500; round++) {
    const bytes = chunk(1 + (round * 37) % 900)
    for (let sent = 0; sent < bytes.length;) {
      while (credit === 0) {
        if (waiting.length > 0) {
          waiting.shift()
          inbox.take()
          inbox.consumed()
        }
        credit += inbox.grant(1)
      }
      const size = Math.min(credit, bytes.length - sent, 1 + round % 250)
      credit -= size
      inbox.receive(bytes.subarray(sent, sent + size), sent + size === bytes.length)
      sent += size
    }
    waiting.push(bytes.length)
  }
  for (; waiting.length > 0; waiting.shift()) {
    inbox.take()
    inbox.consumed()
  }
  assert.is(credit + inbox.grant(1), 1000)
})

test('more than the window, or than any message, is refused', () => {
  assert.is(codeOf(() => { new Inbox(1000, 9999).receive(Buffer.alloc(1001), false) }), 'REPLICATION_PROTOCOL')
  assert.is(codeOf(() => { new Inbox(9999, 1000).receive(Buffer.alloc(1001), false) }), 'REPLICATION_FRAME_TOO_LARGE')
  const full = new Inbox(9999, 1000)
  full.receive(chunk(1000).subarray(0, 900), false)
  full.receive(chunk(100), true)
  assert.is(full.take().bytes, 1000, 'the longest message')
  for (const nonsense of [Buffer.of(0x77), Buffer.alloc(0)]) {
    const inbox = new Inbox(1000, 1000)
    inbox.receive(nonsense, true)
    assert.is(codeOf(() => inbox.head), 'REPLICATION_PROTOCOL')
  }
})

test('a delivery that is given up is dropped with what builds on it, also while it comes, and nothing of the window is lost', () => {
  const inbox = new Inbox(1000, 1000)
  const unit = encodeUnit([], encodeUnitBody([], [])).subarray(1)
  const advance = encodeData({ type: 'advance', vector: [], acknowledge: true }).subarray(1)
  for (const bytes of [unit, begin, chunk(50), advance, unit]) inbox.receive(bytes, true)
  const late = chunk(200)
  inbox.receive(late.subarray(0, 150), false)
  inbox.dropDelivery()
  inbox.receive(late.subarray(150), true)
  inbox.receive(chunk(60), true)
  const types = []
  for (; inbox.head !== undefined; inbox.consumed()) types.push(inbox.take().message.type)
  assert.equal(types, ['unit', 'advance', 'chunk'])
  assert.is(inbox.grant(1), 2 * unit.length + begin.length + advance.length + 310)
})

test('of what is coming, that goes which is of the delivery or builds on it, and of the window nothing is lost either', () => {
  const unit = encodeUnit([], encodeUnitBody([], [])).subarray(1)
  const advance = encodeData({ type: 'advance', vector: [], acknowledge: true }).subarray(1)
  for (const [before, coming, kept] of [[undefined, chunk(50), false], [undefined, unit, true], [begin, unit, false], [begin, advance, true]] as const) {
    const inbox = new Inbox(1000, 1000)
    if (before !== undefined) inbox.receive(before, true)
    inbox.receive(coming.subarray(0, 2), false)
    inbox.dropDelivery()
    inbox.receive(coming.subarray(2), true)
    assert.is(inbox.head !== undefined, kept)
    if (kept) inbox.take()
    if (kept) inbox.consumed()
    assert.is(inbox.grant(1), (before?.length ?? 0) + coming.length)
  }
})

test('what is dropped is granted once, of a message longer than the window too', () => {
  for (const isWhole of [true, false]) {
    const inbox = new Inbox(1000, 10_000)
    const bytes = chunk(1500)
    inbox.receive(bytes.subarray(0, 900), false)
    let granted = inbox.grant(1)
    if (isWhole) inbox.receive(bytes.subarray(900), true)
    inbox.dropDelivery()
    if (!isWhole) inbox.receive(bytes.subarray(900), true)
    granted += inbox.grant(1)
    assert.is(granted, 1500)
  }
})

test('a long message that waits is whole, however much came with it', () => {
  const inbox = new Inbox(MiB, MiB)
  inbox.receive(chunk(10), true)
  const bytes = encodeData({ type: 'chunk', bytes: Buffer.alloc(100_000, 'a') }).subarray(1)
  const received = Buffer.alloc(MiB)
  bytes.copy(received)
  inbox.receive(received.subarray(0, bytes.length), true)
  inbox.take()
  assert.equal((inbox.take().message as { bytes: Buffer }).bytes, Buffer.alloc(100_000, 'a'))
})

test('small messages that wait do not keep all that came with them', () => {
  const inbox = new Inbox(MiB, MiB)
  const receive = (): void => {
    const received = Buffer.alloc(64 * 1024)
    chunk(10).copy(received)
    inbox.receive(received.subarray(0, 10), true)
  }
  const kept = new Set<ArrayBufferLike>()
  const keep = (): void => { kept.add((inbox.take().message as { bytes: Buffer }).bytes.buffer) }
  for (let count = 0; count < 1000; count++) receive()
  for (; inbox.head !== undefined; inbox.consumed()) keep()
  assert.is(kept.size, 2, 'the first one, and copies of the others')
  kept.clear()
  for (let count = 0; count < 1000; count++) {
    receive()
    keep()
  }
  assert.is(kept.size, 2, 'nor those that have been taken and are being applied')
})

test('units that wait take no more than their bytes', () => {
  const inbox = new Inbox(4 * MiB, MiB)
  const unit = Buffer.alloc(60_000) // of 30,000 entries without a key
  unit[0] = 0x23
  const before = process.memoryUsage().heapUsed
  for (let count = 0; count < 32; count++) inbox.receive(Buffer.from(unit), true)
  assert.ok(process.memoryUsage().heapUsed - before < 16 * MiB)
  assert.is(inbox.head!.type, 'unit')
})

test.run()
