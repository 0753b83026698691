/**
 * The conversation as a state machine: two sessions back to back, over replicas that are only vectors.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeControl, encodeData, encodeUnitBody, encodeUnitHead, type Hello } from '../../lib/codec/message.ts'
import { ReplicationError } from '../../lib/errors.ts'
import { encodeUnit } from '../support/units.ts'
import { VersionVector, type Advance } from '../../lib/core/version-vector.ts'
import { chunkBytes, clockAheadMs, creditWindowBytes, deliveryStallMs, fragmentBytesMin, frameBytesMax, handshakeTimeoutMs, heartbeatIntervalMs, heartbeatTimeoutMs, lateMs, logsMax, logsOfOthersMax, memberRefreshMs, messageBytesMax, MiB, transferStallMs, turnMs, unitsApplyingMax } from '../../lib/limits.ts'
import type { LocalUnit } from '../../lib/sync/events.ts'
import { End, FakeReplica, SessionPair } from '../support/session-pair.ts'

function pair (): SessionPair {
  return new SessionPair(new FakeReplica(1), new FakeReplica(2))
}

/** Writes that both have. */
function share (pair: SessionPair, writes: number): void {
  for (let count = 0; count < writes; count++) pair.b.local.commit([pair.a.local.write()])
}

/** A hello as another implementation could say it. */
function helloOf (end: End): Hello {
  end.connected(false)
  end.outgoing.length = 0
  return end.frames('hello')[0]!
}

/** A unit after something. */
function encodeUnitFrame (before: Advance[]): Buffer {
  return encodeUnit(before, encodeUnitBody([], []))
}

function assertEqual ({ a, b }: SessionPair): void {
  assert.ok(a.local.vector.equals(b.local.vector), 'the vectors differ')
}

test('both sides greet at once, and are told of each other', () => {
  const { a, b } = pair().greet()
  assert.is(a.of('greeted')[0]!.hello.replica, b.local.replica)
  assert.is(b.of('greeted')[0]!.hello.replica, a.local.replica)
  assert.is(a.session.receiving, 'live')
  assert.is(a.session.sending, 'live')
  assert.is(a.of('caught-up').length, 1)
  assert.is(a.of('live-changed').length, 1)
})

test('a hello says where to dial, and what is taken', () => {
  const { a } = pair()
  a.local.address = { host: '192.0.2.1', port: 4567 }
  a.local.transactionBytesMax = 12_345
  a.connected(false)
  const { host, port, transactionBytesMax, credit } = a.frames('hello')[0]!
  assert.equal([host, port, transactionBytesMax, credit], ['192.0.2.1', 4567, 12_345, creditWindowBytes])
})

test('whoever is greeted is told which logs come directly, but for its own', () => {
  const ends = pair()
  const third = new FakeReplica(3)
  ends.a.local.directLogs = new Set([third.log, ends.b.local.log])
  ends.greet()
  assert.equal(ends.a.frames('direct').map(({ logs }) => logs), [[third.log]])
})

test('what a want names of the peer is known of it', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl(helloOf(new End(new FakeReplica(2)))))
  const third = { log: new FakeReplica(3).log, sequence: 7, hlc: 1024 }
  end.receive(encodeControl({ type: 'want', vector: [third], collected: [] }))
  assert.is(end.session.peerKnows.sequenceOf(third.log), 7)
})

test('an equal pair needs one round trip, however much it holds and whoever wants first', () => {
  const counts = new Set<string>()
  for (const writes of [0, 1, 1000]) {
    for (const want of [true, false]) {
      const ends = pair()
      share(ends, writes)
      for (const { local } of [ends.a, ends.b]) if (writes > 0) local.collected.advance({ log: ends.a.local.log, sequence: 1, hlc: 1024 })
      ends.a.connected(want)
      ends.b.connected(want)
      ends.deliver()
      ends.deliver()
      assert.is(ends.a.session.receiving, 'live', 'hello, and the answer to it')
      assert.is(ends.settle(), want ? 0 : 1, 'the answer to a want that was not in the hello')
      assert.is(ends.a.of('open-source').length + ends.b.of('open-source').length, 0)
      assert.is(ends.a.frames('fragment').length, 0)
      assert.is(ends.a.session.sending, 'live')
      counts.add(`${want} ${ends.carried.frames}`)
      ends.pass(2 * heartbeatIntervalMs)
      assert.equal(ends.a.messages, [], 'what both know is not named again')
    }
  }
  assert.is(counts.size, 2, `as many frames for any number of writes: ${[...counts].join()}`)
})

test('what one side lacks comes with the first round trip', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.chunks = [Buffer.from('chunk')]
  ends.greet()
  assertEqual(ends)
  assert.equal(ends.a.messages.map(({ type }) => type), ['begin', 'chunk', 'end'])
  assert.equal(ends.b.of('deliver').map(({ bytes }) => bytes.toString()), ['chunk'])
  assert.is(ends.b.of('end-delivery')[0]!.entries, 1)
  assert.is(ends.a.session.operations.sent, 1)
  assert.is(ends.b.session.operations.received, 1)
  assert.is(ends.a.session.sendingProgress, undefined)
  assert.is(ends.a.of('close-source').length, 1)
  assert.ok(ends.a.session.peerKnows.dominates(ends.a.local.vector))
  assert.is(ends.b.of('caught-up').length, 1)
  assert.is(ends.b.of('release-turn').length, 1)
})

test('both sides lack something of the other', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.local.write()
  ends.greet()
  assertEqual(ends)
  assert.is(ends.a.session.receiving, 'live')
  assert.is(ends.b.session.receiving, 'live')
})

test('a replica of another group is refused by both', () => {
  const ends = pair()
  ends.b.local.group = 'other'
  ends.greet()
  assert.is(ends.a.ended, 'REPLICATION_GROUP_MISMATCH')
  assert.is(ends.b.ended, 'REPLICATION_GROUP_MISMATCH')
  assert.is(ends.a.of('greeted').length + ends.b.of('greeted').length, 0)
})

test('a replica that meets itself says so', () => {
  const ends = new SessionPair(new FakeReplica(1), new FakeReplica(1))
  ends.greet()
  assert.is(ends.a.ended, 'REPLICATION_SELF')
  assert.is(ends.b.ended, 'REPLICATION_SELF')
})

test('two replicas that write one log both give it up', () => {
  const ends = pair()
  ends.b.local.log = ends.a.local.log
  ends.greet()
  for (const end of [ends.a, ends.b]) {
    assert.is(end.of('log-contradicted').length, 1)
    assert.is(end.ended, 'REPLICATION_LOG_REPLACED')
  }
})

test('of two replicas with one id, and logs of their own, the one with the higher log id takes another', () => {
  const ends = new SessionPair(new FakeReplica(1), new FakeReplica(1))
  ends.b.local.nonce = 'e'.repeat(32)
  ends.b.local.log = new FakeReplica(2).log
  ends.greet()
  assert.equal([ends.a, ends.b].map((end) => end.of('log-contradicted').length), [0, 1])
  assert.is(ends.b.ended, 'REPLICATION_LOG_REPLACED')
  assert.is(ends.a.of('greeted').length + ends.b.of('greeted').length, 0)
})

test('so does whoever is told that its id is taken, by one whom it has greeted', () => {
  const bye = encodeControl({ type: 'bye', code: 'REPLICATION_ID_TAKEN', message: '' })
  const { a } = pair().greet()
  a.receive(bye)
  assert.is(a.of('log-contradicted').length, 1)
  assert.is(a.ended, 'REPLICATION_ID_TAKEN')
  const { a: stranger } = pair()
  stranger.connected(true)
  stranger.receive(bye)
  assert.equal(stranger.of('log-contradicted'), [])
})

test('a replica whose peer knows more of its log than it does itself asks whether it is its own', () => {
  const ends = pair()
  ends.b.local.commit([{ log: ends.a.local.log, sequence: 7, hlc: 7 }])
  ends.greet()
  assert.is(ends.a.of('log-contradicted')[0]?.entry?.log, ends.a.local.log)
  assert.is(ends.b.of('log-contradicted').length, 0)
  assert.is(ends.b.ended, 'REPLICATION_DISCONNECTED')
})

test('also if the peer knows as much of it, with another time at its end', () => {
  const ends = pair()
  ends.a.local.commit([{ log: ends.a.local.log, sequence: 7, hlc: 7 }])
  ends.b.local.commit([{ log: ends.a.local.log, sequence: 7, hlc: 8 }])
  ends.greet()
  assert.is(ends.a.of('log-contradicted')[0]?.entry?.log, ends.a.local.log)
  assert.is(ends.b.ended, 'REPLICATION_DISCONNECTED')
})

/** One side has seven writes in its log, of which the other has six, and has noted that it has sent so many. */
function pairTold (toldLess: number): SessionPair {
  const ends = pair()
  for (const end of [ends.a, ends.b]) end.local.commit([{ log: ends.a.local.log, sequence: 6, hlc: 6 }])
  ends.a.local.commit([{ log: ends.a.local.log, sequence: 7, hlc: 7 }])
  ends.a.local.toldLess = toldLess
  return ends.greet()
}

test('also if it has of it what has not been sent to anybody', () => {
  const ends = pairTold(5)
  assert.is(ends.a.of('log-contradicted')[0]?.entry?.log, ends.a.local.log)
  assert.is(ends.b.ended, 'REPLICATION_DISCONNECTED')
})

test('what has been sent may be at the peer, to its end', () => {
  const ends = pairTold(6)
  assert.is(ends.b.ended, undefined)
  assertEqual(ends)
})

test('a peer that knows of more logs than there may be is left, and one whose logs are known here is not', () => {
  const logs = Array.from({ length: logsOfOthersMax }, (_, index) => ({ log: new FakeReplica(1000 + index).log, sequence: 1, hlc: 1024 }))
  const greet = (vector: Advance[]): End => {
    const end = new End(new FakeReplica(1))
    end.local.write()
    end.connected(false)
    end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector }))
    return end
  }
  assert.is(greet(logs).ended, 'REPLICATION_TOO_MANY_LOGS')
  const end = greet(logs.slice(1))
  assert.is(end.ended, undefined)
  end.local.commit(logs.slice(1))
  end.receive(encodeControl({ type: 'want', vector: logs.slice(1).map(({ log }) => ({ log, sequence: 2, hlc: 2048 })), collected: [] }))
  assert.is(end.ended, undefined)
  end.receive(encodeControl({ type: 'want', vector: logs.slice(0, 1), collected: [] }))
  assert.is(end.ended, 'REPLICATION_TOO_MANY_LOGS')
})

test('also if it says that of another replica', () => {
  const ends = pair()
  ends.b.local.acknowledged.set('c'.repeat(32), new VersionVector([{ log: ends.a.local.log, sequence: 1, hlc: 1 }]))
  ends.greet()
  assert.is(ends.a.of('log-contradicted')[0]?.entry?.log, ends.a.local.log)
  assert.is(ends.b.ended, 'REPLICATION_DISCONNECTED')
})

test('what it says of the replica itself proves nothing: that may have told what it had on disk before it sent it', () => {
  const { a } = pair().greet()
  const { log, replica } = a.local
  a.local.write()
  a.local.toldLess = 0
  a.receive(encodeControl({ type: 'acknowledge', members: [{ replica, unseenSeconds: 0, vector: [{ log, sequence: 2, hlc: 2048 }] }] }))
  assert.is(a.ended, undefined)
})

test('another version of the protocol is refused before anything else of the hello is read', () => {
  const { a } = pair()
  const hello = helloOf(a)
  const bytes = encodeControl({ ...hello, versionMin: 2, versionMax: 9 })
  const { b } = pair()
  let code: string | undefined
  try {
    b.receive(Buffer.concat([bytes.subarray(0, 5), Buffer.from('whatever version 2 says')]))
  } catch (error) {
    code = (error as { code: string }).code
  }
  assert.is(code, 'REPLICATION_PROTOCOL_VERSION')
  const range = pair()
  range.b.connected(false)
  range.b.receive(encodeControl({ ...hello, versionMin: 0, versionMax: 9 }))
  assert.is(range.b.ended, undefined, 'a range that includes ours will do')
})

test('another resolverVersion, and a clock far ahead or behind, are warnings', () => {
  const ends = pair()
  ends.b.local.resolverVersion = '2'
  ends.a.connected(true)
  ends.b.connected(true)
  ends.settle()
  assert.equal(ends.a.of('warn').map(({ error }) => error.code), ['REPLICATION_RESOLVER_MISMATCH'])
  assert.equal(ends.b.of('warn').map(({ error }) => error.code), ['REPLICATION_RESOLVER_MISMATCH'])
  const ahead = pair()
  ahead.b.handle({ type: 'connected', want: true, timeMs: 1_700_000_000_000 + clockAheadMs + 1 })
  ahead.a.connected(true)
  ahead.settle()
  assert.equal(ahead.a.of('warn').map(({ error }) => error.code), ['REPLICATION_CLOCK_AHEAD'])
  assert.is(ahead.a.ended, undefined)
  const behind = pair()
  behind.b.handle({ type: 'connected', want: true, timeMs: 1_700_000_000_000 - clockAheadMs - 1 })
  behind.a.connected(true)
  behind.settle()
  assert.equal(behind.a.of('warn').map(({ error }) => error.code), ['REPLICATION_CLOCK_BEHIND'])
})

test('a clock that jumps on a live link is named once, and again when it jumps the other way', () => {
  const ends = pair().greet()
  const codes = (): string[] => ends.a.of('warn').map(({ error }) => error.code)
  ends.pass(2 * heartbeatIntervalMs)
  assert.equal(codes(), [])
  ends.b.clockMs += clockAheadMs
  ends.pass(2 * heartbeatIntervalMs)
  assert.equal(codes(), [], 'so much may be')
  ends.b.clockMs += 2 * 3600_000
  ends.pass(5 * heartbeatIntervalMs)
  assert.equal(codes(), ['REPLICATION_CLOCK_AHEAD'])
  ends.b.clockMs -= 3 * 3600_000
  ends.pass(5 * heartbeatIntervalMs)
  assert.equal(codes(), ['REPLICATION_CLOCK_AHEAD'], 'nor that it is right again')
  ends.b.clockMs -= 3 * 3600_000
  ends.pass(5 * heartbeatIntervalMs)
  assert.equal(codes(), ['REPLICATION_CLOCK_AHEAD', 'REPLICATION_CLOCK_BEHIND'])
  ends.b.clockMs = -1
  ends.pass(5 * heartbeatIntervalMs)
  assert.is(codes().length, 2)
  assert.is(ends.a.ended, undefined)
})

test('a second hello ends the conversation', () => {
  const ends = pair().greet()
  ends.b.receive(encodeControl(ends.a.frames('hello')[0]!))
  assert.is(ends.b.ended, 'REPLICATION_PROTOCOL')
  ends.settle()
  assert.is(ends.a.ended, 'REPLICATION_PROTOCOL', 'the peer is told')
})

test('anything before hello ends the conversation', () => {
  for (const frame of [Buffer.of(0x11, 1, 2, 3), encodeControl({ type: 'heartbeat', timeMs: 0 }), encodeControl({ type: 'want', vector: [], collected: [] })]) {
    const { b } = pair()
    b.connected(true)
    b.receive(frame)
    assert.is(b.ended, 'REPLICATION_PROTOCOL')
    const before = b.effects.length
    b.receive(frame)
    assert.is(b.effects.length, before, 'what comes after the end has no effect')
  }
})

test('nothing is said after the end, whoever brings it about', () => {
  const reason = new ReplicationError('enough', { code: 'REPLICATION_DISCONNECTED' })
  for (const finish of [
    (end: End) => { end.receive(encodeControl({ type: 'bye', code: reason.code, message: reason.message })) },
    (end: End) => { assert.equal(end.session.end(reason).map(({ type }) => type), ['send', 'end']) }
  ]) {
    const { a } = pair().greet()
    const before = a.sent.length
    a.local.write() // which has not been told yet
    finish(a)
    a.handle({ type: 'tell-peers', peers: [] })
    assert.is(a.sent.length, before)
    assert.equal(a.session.end(reason), [])
  }
})

test('a reason of any length can be told, and what a terminal would obey is not passed on', () => {
  const { a, b } = pair().greet()
  a.session.end(new ReplicationError('ä'.repeat(5000), { code: 'REPLICATION_DISCONNECTED' })).forEach((effect) => { if (effect.type === 'send') b.receive(effect.frame) })
  assert.is(b.ended, 'REPLICATION_DISCONNECTED')
  const { a: other } = pair().greet()
  other.receive(encodeControl({ type: 'bye', code: 'REPLICATION_DISCONNECTED', message: '\u001b[31mred\n' }))
  assert.is(other.of('end')[0]!.error.message, 'The peer left: ?[31mred?')
})

test('what is a bug here is not told to the peer as its fault', () => {
  const { a } = pair().greet()
  const bug = new TypeError('no function')
  a.local.unitAt = () => { throw bug }
  assert.throws(() => { a.handle({ type: 'changed' }) }, (error: unknown) => error === bug)
  assert.is(a.ended, undefined)
})

test('whoever is to be spoken to first says nothing before, and then its hello', () => {
  const [first, second] = [new End(new FakeReplica(1)), new End(new FakeReplica(2))]
  second.handle({ type: 'connected', want: true, listensFirst: true, timeMs: second.clockMs })
  for (second.nowMs = 0; second.nowMs < handshakeTimeoutMs; second.nowMs += 500) second.handle({ type: 'tick', timeMs: second.clockMs })
  assert.equal(second.sent, [])
  const hello = helloOf(first)
  second.clockMs += 1000
  second.receive(encodeControl(hello))
  assert.is(second.sent[0]!.type, 'hello')
  assert.is(second.frames('hello').length, 1)
  assert.is(second.frames('hello')[0]!.timeMs, second.clockMs, 'its time is that of the moment')
  assert.ok(second.frames('hello')[0]!.want)
  for (const frame of second.outgoing) first.receive(frame)
  assert.is(first.ended, undefined)
  assert.is(first.of('greeted').length, 1)
})

test('heartbeats follow a hello that is not answered yet, whose sender may have been greeted', () => {
  const { a } = pair()
  a.connected(true)
  for (a.nowMs = 0; a.nowMs < handshakeTimeoutMs; a.nowMs += 500) a.handle({ type: 'tick', timeMs: a.clockMs })
  assert.is(a.frames('heartbeat').length, 2)
})

test('more data than credit ends the conversation', () => {
  const ends = pair().greet()
  ends.b.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(creditWindowBytes)]))
  assert.is(ends.b.ended, undefined, 'the window itself may be filled')
  ends.b.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(creditWindowBytes)]))
  assert.is(ends.b.ended, undefined, 'and again, since nothing waits before it')
  const blocked = pair().greet()
  blocked.b.held.add('apply')
  blocked.a.write()
  blocked.settle()
  blocked.b.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(creditWindowBytes)]))
  assert.is(blocked.b.ended, 'REPLICATION_PROTOCOL', 'a unit that is being applied has not been granted again')
})

test('a message longer than any unit can be ends the conversation before it is whole', () => {
  const ends = pair()
  ends.a.local.transactionBytesMax = ends.b.local.transactionBytesMax = 1
  ends.greet()
  for (let sent = 0; sent < 33 * MiB && ends.b.ended === undefined; sent += MiB) ends.b.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(MiB)]))
  assert.is(ends.b.ended, 'REPLICATION_FRAME_TOO_LARGE')
})

test('a fragment of next to nothing ends the conversation', () => {
  for (const frame of [Buffer.concat([Buffer.of(0x10), Buffer.alloc(fragmentBytesMin - 1)]), Buffer.of(0x11)]) {
    const { b } = pair().greet()
    b.receive(frame)
    assert.is(b.ended, 'REPLICATION_PROTOCOL')
  }
  const { b } = pair().greet()
  b.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(fragmentBytesMin, 0x21)]))
  b.receive(Buffer.of(0x11))
  assert.is(b.ended, 'REPLICATION_PROTOCOL', 'also at the end of a message')
})

test('what answers nothing that was asked for is of no meaning', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  end.receive(encodeControl({ type: 'later' }))
  end.receive(encodeControl({ type: 'live', places: [] }))
  assert.is(end.session.receiving, 'deferred')
  assert.equal(end.of('caught-up'), [])
})

test('a unit is merged as what its sender knew, of what it had said in its hello too', () => {
  const ends = pair()
  const third = ends.a.local.write(10, new FakeReplica(3).log)
  ends.b.local.commit([third])
  ends.greet()
  ends.a.write()
  ends.settle()
  assert.ok(ends.b.of('apply')[0]!.stream.covers(third.log, third.sequence))
})

test('a unit is sent as it is committed, and comes back to nobody', () => {
  const ends = pair().greet()
  ends.a.write()
  assert.ok(ends.a.session.peerKnows.equals(ends.a.local.vector), 'what has been sent is no lag')
  ends.settle()
  for (let count = 0; count < 10; count++) {
    ends.a.write()
    ends.b.write()
    ends.settle()
  }
  assertEqual(ends)
  assert.is(ends.a.messages.filter(({ type }) => type === 'unit').length, 11)
  assert.is(ends.b.messages.filter(({ type }) => type === 'unit').length, 10)
  assert.is(ends.a.local.vector.operationsBeyond(new VersionVector()), 21)
  assert.equal([ends.a, ends.b].map(({ session }) => [session.operations.sent, session.operations.received]), [[11, 10], [10, 11]])
  assert.equal(ends.a.frames('credit').length, 0, 'credit is granted when it is worth a frame')
})

test('a unit of several operations counts for as many', () => {
  const ends = pair().greet()
  const change = { log: ends.a.local.log, sequence: 5, hlc: 5120 }
  ends.a.local.commit([change], encodeUnitBody([change], []))
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.equal([ends.a.session.operations.sent, ends.b.session.operations.received], [5, 5])
})

test('a write of the peer that came over another link is not sent back to it', () => {
  const ends = pair().greet()
  const own = ends.b.local.write()
  ends.a.write(10, own.log)
  assert.equal(ends.a.messages, [])
})

test('nor what it says to have on disk', () => {
  const ends = pair().greet()
  const third = ends.b.local.write(10, new FakeReplica(3).log)
  ends.b.local.durable.advance(third)
  ends.a.receive(encodeControl({ type: 'acknowledge', members: [{ replica: ends.b.local.replica, unseenSeconds: 0, vector: [third] }] }))
  ends.a.write(10, third.log)
  assert.equal(ends.a.messages, [])
})

test('what a receiver could not take in is not sent to it', () => {
  const transactionBytesMax = 1
  const bytesMax = messageBytesMax(transactionBytesMax)
  const after = { log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }
  for (const [bytes, ended] of [[bytesMax, undefined], [bytesMax + 1, 'REPLICATION_FRAME_TOO_LARGE']] as const) {
    const unit = pair()
    unit.b.local.transactionBytesMax = transactionBytesMax
    unit.greet()
    unit.b.local.directLogs = new Set([after.log])
    unit.b.handle({ type: 'directs' })
    unit.settle()
    unit.a.local.commit([after])
    const change = { log: unit.a.local.log, sequence: 1, hlc: 1024 }
    const headBytes = encodeUnitHead([after]).length - 1
    unit.a.local.commit([change], Buffer.concat([encodeUnitBody([change], [])], bytes - headBytes))
    unit.a.handle({ type: 'changed' })
    assert.is(unit.a.ended, ended, 'a unit, with what it names before it')
    const delivery = pair()
    delivery.b.local.transactionBytesMax = transactionBytesMax
    delivery.a.local.write()
    delivery.a.chunks = [Buffer.alloc(bytes - 1)]
    delivery.a.held.add('read-source')
    delivery.greet()
    delivery.a.release('read-source')
    assert.is(delivery.a.ended, ended, 'a chunk')
  }
})

test('nor does one of another replica', () => {
  const ends = pair().greet()
  ends.a.write(10, new FakeReplica(3).log)
  ends.settle()
  ends.pass(2 * heartbeatIntervalMs)
  assertEqual(ends)
  assert.equal(ends.b.messages.filter(({ type }) => type === 'unit'), [])
})

test('of small units only so many are handed on before one of them is applied', () => {
  const ends = pair().greet()
  ends.b.held.add('apply')
  for (let count = 0; count < unitsApplyingMax + 10; count++) ends.a.write()
  ends.settle()
  assert.is(ends.b.of('apply').length, unitsApplyingMax)
  ends.b.release('apply')
  ends.settle()
  assertEqual(ends)
})

test('a want is answered once, however often it comes meanwhile', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.held.add('open-source')
  ends.greet()
  const want = encodeControl({ type: 'want', vector: [], collected: [] })
  ends.a.receive(want)
  assert.is(ends.a.of('open-source').length, 1)
  ends.a.held.add('read-source')
  ends.a.release('open-source')
  ends.a.receive(want)
  assert.is(ends.a.of('open-source').length, 1)
})

test('requests that come before there is a stream are one', () => {
  const ends = pair()
  ends.a.connected(true)
  for (let call = 0; call < 2; call++) ends.a.handle({ type: 'synchronise' })
  ends.b.connected(true)
  ends.settle()
  assert.equal([ends.a.session.requests, ends.a.session.answers], [1, 1])
})

test('a unit of 64 MiB crosses in fragments, while the window is 2 MiB', () => {
  const ends = pair().greet()
  ends.a.write(64 * MiB)
  let most = 0
  do {
    most = Math.max(most, ends.a.outgoing.reduce((sum, frame) => sum + frame.length, 0))
  } while (ends.deliver())
  assertEqual(ends)
  assert.ok(most <= creditWindowBytes + MiB / 4, `${most} bytes under way at once`)
  assert.is(ends.b.of('apply').length, 1)
  assert.ok(ends.b.of('apply')[0]!.bytes > 64 * MiB)
  ends.a.write()
  ends.settle()
  assertEqual(ends)
})

test('a unit waits for what it comes after, which makes the receiver want if nobody brings it', () => {
  const ends = pair().greet()
  const third = new FakeReplica(3)
  const before = { log: third.log, sequence: 1, hlc: 1024 }
  // A has it from the third, and passes it over, since B said that it comes to it directly.
  ends.b.local.directLogs = new Set([third.log])
  ends.b.handle({ type: 'directs' })
  ends.settle()
  ends.a.local.commit([before])
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.a.messages.length, 0, 'passed over')
  ends.a.write()
  ends.settle()
  const unit = ends.a.messages[0]!
  assert.equal(unit.type === 'unit' && unit.before.map(({ log, sequence }) => [log, sequence]), [[third.log, 1]])
  assert.is(ends.b.of('apply').length, 0, 'it waits')
  assert.is(ends.b.frames('want').length, 0, 'for what is promised')

  // It comes: no want.
  ends.b.write(10, third.log)
  ends.settle()
  assert.is(ends.b.of('apply').length, 1)
  assert.is(ends.b.frames('want').length, 0)
  assert.equal(ends.b.messages, [], 'who names it has it')
  assertEqual(ends)
  ends.a.write()
  ends.settle()
  const next = ends.a.messages[1]!
  assert.equal(next.type === 'unit' && next.before, [], 'what has been named is not named again')

  // The next one does not.
  ends.pass(10_000)
  ends.a.chunks = [Buffer.from('chunk')]
  ends.a.local.commit([{ log: third.log, sequence: 2, hlc: 2048 }])
  ends.a.write()
  ends.pass(2500)
  assert.is(ends.b.frames('want').length, 0, 'not late yet')
  ends.pass(1500)
  assert.is(ends.b.frames('want').length, 1)
  assertEqual(ends)
  assert.is(ends.b.session.receiving, 'live')
  ends.a.write()
  ends.settle()
  assertEqual(ends)
})

/** A pair of which one has said that a third one's log comes to it directly. */
function pairWithThird () {
  const ends = pair().greet()
  const third = new FakeReplica(3)
  ends.b.local.directLogs = new Set([third.log])
  ends.b.handle({ type: 'directs' })
  ends.settle()
  return { ends, third }
}

test('what does not come after a delivery has its time again', () => {
  const { ends, third } = pairWithThird()
  const fall = (): void => {
    ends.a.local.commit([{ log: third.log, sequence: ends.a.local.vector.sequenceOf(third.log) + 1, hlc: 1024 * (ends.a.local.vector.sequenceOf(third.log) + 1) }])
    ends.a.write()
  }
  for (let count = 1; count < 4; count++) {
    fall()
    ends.pass(lateMs)
    assert.is(ends.b.frames('want').length, count - 1)
    ends.pass(1000)
    assert.is(ends.b.frames('want').length, count)
    assertEqual(ends)
  }
})

test('what the peer does not get any more from its author is sent to it', () => {
  const { ends, third } = pairWithThird()
  ends.b.local.directLogs = new Set()
  ends.b.handle({ type: 'directs' })
  ends.settle()
  ends.a.write(10, third.log)
  ends.settle()
  assertEqual(ends)
})

test('what nobody promised is wanted at once', () => {
  const { ends, third } = pairWithThird()
  ends.b.local.directLogs = new Set() // the link broke, and the sender does not know yet
  ends.a.local.commit([{ log: third.log, sequence: 1, hlc: 1024 }])
  ends.a.write()
  ends.settle()
  assert.is(ends.b.frames('want').length, 1)
  assertEqual(ends)
})

test('also if something else that is missing was promised', () => {
  const { ends, third } = pairWithThird()
  const fourth = new FakeReplica(4)
  ends.b.local.directLogs = new Set([third.log, fourth.log])
  ends.b.handle({ type: 'directs' })
  ends.settle()
  ends.b.local.directLogs = new Set([third.log])
  for (const { log } of [third, fourth]) ends.a.local.commit([{ log, sequence: 1, hlc: 1024 }])
  ends.a.write()
  ends.settle()
  assert.is(ends.b.frames('want').length, 1)
  assertEqual(ends)
})

test('what waits for what never comes leaves room for the delivery that brings it', () => {
  const { ends, third } = pairWithThird()
  ends.a.local.commit([{ log: third.log, sequence: 1, hlc: 1024 }])
  for (let writes = 0; writes < 5; writes++) ends.a.write(creditWindowBytes / 4)
  ends.pass(4000)
  assert.is(ends.b.frames('want').length, 1)
  assertEqual(ends)
  assert.is(ends.b.session.receiving, 'live')
})

test('what was dropped for a delivery that is not needed in the end is known of the peer', () => {
  const { ends, third } = pairWithThird()
  const fourth = new FakeReplica(4)
  ends.b.local.directLogs = new Set()
  ends.a.local.commit([{ log: third.log, sequence: 1, hlc: 1024 }])
  const dropped = ends.a.write(10, fourth.log)
  ends.a.local.applying = true
  ends.settle()
  assert.is(ends.b.session.receiving, 'deferred')
  // Somebody else brings all of it.
  ends.b.local.commit([...ends.a.local.vector])
  ends.a.local.applying = false
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.b.session.receiving, 'live')
  assert.is(ends.b.of('begin-delivery').length, 0)
  ends.a.write()
  ends.settle()
  assertEqual(ends)
  assert.ok(ends.b.of('apply').at(-1)!.stream.covers(fourth.log, dropped.sequence), 'a part of the context of what follows')
})

test('what builds on what was dropped for a delivery is not taken in when that cannot be had now', () => {
  const { ends, third } = pairWithThird()
  ends.b.local.directLogs = new Set()
  const own = { log: ends.a.local.log, sequence: 1, hlc: 1024 }
  const next = { ...own, sequence: 2, hlc: 2048 }
  ends.a.held.add('open-source')
  ends.b.receive(encodeUnit([{ log: third.log, sequence: 1, hlc: 1024 }], encodeUnitBody([own], [])))
  assert.is(ends.b.session.receiving, 'asked')
  ends.b.receive(encodeControl({ type: 'later' }))
  ends.b.receive(encodeUnit([], encodeUnitBody([next], []))) // it was waiting for credit
  assert.equal(ends.b.of('apply'), [])
})

test('what was passed over is named while all is silent, so that it is not missed for ever', () => {
  const { ends, third } = pairWithThird()
  ends.a.local.commit([{ log: third.log, sequence: 1, hlc: 1024 }])
  ends.a.handle({ type: 'changed' })
  ends.b.local.directLogs = new Set()
  ends.pass(heartbeatIntervalMs + 500)
  assertEqual(ends)
  const { length } = ends.a.messages
  ends.pass(5 * heartbeatIntervalMs)
  assert.is(ends.a.messages.length, length, 'and not again')
  assert.equal(ends.b.of('flush'), [], 'and no answer is asked for, which would be taken for one to a request')
})

test('what was passed over is named in that time also if something else is said all the while', () => {
  const { ends, third } = pairWithThird()
  const fourth = new FakeReplica(4)
  ends.b.local.directLogs = new Set([third.log, fourth.log])
  ends.b.handle({ type: 'directs' })
  ends.settle()
  ends.a.write(10, third.log)
  ends.b.local.directLogs = new Set([fourth.log]) // the third has gone
  ends.b.handle({ type: 'directs' })
  for (let passedMs = 0; passedMs <= heartbeatIntervalMs; passedMs += 500) {
    for (const end of [ends.a, ends.b]) {
      end.write(10, fourth.log)
      end.local.durable.join(end.local.vector)
      end.handle({ type: 'durable' })
    }
    ends.pass(500)
  }
  assertEqual(ends)
  assert.is(ends.b.frames('want').length, 1)
})

test('while one unit after another is passed over they are named together', () => {
  const { ends, third } = pairWithThird()
  for (let passedMs = 0; passedMs < 5 * heartbeatIntervalMs; passedMs += 500) {
    ends.b.local.commit([ends.a.write(10, third.log)])
    ends.b.handle({ type: 'changed' })
    ends.pass(500)
  }
  const { length } = ends.a.messages
  assert.ok(length >= 4 && length <= 5, `${length} messages`)
})

test('what was passed over waits for credit with the next unit, and not by itself', () => {
  const { ends, third } = pairWithThird()
  ends.b.held.add('apply')
  for (let writes = 0; writes < 10; writes++) ends.a.write(creditWindowBytes / 9)
  ends.settle()
  ends.b.local.commit([ends.a.write(10, third.log)])
  ends.pass(2 * heartbeatIntervalMs)
  ends.a.write()
  ends.b.release('apply')
  ends.settle()
  assertEqual(ends)
  assert.equal(ends.a.messages.map(({ type }) => type), Array.from({ length: 11 }, () => 'unit'))
})

test('nor is it named by one who has fallen behind, before it is asked', () => {
  const { ends, third } = pairWithThird()
  ends.b.held.add('request-turn')
  ends.b.local.commit([ends.a.write(10, third.log)])
  ends.a.local.feedStart = ends.a.local.feedEnd + 1
  ends.a.write()
  ends.pass(2 * heartbeatIntervalMs)
  assert.is(ends.a.session.sending, 'silent')
  assert.equal(ends.a.messages, [])
  ends.b.release('request-turn')
  ends.settle()
  assertEqual(ends)
})

test('what has been told is not named again by one who fell behind, and whose peer lacks nothing', () => {
  const { ends, third } = pairWithThird()
  const { a, b } = ends
  a.local.feedStart = 1
  a.write(10, new FakeReplica(4).log) // which is lost: a delivery brings it
  ends.settle()
  b.local.commit([a.write(10, third.log)])
  b.handle({ type: 'changed' })
  a.write(10, new FakeReplica(5).log) // which names that, and is told as a unit
  ends.settle()
  assertEqual(ends)
  a.local.feedStart = a.local.feedEnd + 1
  b.local.commit([a.local.write()])
  a.handle({ type: 'changed' })
  ends.pass(2 * heartbeatIntervalMs)
  assert.is(a.frames('live').length, 2)
  const last = a.messages.at(-1)!
  assert.equal(last.type === 'advance' && last.vector.map(({ log }) => log), [a.local.log])
})

test('a receiver asks when it has its turn, and not before', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.held.add('request-turn')
  ends.greet({ want: false })
  assert.is(ends.b.session.receiving, 'waiting')
  assert.is(ends.b.frames('want').length, 0)
  assert.is(ends.a.of('open-source').length, 0)
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.b.frames('want').length, 1)
  assertEqual(ends)
})

test('what answers the want of a hello is taken in when it is its turn', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.held.add('request-turn')
  ends.greet()
  assert.is(ends.b.session.receiving, 'asked')
  assert.is(ends.b.of('begin-delivery').length, 0)
  ends.a.write()
  ends.settle()
  ends.b.release('request-turn')
  ends.settle()
  assertEqual(ends)
})

test('a turn that is not needed any more is given back', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.held.add('request-turn')
  ends.greet({ want: false })
  // Meanwhile it came over another link.
  ends.b.local.commit([...ends.a.local.vector])
  ends.b.handle({ type: 'changed' })
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.b.session.receiving, 'live')
  assert.is(ends.a.of('open-source').length, 0, 'nothing was missing')
  assert.is(ends.b.of('release-turn').length, 1)
})

test('a turn that comes when the answer has come is given back', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.held.add('request-turn')
  ends.greet({ want: false })
  ends.b.local.commit([...ends.a.local.vector]) // over another link
  ends.b.release('request-turn')
  ends.b.held.add('request-turn')
  ends.b.nowMs = turnMs + 1000
  ends.b.receive(encodeControl({ type: 'heartbeat', timeMs: ends.b.clockMs }))
  ends.b.handle({ type: 'tick', timeMs: ends.b.clockMs })
  assert.is(ends.b.of('release-turn').length, 1, 'a has not answered so far')
  ends.settle()
  assert.is(ends.b.session.receiving, 'live')
  ends.b.release('request-turn')
  assert.is(ends.b.of('release-turn').length, 2)
})

test('a replica in an apply phase says later, then again', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.local.applying = true
  ends.greet()
  assert.is(ends.a.frames('later').length, 1)
  assert.is(ends.b.session.receiving, 'deferred')
  assert.is(ends.b.of('release-turn').length, 1, 'another peer can be asked meanwhile')
  ends.a.local.applying = false
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  assert.is(ends.b.session.receiving, 'live')
  assertEqual(ends)
  assert.is(ends.b.frames('want').length, 1)
})

test('an `again` that later or live has answered is not asked for once more', () => {
  for (const answer of ['later', 'live'] as const) {
    const end = new End(new FakeReplica(1))
    end.connected(true)
    end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
    end.receive(encodeControl({ type: 'again' }))
    end.receive(encodeControl({ type: answer, places: [] }))
    end.receive(encodeControl({ type: 'again' }))
    assert.is(end.frames('want').length, 1)
    end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 0 }))
    end.receive(encodeData({ type: 'end', entries: 0 }))
    assert.is(end.session.receiving, 'live')
    assert.is(end.frames('want').length, 1)
  }
})

test('who has said later sends nothing until it is asked again', () => {
  const ends = pair().greet()
  ends.a.local.applying = true
  ends.b.held.add('request-turn')
  ends.a.receive(encodeControl({ type: 'want', vector: [], collected: [] }))
  ends.a.write()
  ends.settle()
  assert.equal(ends.a.messages, [])
  ends.a.local.applying = false
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.equal(ends.a.messages, [])
  ends.b.release('request-turn')
  ends.settle()
  assertEqual(ends)
})

test('so does a replica that makes up for a loss', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.local.repairing = true
  ends.greet()
  assert.is(ends.a.frames('later').length, 1)
  assert.is(ends.a.of('open-source').length, 0)
  ends.a.local.repairing = false
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  assertEqual(ends)
})

test('a receiver in an apply phase takes nothing in until it is over', () => {
  const ends = pair().greet()
  ends.b.local.applying = true
  ends.a.write()
  ends.settle()
  assert.is(ends.b.of('apply').length, 0)
  ends.b.local.applying = false
  ends.b.handle({ type: 'changed' })
  ends.settle()
  assertEqual(ends)
})

test('a peer that fell behind the feed is told, and asks again', () => {
  const ends = pair().greet()
  ends.b.held.add('apply')
  for (let count = 0; count < 40; count++) ends.a.write(128 * 1024)
  ends.settle()
  ends.a.local.feedStart = ends.a.local.feedEnd
  ends.b.release('apply')
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  assert.is(ends.a.of('open-source').length, 1)
  assert.is(ends.b.of('live-changed').length, 3)
  assert.is(ends.b.of('caught-up').length, 1, 'what the peer had when it greeted comes once')
  assertEqual(ends)
  ends.a.write()
  ends.settle()
  assertEqual(ends)
})

test('what a delivery takes of the credit comes back, however many there are', () => {
  const ends = pair().greet()
  ends.a.chunks = [Buffer.alloc(creditWindowBytes / 4)]
  for (let count = 0; count < 20; count++) {
    ends.a.local.write()
    ends.a.local.feedStart = ends.a.local.feedEnd
    ends.a.handle({ type: 'changed' })
    ends.settle()
    assertEqual(ends)
  }
  assert.is(ends.b.of('end-delivery').length, 20)
})

test('a peer that falls behind while its delivery is taken in is heard', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.held.add('end-delivery')
  ends.greet()
  ends.a.local.write()
  ends.a.local.feedStart = ends.a.local.feedEnd
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  assert.is(ends.b.session.receiving, 'delivering')
  ends.b.release('end-delivery')
  ends.settle()
  assert.is(ends.a.session.sending, 'live')
  assertEqual(ends)
  assert.is(ends.b.frames('want').length, 1, 'once')
})

test('a peer that fell behind while its delivery waits for its turn is heard', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.held.add('request-turn')
  ends.greet()
  assert.is(ends.b.session.receiving, 'asked')
  ends.a.local.write()
  ends.a.local.feedStart = ends.a.local.feedEnd
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.a.session.sending, 'live')
  assertEqual(ends)
})

test('a peer that fell behind is heard by one who thinks that nothing is missing, and has not come to its delivery', () => {
  const ends = pair()
  ends.b.local.applying = true
  ends.b.held.add('request-turn')
  ends.a.connected(true)
  ends.b.connected(true)
  ends.a.write() // after its hello: what answers the hello of b is a delivery
  ends.settle()
  assert.is(ends.b.session.receiving, 'live')
  ends.a.local.feedStart = ends.a.local.feedEnd + 1
  ends.a.write()
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  assert.is(ends.b.session.receiving, 'waiting')
  ends.b.local.applying = false
  ends.b.handle({ type: 'changed' })
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.a.session.sending, 'live')
  assertEqual(ends)
})

test('a delivery for one who thinks that nothing is missing waits for its turn, and is taken in', () => {
  const ends = pair()
  ends.b.held.add('request-turn')
  ends.a.connected(true)
  ends.b.connected(true)
  ends.a.write() // after its hello: what answers the hello of b is a delivery
  ends.settle()
  assert.equal(ends.b.of('begin-delivery'), [])
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.b.of('begin-delivery').length, 1)
  assertEqual(ends)
})

test('a delivery begins when the units before it have been applied', () => {
  const ends = pair().greet()
  ends.b.held.add('apply')
  ends.a.write()
  ends.settle()
  ends.a.local.write()
  ends.a.local.feedStart = ends.a.local.feedEnd
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.a.of('open-source').length, 1)
  assert.equal(ends.b.of('begin-delivery'), [])
  ends.b.release('apply')
  ends.settle()
  assert.is(ends.b.of('begin-delivery').length, 1)
  assertEqual(ends)
})

test('what was not recorded is a gap for a peer that lacks it, and for no other', () => {
  const ends = pair().greet()
  ends.b.local.write()
  ends.b.handle({ type: 'changed' })
  ends.settle()
  assertEqual(ends)
  // What came from the peer.
  const log = ends.b.local.log
  const known = ends.a.local.vector.get(log)!
  ends.a.local.commit([known], undefined)
  ends.a.write()
  ends.settle()
  assert.is(ends.a.session.sending, 'live')
  assert.is(ends.a.frames('again').length, 0)
  assertEqual(ends)
  // What did not.
  const sequence = ends.a.local.vector.sequenceOf(ends.a.local.log) + 1
  ends.a.local.commit([{ log: ends.a.local.log, sequence, hlc: sequence * 1024 }], undefined)
  ends.a.handle({ type: 'changed' })
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  assertEqual(ends)
})

test('what of the feed the peer may still have to be sent', () => {
  const ends = pair()
  ends.a.local.write()
  assert.is(ends.a.session.feedWanted, Infinity, 'it has not asked')
  ends.a.held.add('open-source')
  ends.greet()
  assert.is(ends.a.session.feedWanted, 0, 'nobody knows yet what the source does not have')
  ends.a.held.add('read-source')
  ends.a.release('open-source')
  ends.a.local.write()
  assert.is(ends.a.session.feedWanted, 1)
  ends.a.release('read-source')
  ends.settle()
  assert.is(ends.a.session.sending, 'live')
  assert.is(ends.a.session.feedWanted, 2)
  for (let writes = 3; writes < 30; writes++) {
    ends.a.local.write(256 * 1024)
    ends.a.handle({ type: 'changed' })
  }
  assert.ok(ends.a.session.feedWanted < 29, 'what credit does not allow yet')
  ends.settle()
  assert.is(ends.a.session.feedWanted, ends.a.local.feedEnd)
  assertEqual(ends)
})

test('a source whose receiver grants no credit is closed, and opened again when it does', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.chunks = Array.from({ length: 40 }, () => Buffer.alloc(256 * 1024))
  ends.b.held.add('deliver')
  ends.greet()
  assert.is(ends.a.session.sending, 'sending')
  ends.b.held.add('request-turn') // it comes after what is being delivered
  ends.pass(59_000)
  assert.is(ends.a.session.sending, 'sending', 'a busy receiver is not a dead one')
  assert.is(ends.a.ended, undefined)
  ends.pass(3_000)
  assert.is(ends.a.session.sending, 'silent')
  assert.is(ends.a.session.sendingProgress, undefined)
  assert.is(ends.a.of('close-source').length, 1)
  assert.is(ends.b.of('abandon-delivery').length, 1)
  assert.is(ends.b.of('release-turn').length, 1)
  ends.b.release('deliver')
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.a.of('open-source').length, 2)
  assertEqual(ends)
  assert.is(ends.b.session.receiving, 'live')
  assert.is(ends.b.of('end-delivery')[0]!.entries, 40, 'those of the one before do not count')
})

test('a source whose receiver takes something now and then is not', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.local.write()
  end.chunks = Array.from({ length: 40 }, () => Buffer.alloc(256 * 1024))
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), credit: MiB, want: true }))
  for (let rounds = 0; rounds < 10; rounds++) {
    end.nowMs += transferStallMs / 2
    end.receive(encodeControl({ type: 'credit', bytes: 300 * 1024 }))
    end.handle({ type: 'tick', timeMs: end.clockMs })
    assert.is(end.session.sending, 'sending')
  }
})

test('of a source that was closed nothing is sent, and live units wait for credit as long as it takes', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.chunks = Array.from({ length: 40 }, () => Buffer.alloc(256 * 1024))
  ends.b.held.add('deliver')
  ends.b.held.add('request-turn')
  ends.greet()
  ends.pass(transferStallMs + 3000)
  ends.a.handle({ type: 'source-read', chunk: undefined })
  assert.is(ends.a.frames('later').length, 1)
  assert.is(ends.a.messages.filter(({ type }) => type === 'end').length, 0)
  assert.is(ends.a.of('close-source').length, 1)
  const live = pair().greet()
  live.b.held.add('apply')
  for (let writes = 0; writes < 20; writes++) live.a.write(creditWindowBytes / 4)
  live.pass(2 * transferStallMs)
  assert.is(live.a.session.sending, 'live')
  assert.is(live.a.frames('later').length, 0)
})

test('a source that is opened for a link on which nothing was sent for long has its time', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), credit: 0, want: true }))
  end.nowMs = 2 * transferStallMs
  end.receive(encodeControl({ type: 'heartbeat', timeMs: end.clockMs }))
  end.local.write()
  end.local.feedStart = end.local.feedEnd
  end.handle({ type: 'changed' })
  assert.is(end.frames('again').length, 1)
  end.chunks = [Buffer.alloc(2 * MiB)]
  end.receive(encodeControl({ type: 'want', vector: [], collected: [] }))
  for (const [passedMs, state] of [[transferStallMs, 'sending'], [1, 'stalled']] as const) {
    end.nowMs += passedMs
    end.receive(encodeControl({ type: 'heartbeat', timeMs: end.clockMs }))
    end.handle({ type: 'tick', timeMs: end.clockMs })
    assert.is(end.session.sending, state)
  }
})

test('chunks of a source are read one at a time', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.chunks = [Buffer.from('one'), Buffer.from('two')]
  ends.a.held.add('read-source')
  ends.greet()
  ends.pass(1000)
  assert.is(ends.a.of('read-source').length, 1)
  assert.equal(ends.a.session.sendingProgress, { sent: 0, total: 2 })
  ends.a.handle({ type: 'source-read', chunk: { bytes: Buffer.from('none'), entries: 1 } })
  assert.equal(ends.a.session.sendingProgress, { sent: 1, total: 2 })
  ends.a.release('read-source')
  ends.settle()
  assertEqual(ends)
})

test('a delivery that is given up before its turn has come is not taken in', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.chunks = Array.from({ length: 30 }, () => Buffer.alloc(256 * 1024))
  ends.b.held.add('request-turn')
  ends.greet()
  assert.is(ends.b.session.receiving, 'asked')
  ends.pass(62_000)
  assert.is(ends.a.frames('later').length, 1)
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.b.frames('want').length, 1, 'it asks again, once')
  assert.is(ends.b.of('deliver').length, 30)
  assert.is(ends.b.of('end-delivery').length, 1)
  assert.is(ends.b.session.receiving, 'live')
  assertEqual(ends)
})

test('a delivery that is given up at its very end is not taken for one that has come', () => {
  const end = new End(new FakeReplica(1))
  end.held.add('end-delivery')
  end.connected(true)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 0 }))
  end.receive(encodeData({ type: 'end', entries: 0 }))
  end.receive(encodeControl({ type: 'later' }))
  end.release('end-delivery')
  assert.is(end.session.receiving, 'deferred')
})

test('what was told with a delivery that is given up is told again', () => {
  const ends = pair()
  ends.a.chunks = Array.from({ length: 30 }, () => Buffer.alloc(256 * 1024))
  ends.b.held.add('request-turn')
  const first = ends.a.local.write()
  ends.a.connected(true)
  const third = ends.a.local.write(10, new FakeReplica(3).log)
  ends.b.connected(true)
  ends.settle()
  ends.pass(60_000)
  ends.b.local.commit([first, third], encodeUnitBody([first, third], [])) // another peer brings it
  ends.pass(2_000)
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.a.frames('live').length, 1)
  ends.a.write()
  ends.settle()
  assert.equal(ends.b.of('apply')[0]!.before, [third])
  assertEqual(ends)
})

test('a source that is closed while it is read does not keep the next one from being read', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.chunks = [...Array.from({ length: 9 }, () => Buffer.alloc(240 * 1024)), Buffer.alloc(1000)]
  ends.b.held.add('deliver')
  const handle = ends.a.handle.bind(ends.a)
  ends.a.handle = (event) => {
    if (ends.a.of('read-source').length === 9) ends.a.held.add('read-source')
    handle(event)
  }
  ends.greet()
  ends.b.held.add('request-turn')
  ends.pass(62_000)
  assert.is(ends.a.of('close-source').length, 1)
  ends.a.handle = handle
  ends.a.held.clear() // and what was held is never read
  ends.b.release('deliver')
  ends.b.release('request-turn')
  ends.settle()
  assert.is(ends.a.of('open-source').length, 2)
  assert.is(ends.b.session.receiving, 'live')
  assertEqual(ends)
})

test('a peer that is asked and does not begin lets others have their turn, and is heard later', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.held.add('open-source')
  ends.greet()
  assert.is(ends.b.session.receiving, 'asked')
  ends.pass(turnMs)
  assert.is(ends.b.of('release-turn').length, 0)
  ends.b.held.add('request-turn')
  ends.pass(1000)
  assert.equal(ends.b.effects.filter(({ type }) => type.endsWith('-turn')).map(({ type }) => type), ['request-turn', 'release-turn', 'request-turn'])
  ends.a.release('open-source')
  ends.settle()
  assert.is(ends.b.of('begin-delivery').length, 0, 'somebody else has the turn')
  ends.b.release('request-turn')
  ends.settle()
  assertEqual(ends)
  assert.is(ends.b.session.receiving, 'live')
})

test('a want says how far a delivery had come that was cut short, and it goes on', () => {
  const ends = pair()
  const written = ends.a.local.write()
  const point = ends.b.local.resumePoint = { kind: 'catch-up', parts: [{ upTo: Buffer.from('k'), vector: [written] }] }
  ends.greet({ want: false })
  assert.equal(ends.b.frames('want')[0]!.resume, point)
  assert.equal(ends.a.of('open-source')[0]!.resume, point)
  assert.is(ends.b.of('begin-delivery')[0]!.resumes, true)
  assertEqual(ends)
})

test('a delivery does not go on from where the receiver does not stand any more', () => {
  for (const now of [undefined, { kind: 'catch-up' as const, parts: [{ upTo: Buffer.from('l'), vector: [] }] }]) {
    const ends = pair()
    ends.a.local.write()
    ends.b.local.resumePoint = { kind: 'catch-up', parts: [{ upTo: Buffer.from('k'), vector: [] }] }
    ends.a.held.add('open-source')
    ends.greet({ want: false })
    ends.b.local.resumePoint = now
    ends.a.release('open-source')
    ends.settle()
    assert.is(ends.b.of('begin-delivery').length, 0)
    assert.is(ends.b.ended, 'REPLICATION_DISCONNECTED')
  }
})

test('nor one that did not begin', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: true, vector: [], collected: [], entries: 1 }))
  assert.is(end.of('begin-delivery').length, 0)
  assert.is(end.ended, 'REPLICATION_DISCONNECTED')
})

test('nor does a unit after something that does not exist keep the turn', () => {
  const ends = pair().greet()
  ends.a.held.add('open-source')
  ends.a.local.commit([{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }])
  ends.b.local.directLogs = new Set()
  ends.b.receive(encodeUnitFrame([{ log: new FakeReplica(4).log, sequence: 9, hlc: 1024 }]))
  ends.settle()
  assert.is(ends.b.session.receiving, 'asked')
  ends.pass(turnMs + 1000)
  assert.is(ends.b.of('release-turn').length, 1)
})

test('a delivery that drips does not keep the turn', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  const begin = encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 1 })
  end.receive(begin)
  for (let piece = 0; piece < 16; piece++) end.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(16 * 1024, 0x21)]))
  for (let passedMs = 0; passedMs < 2 * deliveryStallMs && end.ended === undefined; passedMs += heartbeatIntervalMs) {
    end.nowMs += heartbeatIntervalMs
    end.receive(encodeControl({ type: 'heartbeat', timeMs: end.clockMs }))
    if (passedMs % 50_000 === 0) end.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(16 * 1024, 0x21)]))
    end.handle({ type: 'tick', timeMs: end.clockMs })
  }
  assert.is(end.ended, 'REPLICATION_PEER_STALLED')
  assert.ok(end.nowMs <= deliveryStallMs + 2 * heartbeatIntervalMs)
})

test('credit with which nothing can be sent keeps no source open', () => {
  for (const bytes of [0, 1]) {
    const ends = pair()
    ends.a.local.write()
    ends.a.chunks = Array.from({ length: 40 }, () => Buffer.alloc(256 * 1024))
    ends.b.held.add('deliver')
    const { a } = ends.greet()
    for (let passedMs = 0; passedMs < 80_000; passedMs += heartbeatIntervalMs) {
      a.nowMs += heartbeatIntervalMs
      a.receive(encodeControl({ type: 'heartbeat', timeMs: a.clockMs }))
      if (passedMs % 10_000 === 0) a.receive(encodeControl({ type: 'credit', bytes }))
      a.handle({ type: 'tick', timeMs: a.clockMs })
    }
    assert.is(a.of('close-source').length, 1)
    assert.is(a.frames('again').length, bytes, 'what is no credit opens nothing again')
  }
})

test('whoever wants again and again is told of what was collected as far as there is credit', () => {
  const local = new FakeReplica(1)
  const collected = Array.from({ length: 1000 }, (_, index) => ({ log: new FakeReplica(100 + index).log, sequence: 5, hlc: 1024 }))
  local.commit(collected, encodeUnitBody([], collected), collected)
  const end = new End(local)
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: collected, credit: 0 }))
  const want = encodeControl({ type: 'want', vector: [], collected: [] })
  for (let count = 0; count < 1000; count++) end.receive(want)
  end.receive(encodeControl({ type: 'credit', bytes: creditWindowBytes }))
  assert.is(end.ended, undefined)
  assert.ok(end.messages.length > 0)
  assert.ok(end.messages.length < 100, `${end.messages.length} messages were waiting`)
})

test('a delivery of which enough comes may take very long', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 1 }))
  for (let passedMs = 0; passedMs < 4 * deliveryStallMs; passedMs += heartbeatIntervalMs) {
    end.nowMs += heartbeatIntervalMs
    end.receive(encodeControl({ type: 'heartbeat', timeMs: end.clockMs }))
    if (passedMs % 10_000 === 0) end.receive(Buffer.concat([Buffer.of(0x10), Buffer.alloc(16 * 1024, 0x21)]))
    end.handle({ type: 'tick', timeMs: end.clockMs })
  }
  assert.is(end.ended, undefined)
  assert.is(end.session.receiving, 'delivering')
})

test('a delivery of which nothing comes for very long ends the conversation', () => {
  const ends = pair()
  ends.a.local.write()
  ends.a.held.add('read-source')
  ends.greet()
  ends.pass(deliveryStallMs - 1000)
  assert.is(ends.b.session.receiving, 'delivering')
  assert.is(ends.b.ended, undefined)
  ends.pass(2000)
  assert.is(ends.b.ended, 'REPLICATION_PEER_STALLED')
})

test('also if it comes to that late, and was worked on at first', () => {
  const end = new End(new FakeReplica(1))
  end.nowMs = 100 * deliveryStallMs
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 1 }))
  end.held.add('deliver')
  end.receive(encodeData({ type: 'chunk', bytes: Buffer.alloc(10) }))
  end.handle({ type: 'tick', timeMs: end.clockMs })
  end.release('deliver')
  for (let passedMs = 0; passedMs <= deliveryStallMs; passedMs += heartbeatIntervalMs) {
    end.nowMs += heartbeatIntervalMs
    end.receive(encodeControl({ type: 'heartbeat', timeMs: end.clockMs }))
    end.handle({ type: 'tick', timeMs: end.clockMs })
  }
  assert.is(end.ended, 'REPLICATION_PEER_STALLED')
})

test('a unit in the midst of a delivery waits for its end', () => {
  const end = new End(new FakeReplica(1))
  const advance = { log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [advance] }))
  end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 1 }))
  end.receive(encodeUnit([], encodeUnitBody([{ ...advance, sequence: 2, hlc: 2048 }], [])))
  assert.is(end.session.receiving, 'delivering')
  assert.equal(end.of('apply'), [])
})

test('a delivery that takes very long to be applied ends nothing', () => {
  const ends = pair()
  ends.a.local.write()
  ends.b.held.add('end-delivery')
  ends.greet()
  ends.pass(2 * deliveryStallMs)
  assert.is(ends.b.ended, undefined)
  assert.is(ends.b.session.receiving, 'delivering')
  ends.b.release('end-delivery')
  ends.settle()
  assertEqual(ends)
})

test('the time in which a part of a delivery is worked on is none in which nothing comes', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 1 }))
  const pass = (ms: number): void => {
    for (let passedMs = 0; passedMs < ms; passedMs += heartbeatIntervalMs) {
      end.nowMs += heartbeatIntervalMs
      end.receive(encodeControl({ type: 'heartbeat', timeMs: end.clockMs }))
      end.handle({ type: 'tick', timeMs: end.clockMs })
    }
  }
  end.held.add('deliver')
  pass(deliveryStallMs / 2)
  end.receive(encodeData({ type: 'chunk', bytes: Buffer.alloc(10) }))
  pass(2 * deliveryStallMs)
  end.release('deliver')
  pass(deliveryStallMs / 2 - heartbeatIntervalMs)
  assert.is(end.ended, undefined)
  pass(2 * heartbeatIntervalMs)
  assert.is(end.ended, 'REPLICATION_PEER_STALLED')
})

test('nor does one that begins again and again keep the turn', () => {
  const end = new End(new FakeReplica(1))
  end.connected(false)
  end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }] }))
  const begin = encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [], entries: 1 })
  for (let passedMs = 0; passedMs < 2 * deliveryStallMs && end.ended === undefined; passedMs += heartbeatIntervalMs) {
    if (passedMs % 50_000 === 0) end.receive(begin)
    end.nowMs += heartbeatIntervalMs
    end.receive(encodeControl({ type: 'heartbeat', timeMs: end.clockMs }))
    end.handle({ type: 'tick', timeMs: end.clockMs })
  }
  assert.is(end.ended, 'REPLICATION_PEER_STALLED')
})

test('heartbeats go out while all is silent, and keep a link alive for ever', () => {
  const ends = pair().greet()
  ends.pass(10 * heartbeatTimeoutMs)
  assert.is(ends.a.ended, undefined)
  assert.is(ends.b.ended, undefined)
  const { length } = ends.a.frames('heartbeat')
  assert.ok(length >= 10 && length <= 10 * heartbeatTimeoutMs / heartbeatIntervalMs, `${length} heartbeats`)
})

test('a peer that falls silent ends the conversation', () => {
  const ends = pair().greet()
  ends.pass(heartbeatTimeoutMs + 1000, [ends.a])
  assert.is(ends.a.ended, 'REPLICATION_PEER_SILENT')
  ends.settle()
  assert.is(ends.b.ended, 'REPLICATION_PEER_SILENT', 'and is told, if it lives')
})

test('a peer that never says hello ends the conversation', () => {
  const { a } = pair()
  a.connected(true)
  a.nowMs = handshakeTimeoutMs
  a.handle({ type: 'tick', timeMs: a.clockMs })
  assert.is(a.ended, undefined)
  a.nowMs = handshakeTimeoutMs + 200 // its own hello is that long at most
  a.handle({ type: 'tick', timeMs: a.clockMs })
  assert.is(a.ended, 'REPLICATION_PEER_SILENT')
})

test('a long hello has more time, the own one and the one of which a part has come', () => {
  const silentAfter = (writes: number, heardBytes: number): number => {
    const { a } = pair()
    for (let count = 0; count < writes; count++) a.local.write(10, new FakeReplica(10 + count).log)
    a.connected(true)
    a.session.heard(0, heardBytes)
    for (; a.ended === undefined; a.nowMs += 100) a.handle({ type: 'tick', timeMs: a.clockMs })
    assert.is(a.ended, 'REPLICATION_PEER_SILENT')
    return a.nowMs
  }
  const shortMs = silentAfter(0, 0)
  assert.ok(silentAfter(0, 5000) >= shortMs + 5000)
  assert.ok(silentAfter(400, 0) >= shortMs + 5000)
})

test('acknowledgements tell only what has not been told', () => {
  const ends = pair().greet()
  const { a, b } = ends
  const acknowledged = (): number[][] => b.frames('acknowledge').map(({ members }) => members.flatMap(({ vector }) => vector.map(({ sequence }) => sequence)))
  a.write()
  b.write()
  ends.settle()
  b.local.durable.join(b.local.vector)
  b.handle({ type: 'durable' })
  assert.equal(acknowledged(), [[1, 1]])
  b.handle({ type: 'durable' })
  assert.is(acknowledged().length, 1, 'nothing new, so nothing is said')
  a.write()
  ends.settle()
  b.local.durable.join(b.local.vector)
  b.handle({ type: 'durable' })
  assert.equal(acknowledged(), [[1, 1], [2]])
  ends.settle()
  assert.ok(a.session.peerDurable.equals(b.local.vector))
  // What a third has said is passed on, and nobody is told of himself.
  b.local.acknowledged.set('3'.repeat(32), a.local.vector.clone())
  b.local.acknowledged.set(a.local.replica, a.local.vector.clone())
  b.handle({ type: 'durable' })
  ends.settle()
  assert.equal(a.of('acknowledged').at(-1)!.members.map(({ replica }) => replica), ['3'.repeat(32)])
})

test('a member of whom there is nothing to say yet is named all the same, and again from time to time', () => {
  const ends = pair().greet()
  const { a, b } = ends
  ends.settle()
  b.local.acknowledged.set('3'.repeat(32), new VersionVector())
  b.handle({ type: 'durable' })
  b.handle({ type: 'durable' })
  ends.settle()
  const named = (): string[] => a.of('acknowledged').flatMap(({ members }) => members.map(({ replica }) => replica[0]!))
  assert.equal(named(), ['3'])
  ends.pass(memberRefreshMs - 10_000)
  assert.equal(named(), ['3'])
  ends.pass(20_000)
  assert.equal(named(), ['3', '3'])
})

test('a member counts as seen by the peer if the time that it was not has grown less than time has', () => {
  const { a } = pair().greet()
  const sighted: boolean[] = []
  const say = (passedMs: number, unseenSeconds: number): void => {
    a.nowMs += passedMs
    a.receive(encodeControl({ type: 'acknowledge', members: [{ replica: '3'.repeat(32), unseenSeconds, vector: [] }] }))
    sighted.push(a.of('acknowledged').at(-1)!.members[0]!.sighted)
  }
  say(0, 100)
  say(100_000, 200)
  say(100_000, 230)
  say(100_000, 330)
  say(0, 330)
  say(1000, 2)
  say(100_000, 80)
  say(100_000, 120)
  assert.equal(sighted, [false, false, true, false, false, true, false, true])
})

test('what was collected travels in the order of commits, and not back', () => {
  const ends = pair()
  share(ends, 4)
  ends.greet()
  const { a, b } = ends
  ends.settle()
  const collected = { log: a.local.log, sequence: 3, hlc: 3072 }
  a.local.commit([], encodeUnitBody([], [collected]), [collected])
  a.write()
  ends.settle()
  b.handle({ type: 'changed' })
  ends.settle()
  assert.equal(b.of('apply').map(({ changes, collected }) => [changes.length, collected.map(({ sequence }) => sequence)]), [[0, [3]], [1, []]])
  assert.equal(a.of('apply').length, 0)
  assert.ok(b.local.collected.equals(a.local.collected))
})

test('whoever lacks nothing but what was collected is told with the answer to its want', () => {
  const ends = pair()
  share(ends, 4)
  ends.a.local.collected.advance({ log: ends.a.local.log, sequence: 3, hlc: 3072 })
  ends.greet()
  ends.settle()
  assert.is(ends.b.of('begin-delivery').length, 0)
  assert.ok(ends.b.local.collected.equals(ends.a.local.collected))
})

test('whoever has collected it too is not', () => {
  const ends = pair()
  share(ends, 4)
  ends.a.connected(false)
  ends.b.connected(false)
  for (const end of [ends.a, ends.b]) end.local.collected.advance({ log: ends.a.local.log, sequence: 3, hlc: 3072 }) // which their hellos do not say
  ends.settle()
  const collected = { log: ends.a.local.log, sequence: 4, hlc: 4096 }
  ends.b.local.collected.advance(collected)
  ends.b.local.vector.join([collected])
  assert.equal([ends.a.messages, ends.b.messages], [[], []])
  const told = pair()
  share(told, 4)
  for (const end of [told.a, told.b]) end.local.collected.advance({ log: told.a.local.log, sequence: 3, hlc: 3072 })
  told.greet()
  const third = { log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }
  told.b.local.commit([third])
  told.b.local.directLogs = new Set([third.log])
  told.b.handle({ type: 'directs' })
  told.settle()
  told.a.local.commit([third], encodeUnitBody([third], [...told.a.local.collected]), [...told.a.local.collected])
  told.a.handle({ type: 'changed' })
  assert.equal(told.a.messages, [], 'nor with what came from somebody else')
})

test('a peer that has collected what it does not know is left', () => {
  const ends = pair()
  ends.a.local.collected.advance({ log: ends.a.local.log, sequence: 3, hlc: 3072 })
  ends.greet()
  ends.settle()
  assert.is(ends.b.ended, 'REPLICATION_PROTOCOL')
})

test('so is one that delivers that', () => {
  const { log } = new FakeReplica(3)
  for (const [sequence, ended] of [[1, undefined], [2, 'REPLICATION_PROTOCOL']] as const) {
    const end = new End(new FakeReplica(1))
    end.connected(false)
    end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log, sequence: 1, hlc: 1024 }] }))
    end.receive(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: [], collected: [{ log, sequence, hlc: 1024 * sequence }], entries: 1 }))
    assert.is(end.ended, ended)
    assert.is(end.of('begin-delivery').length, ended === undefined ? 1 : 0)
  }
})

test('parts of a delivery that has not begun are of no meaning', () => {
  const { b } = pair().greet()
  b.receive(encodeData({ type: 'chunk', bytes: Buffer.alloc(10) }))
  b.receive(encodeData({ type: 'end', entries: 0 }))
  assert.equal([b.ended, b.of('deliver').length, b.of('end-delivery').length], [undefined, 0, 0])
})

test('whoever wants to be in sync is answered when everything is durable', () => {
  const ends = pair().greet()
  ends.b.held.add('flush')
  ends.a.write()
  ends.a.handle({ type: 'synchronise' })
  ends.settle()
  assert.is(ends.a.session.requests, 1)
  ends.b.local.durable.join(ends.b.local.vector)
  ends.b.handle({ type: 'durable' })
  ends.settle()
  assert.is(ends.a.session.answers, 0, 'an acknowledgement like any other is no answer')
  ends.b.release('flush')
  ends.settle()
  assert.is(ends.a.session.answers, 1)
  assert.ok(ends.a.session.peerDurable.dominates(ends.a.local.vector))
  ends.a.handle({ type: 'synchronise' })
  ends.settle()
  assert.is(ends.a.session.answers, 2, 'answered even if there is nothing new')
  ends.b.local.write()
  ends.a.handle({ type: 'synchronise' })
  ends.settle()
  assert.is(ends.a.session.answers, 3)
  assert.ok(ends.a.session.peerDurable.dominates(ends.b.local.vector), 'what is durable has been told before')
})

test('a request follows what was committed before it', () => {
  const ends = pair().greet()
  for (let writes = 0; writes < 3; writes++) ends.a.local.write()
  ends.a.handle({ type: 'synchronise' })
  assert.equal(ends.a.messages.map(({ type }) => type), ['unit', 'unit', 'unit', 'advance'])
})

test('a request that waits for credit is answered, though the delivery behind it is given up', () => {
  const ends = pair().greet()
  const { a, b } = ends
  b.held.add('apply')
  for (let writes = 0; writes < 10; writes++) a.write(creditWindowBytes / 9)
  a.handle({ type: 'synchronise' })
  ends.settle()
  assert.is(a.messages.filter(({ type }) => type === 'advance').length, 0)
  a.chunks = Array.from({ length: 4 }, () => Buffer.alloc(256 * 1024))
  a.local.feedStart = a.local.feedEnd + 1
  a.write()
  ends.settle()
  assert.is(a.session.sending, 'sending')
  b.held.add('request-turn')
  ends.pass(transferStallMs + 1000)
  assert.is(a.frames('later').length, 1)
  b.release('apply')
  ends.settle()
  assert.equal(a.messages.map(({ type }) => type).slice(-2), ['unit', 'advance'], 'nothing of the delivery')
  assert.equal([a.session.requests, a.session.answers], [1, 1])
  b.release('request-turn')
  ends.settle()
  assertEqual(ends)
})

test('a request is answered even if what came with it is repeated', () => {
  const ends = pair().greet()
  ends.b.local.applying = true
  ends.a.handle({ type: 'synchronise' })
  ends.settle()
  ends.a.local.feedStart = ends.a.local.feedEnd + 1
  ends.a.write()
  ends.settle()
  assert.is(ends.a.frames('again').length, 1)
  assert.is(ends.a.messages.filter(({ type }) => type === 'begin').length, 1)
  ends.b.local.applying = false
  ends.b.handle({ type: 'changed' })
  ends.settle()
  assertEqual(ends)
  assert.is(ends.a.session.answers, ends.a.session.requests)
})

test('acknowledgements of many members with many logs go in several frames', () => {
  const ends = pair().greet()
  const many = new VersionVector(Array.from({ length: logsMax }, (_, index) => ({ log: new FakeReplica(1000 + index).log, sequence: 2 ** 40, hlc: 2 ** 48 })))
  for (let member = 0; member < 5; member++) ends.b.local.acknowledged.set(String(member).repeat(32).replaceAll('0', 'e').replaceAll('2', 'd'), many)
  ends.b.handle({ type: 'durable' })
  for (const frame of ends.b.outgoing) assert.ok(frame.length <= frameBytesMax, `${frame.length} bytes`)
  ends.settle()
  assert.is(ends.a.of('acknowledged').flatMap(({ members }) => members).length, 5)
})

test('a member that is not waited for is not named, and how long one is unseen is rounded up', () => {
  const { a } = pair()
  const [counted, uncounted] = ['c'.repeat(32), 'd'.repeat(32)]
  for (const replica of [counted, uncounted]) a.local.acknowledged.set(replica, new VersionVector())
  a.local.uncounted.add(uncounted)
  a.local.unseenMs = 1001
  const hello = helloOf(new End(new FakeReplica(2)))
  a.connected(false)
  a.receive(encodeControl(hello))
  assert.equal(a.frames('acknowledge').flatMap(({ members }) => members).map(({ replica, unseenSeconds }) => [replica, unseenSeconds]), [[counted, 2]])
})

test('what the peer has said of a member is not said back', () => {
  const { a } = pair().greet()
  const replica = 'c'.repeat(32)
  const vector = [{ log: new FakeReplica(3).log, sequence: 1, hlc: 1024 }]
  a.receive(encodeControl({ type: 'acknowledge', members: [{ replica, unseenSeconds: 0, vector }] }))
  a.local.acknowledged.set(replica, new VersionVector(vector))
  a.handle({ type: 'durable' })
  assert.equal(a.frames('acknowledge'), [])
})

test('a peer that leaves ends the conversation with its reason, if that is one that can be told', () => {
  for (const [said, heard] of [['REPLICATION_DUPLICATE_LINK', 'REPLICATION_DUPLICATE_LINK'], ['REPLICATION_CORRUPT', 'REPLICATION_DISCONNECTED'], ['__proto__', 'REPLICATION_DISCONNECTED']] as const) {
    const ends = pair().greet()
    ends.a.receive(encodeControl({ type: 'bye', code: said, message: 'enough' }))
    assert.is(ends.a.ended, heard)
    assert.equal(ends.a.frames('bye'), [], 'no farewell is answered')
  }
})

/** Both have two writes; then the link was cut, and the feed remembers what is committed from now on. */
function apart (): SessionPair {
  const ends = pair()
  share(ends, 2)
  keepBacklog(ends.a.local)
  return ends
}

function keepBacklog (local: FakeReplica): void {
  const first = local.feedEnd
  local.backlog = { first, vector: local.vector.clone(), collected: local.collected.clone(), get units () { return Array.from({ length: local.feedEnd - first }, (_, index) => local.unitAt(first + index) as LocalUnit) } }
}

test('whoever comes back soon is sent what it lacks from memory', () => {
  const ends = apart()
  const { a, b } = ends
  a.write()
  a.write()
  b.held.add('apply')
  ends.greet()
  assert.equal(a.frames('live').map(({ places }) => places), [[{ log: a.local.log, sequence: 2, hlc: 2048 }]])
  assert.equal(b.of('apply').map(({ changes }) => changes.map(({ sequence }) => sequence)), [[3], [4]])
  assert.is(b.of('apply')[0]!.stream.sequenceOf(a.local.log), 2, 'the context is what was known then, not what the hello says')
  assert.is(b.session.receiving, 'resuming')
  assert.is(b.of('caught-up').length, 0)
  assert.is(b.of('live-changed').length, 0)
  assert.is(b.of('release-turn').length, 0, 'nobody else is asked for the same meanwhile')
  b.release('apply')
  assertEqual(ends)
  assert.is(b.session.receiving, 'live')
  assert.is(b.of('caught-up').length, 1)
  assert.is(b.of('release-turn').length, 1)
  assert.equal(a.of('open-source'), [])
  a.write()
  ends.settle()
  assertEqual(ends)
  assert.is(b.of('caught-up').length, 1)
})

test('a stream begins further back for who has got all meanwhile, too', () => {
  const ends = apart()
  const { a, b } = ends
  const third = new FakeReplica(3).write()
  b.connected(true)
  const write = a.write()
  a.local.commit([third], encodeUnitBody([third], []))
  b.local.commit([write, third]) // from somebody else, after it has said its hello
  a.connected(true)
  for (const frame of a.outgoing.splice(0)) b.receive(frame)
  assert.is(b.session.receiving, 'live')
  b.held.add('apply')
  ends.settle()
  assert.equal(b.of('apply').map(({ changes, stream }) => [changes, stream.sequenceOf(third.log)]), [[[write], 0], [[third], 0]], 'the context of both is what the sender knew then')
  b.release('apply')
  ends.settle()
  assertEqual(ends)
  assert.is(b.session.receiving, 'live')
})

test('what the peer has lost of its own log is in the backlog, too', () => {
  const ends = pair()
  const { a, b } = ends
  a.local.commit([b.local.write()])
  keepBacklog(a.local)
  b.local.toldLess = 2
  a.write(10, b.local.log)
  ends.greet()
  assert.equal(b.of('apply').map(({ changes }) => changes.map(({ log, sequence }) => [log, sequence])), [[[b.local.log, 2]]])
  assertEqual(ends)
})

test('a stream may begin before a log does', () => {
  const ends = pair()
  const { a, b } = ends
  keepBacklog(a.local)
  a.write()
  ends.greet()
  assert.equal(a.frames('live').map(({ places }) => places.map(({ sequence }) => sequence)), [[0]])
  assert.is(b.of('apply').length, 1)
  assertEqual(ends)
})

test('of a backlog the peer is not sent what it has', () => {
  const ends = apart()
  const { a, b } = ends
  const third = new FakeReplica(3)
  const shared = third.write()
  a.local.commit([shared]) // without a body
  b.local.commit([shared])
  a.write()
  ends.greet()
  assert.equal(b.of('apply').map(({ before, changes }) => [before, changes.map(({ sequence }) => sequence)]), [[[shared], [3]]])
  assert.equal(a.of('open-source'), [])
  assertEqual(ends)
})

test('who lacks more than the backlog holds, or knows less than it begins with, catches up from disk', () => {
  const reasons: Record<string, (ends: SessionPair) => void> = {
    'it lacks what was before': ({ a, b }) => {
      const third = new FakeReplica(3).write()
      a.local.commit([third])
      keepBacklog(a.local)
      b.local.commit([])
    },
    'it has not collected what had been': ({ a }) => {
      a.local.collected.advance({ log: a.local.log, sequence: 1, hlc: 1024 })
      keepBacklog(a.local)
    },
    'a unit has no body': ({ a }) => { a.local.commit([new FakeReplica(3).write()]) },
    'it is too much': ({ a }) => { a.write(2 * chunkBytes) },
    'a delivery is to be gone on with': ({ b }) => { b.local.resumePoint = { kind: 'catch-up', parts: [{ upTo: Buffer.from('k'), vector: [] }] } }
  }
  for (const [reason, plant] of Object.entries(reasons)) {
    const ends = apart()
    plant(ends)
    ends.a.write()
    ends.greet({ want: reason !== 'a delivery is to be gone on with' })
    assert.is(ends.a.of('open-source').length, 1, reason)
    assert.equal(ends.a.frames('live'), [], reason)
    assertEqual(ends)
  }
})

test('a stream that has begun does not begin again', () => {
  const ends = apart()
  const { a, b } = ends
  a.write()
  ends.greet()
  a.local.feedStart = Infinity
  a.local.write()
  a.local.backlog = { ...a.local.backlog!, units: [] }
  a.handle({ type: 'changed' })
  a.local.feedStart = 0
  keepBacklog(a.local)
  ends.settle()
  assert.is(a.frames('again').length, 1)
  assert.is(b.frames('want').length, 1)
  assert.is(a.of('open-source').length, 1)
  assertEqual(ends)
})

test('a stream that begins with what is not known, or once more, is refused', () => {
  const log = new FakeReplica(3).log
  const begin = (): End => {
    const end = new End(new FakeReplica(1))
    end.local.commit([{ log, sequence: 1, hlc: 1024 }])
    end.connected(true)
    end.receive(encodeControl({ ...helloOf(new End(new FakeReplica(2))), vector: [{ log, sequence: 3, hlc: 3072 }] }))
    return end
  }
  const unknown = begin()
  unknown.receive(encodeControl({ type: 'live', places: [{ log, sequence: 2, hlc: 2048 }] }))
  assert.is(unknown.ended, 'REPLICATION_PROTOCOL')
  const good = begin()
  good.receive(encodeControl({ type: 'live', places: [{ log, sequence: 1, hlc: 1024 }] }))
  assert.is(good.ended, undefined)
  assert.is(good.session.receiving, 'resuming')
  const unit = encodeUnit([], encodeUnitBody([{ log, sequence: 2, hlc: 2048 }], []))
  const begun = begin()
  begun.receive(Buffer.concat([Buffer.of(0x11), unit.subarray(1)]))
  assert.is(begun.of('apply').length, 1)
  begun.receive(encodeControl({ type: 'live', places: [{ log, sequence: 1, hlc: 1024 }] }))
  assert.is(begun.ended, 'REPLICATION_PROTOCOL')
})

test('a stream that was gone on with and falls behind is followed by a delivery', () => {
  const ends = apart()
  const { a, b } = ends
  a.write()
  b.held.add('apply')
  ends.greet()
  a.receive(encodeControl({ type: 'want', vector: [], collected: [] }))
  b.receive(encodeControl({ type: 'again' }))
  assert.is(b.of('release-turn').length, 1)
  assert.is(b.of('request-turn').length, 2)
  b.release('apply')
  ends.settle()
  assertEqual(ends)
  assert.is(b.session.receiving, 'live')
})

test('who promises to go on and does not, keeps the turn from nobody', () => {
  const ends = apart()
  const { a, b } = ends
  a.write()
  b.held.add('apply')
  ends.greet()
  ends.pass(turnMs)
  assert.is(b.of('release-turn').length, 0)
  ends.pass(1000)
  assert.is(b.of('release-turn').length, 1)
  assert.is(b.session.receiving, 'resuming')
  b.release('apply')
  assert.is(b.session.receiving, 'live')
})

test('a turn that comes while a stream is gone on with is kept until that has caught up', () => {
  const ends = apart()
  const { a, b } = ends
  a.write()
  b.held.add('request-turn').add('apply')
  ends.greet()
  b.release('request-turn')
  assert.is(b.of('release-turn').length, 0)
  b.release('apply')
  assert.is(b.of('release-turn').length, 1)
})

test('what has come between the hello and the backlog is named', () => {
  const ends = apart()
  const { a, b } = ends
  a.connected(true)
  const write = a.write()
  b.local.commit([write])
  keepBacklog(a.local)
  a.write()
  b.connected(true)
  ends.settle()
  assert.equal(a.frames('live').map(({ places }) => places), [[]])
  assert.equal(b.of('apply').map(({ before }) => before), [[write]])
  assertEqual(ends)
})

test('what a stream that goes on builds on, and nobody brings, is asked for', () => {
  const ends = apart()
  const { a, b } = ends
  const third = new FakeReplica(3)
  a.local.commit([third.write()], encodeUnitBody([], []))
  a.local.write()
  a.local.directLogs = new Set()
  b.local.directLogs = new Set()
  a.connected(true)
  b.connected(true)
  const hello = a.outgoing.splice(0)
  b.outgoing.splice(0)
  for (const frame of hello) b.receive(frame)
  b.receive(encodeControl({ type: 'live', places: [{ log: third.log, sequence: 0, hlc: 0 }, { log: a.local.log, sequence: 2, hlc: 2048 }] }))
  const unit = encodeUnit([{ log: third.log, sequence: 1, hlc: 1024 }], encodeUnitBody([{ log: a.local.log, sequence: 3, hlc: 3072 }], []))
  b.receive(Buffer.concat([Buffer.of(0x11), unit.subarray(1)]))
  assert.is(b.of('apply').length, 0)
  assert.is(b.frames('want').length, 1)
})

test.run()
