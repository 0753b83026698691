/**
 * What others may take of a replica, each limit by itself: in virtual time, on a network in memory.
 */
import { pushable } from 'it-pushable'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeFrames, FrameReader } from '../../lib/codec/frames.ts'
import { decodeData, decodeFrame, encodeControl, encodeData, encodeUnitBody, nextFragment, type AcknowledgedMember, type Frame } from '../../lib/codec/message.ts'
import { hlcMax } from '../../lib/core/hlc.ts'
import type { LogId } from '../../lib/core/ids.ts'
import { ReplicationError } from '../../lib/errors.ts'
import { acknowledgeDelayMs, frameBytesMax, handshakeTimeoutMs, heartbeatIntervalMs, heartbeatTimeoutMs, hostBytesMax, linksMax, linksPerHostMax, logsMax, logsOfOthersMax, logsWarned, memberEntriesMax, membersMax, membersPerMessageMax, MiB, outputBytesMax, outputStallMs, peersPerMessageMax, repairMs, strangersMax, strangersPerHostMax, transferStallMs } from '../../lib/limits.ts'
import type { Connection } from '../../lib/network/transport.ts'
import { helloFrame } from '../support/hostile-peer.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { makeReplicator } from '../support/replicator.ts'
import { openReplica } from '../support/store.ts'
import { encodeUnit } from '../support/units.ts'
import { VirtualSystem } from '../support/virtual-system.ts'
import { numberedLog } from '../support/log-ids.ts'

const test = suite('limits')

const id = (number: number): string => number.toString(16).padStart(32, '0')
const log = (number: number): LogId => numberedLog(number + 1)
const vector = (length: number): Array<{ log: LogId, sequence: number, hlc: number }> => Array.from({ length }, (_, index) => ({ log: log(index), sequence: 1, hlc: 1024 }))

/** One replica that listens, and guests that say what they like. */
async function setUp () {
  const system = new VirtualSystem()
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 1) } })
  const replica = await openReplica({ system })
  const errors: ReplicationError[] = []
  const replicator = makeReplicator({
    system,
    store: replica.store,
    transport: network.transport('h'),
    group: 'default',
    host: 'h',
    onError: (error) => { errors.push(error) }
  })
  await replicator.open()

  const talk = (connection: Connection, reads = true) => {
    const output = pushable<Uint8Array>()
    connection.sink(output).catch(() => {})
    const heard: Frame[] = []
    const state = { ended: false }
    const read = async (): Promise<void> => {
      const reader = new FrameReader(frameBytesMax)
      for await (const bytes of connection.source) for (const frame of reader.read(bytes.subarray())) heard.push(decodeFrame(Buffer.from(frame)))
      state.ended = true
    }
    if (reads) read().catch(() => { state.ended = true })
    return {
      connection,
      heard,
      state,
      write: (bytes: Uint8Array) => { output.push(bytes) },
      say: (frame: Uint8Array) => { for (const part of encodeFrames([frame])) output.push(part) },
      get farewell () { return heard.find((frame) => frame.type === 'bye')?.code }
    }
  }
  /** Connects from a host; `reads` unless it is told not to. */
  const guest = async (host: string, { reads = true } = {}) => {
    const dialled = network.transport(host).dial({ host: 'h', port: 9000 }, { signal: new AbortController().signal, timeoutMs: 1000 })
    await system.advance(5)
    return talk(await dialled, reads)
  }
  /** Is dialled at a host. */
  const visited = async (host: string) => {
    const connections: Connection[] = []
    const address = { host, port: 9000 }
    await network.transport(host).listen(address, (connection) => { connections.push(connection) }, assert.unreachable)
    replicator.connect(address)
    await system.advance(1000)
    return talk(connections[0]!)
  }
  const end = async (): Promise<void> => {
    const closed = replicator.close()
    await system.advance(2000)
    await closed
  }
  const hello = (changes: Parameters<typeof helloFrame>[0]): Buffer => helloFrame({ timeMs: system.nowMs(), ...changes })
  return { system, network, replica, replicator, errors, guest, visited, hello, end, codes: () => errors.map(({ code }) => code) }
}

test('who does not greet has to go in time', async () => {
  const { system, guest, codes, end } = await setUp()
  const idle = await guest('a')
  await system.advance(handshakeTimeoutMs - 100)
  assert.is(idle.farewell, undefined)
  await system.advance(1200)
  assert.is(idle.farewell, 'REPLICATION_PEER_SILENT')
  assert.ok(idle.state.ended)
  assert.equal(codes(), ['REPLICATION_PEER_SILENT'])
  await end()
})

test('a greeting that is long may take long over a slow link, as long as it comes; who has greeted hears of us meanwhile', async () => {
  const { system, replicator, guest, hello, codes, end } = await setUp()
  const slow = await guest('slow')
  const whole = Buffer.concat(encodeFrames([hello({ replica: id(1), vector: vector(2000) })]))
  const bytesPerSecond = 3000
  for (let sent = 0; sent < whole.length; sent += bytesPerSecond) {
    slow.write(whole.subarray(sent, sent + bytesPerSecond))
    await system.advance(1000)
  }
  assert.ok(system.monotonicMs() > heartbeatTimeoutMs)
  assert.is(replicator.mesh.linkTo(id(1))?.session.peer?.vector.length, 2000)
  assert.ok(slow.heard.some(({ type }) => type === 'heartbeat'))
  const stuck = await guest('stuck')
  stuck.write(whole.subarray(0, 1000))
  await system.advance(handshakeTimeoutMs + 2500)
  assert.is(stuck.farewell, 'REPLICATION_PEER_SILENT')
  assert.equal(codes().filter((code) => code !== 'REPLICATION_PEER_SILENT'), [])
  await end()
})

test('of many who do not greet the oldest gives way, of one host and of all; who has greeted does not count', async () => {
  const { system, replicator, guest, hello, codes, end } = await setUp()
  const member = await guest('member')
  member.say(hello({ replica: id(1) }))
  const guests: Array<Awaited<ReturnType<typeof guest>>> = []
  for (let number = 0; number <= strangersPerHostMax; number++) guests.push(await guest('a'))
  await system.advance(5)
  assert.equal(guests.map(({ farewell }) => farewell).filter((code) => code !== undefined), ['REPLICATION_TOO_MANY_LINKS'])
  assert.is(guests[0]!.farewell, 'REPLICATION_TOO_MANY_LINKS')
  for (let number = 0; guests.length <= strangersMax + 1; number++) guests.push(await guest(`h${number}`))
  await system.advance(5)
  assert.equal(guests.map(({ farewell }) => farewell).flatMap((code, index) => code === undefined ? [] : index), [0, 1])
  assert.is(replicator.mesh.links.size, strangersMax + 1)
  assert.is(member.farewell, undefined)
  assert.equal(new Set(codes()), new Set(['REPLICATION_TOO_MANY_LINKS']))
  await end()
})

test('of those that were dialled and do not greet there are so many at once, who give way to nobody that comes in', async () => {
  const { system, network, replicator, guest, codes, end } = await setUp()
  await guest('g')
  let dialled = 0
  for (let number = 0; number <= strangersMax; number++) {
    const address = { host: `h${number}`, port: 9000 }
    await network.transport(address.host).listen(address, () => { dialled++ }, assert.unreachable)
    replicator.connect(address)
  }
  await system.advance(100)
  assert.is(dialled, strangersMax + 1)
  assert.is(replicator.mesh.links.size, 1 + strangersMax)
  for (let number = 0; number < strangersPerHostMax; number++) await guest('h0')
  assert.is(replicator.mesh.links.size, 1 + strangersMax + strangersPerHostMax)
  await system.advance(1000)
  assert.ok(dialled > strangersMax + 1, 'the one for whom there was no room is dialled again')
  assert.equal(codes(), [])
  await end()
})

test('streams come from no host: of these there may be more than with one host, at once and in all', async () => {
  const { system, replicator, hello, codes, end } = await setUp()
  const open = (count: number): Array<(number: number) => void> => Array.from({ length: count }, () => {
    const { source, sink } = replicator.stream()
    const output = pushable<Uint8Array>()
    void sink(output)
    void (async () => { for await (const _bytes of source) { /* until it ends */ } })()
    return (number) => { for (const part of encodeFrames([hello({ replica: id(number), log: log(1) })])) output.push(part) }
  })
  let greeted = 0
  for (const count of [strangersMax, 1 + linksPerHostMax - strangersMax]) {
    const streams = open(count)
    await system.advance(5)
    assert.is(replicator.mesh.links.size, greeted + count)
    for (const greet of streams) greet(++greeted)
    await system.advance(5)
    assert.is(replicator.mesh.links.size, greeted)
  }
  assert.equal(codes(), [])
  await end()
})

test('of those who have greeted there are so many with one host, and in all; the next one is told why he has to go', async () => {
  const { system, replicator, guest, hello, codes, end } = await setUp()
  const guests: Array<Awaited<ReturnType<typeof guest>>> = []
  const greet = async (host: (number: number) => string, until: number): Promise<void> => {
    while (guests.length < until) {
      const some = await Promise.all(Array.from({ length: Math.min(strangersPerHostMax, until - guests.length) }, async (_, index) => await guest(host(guests.length + index))))
      for (const [index, each] of some.entries()) each.say(hello({ replica: id(guests.length + index), log: log(1) }))
      guests.push(...some)
      await system.advance(5)
    }
  }
  await greet(() => 'a', linksPerHostMax + 1)
  assert.is(guests.pop()!.farewell, 'REPLICATION_TOO_MANY_LINKS')
  await greet((number) => `h${number}`, linksMax + 1)
  assert.is(guests.pop()!.farewell, 'REPLICATION_TOO_MANY_LINKS')
  assert.ok(guests.every(({ farewell }) => farewell === undefined))
  assert.is([...replicator.mesh.links].filter(({ session }) => session.peer !== undefined).length, linksMax)
  assert.equal(codes(), ['REPLICATION_TOO_MANY_LINKS', 'REPLICATION_TOO_MANY_LINKS'])
  await end()
})

test('of two links in opposite directions that stays which the lower id dialled, unless the peer was opened anew in between', async () => {
  for (const [replica, isOurs] of [['f'.repeat(32), true], ['0'.repeat(32), false]] as const) {
    for (const isAnew of [false, true]) {
      const { system, guest, visited, hello, end } = await setUp()
      const same = { replica, log: log(1), nonce: 'a'.repeat(32) }
      const older = await visited('g')
      older.say(hello(same))
      await system.advance(100)
      const newer = await guest('g')
      newer.say(hello({ ...same, nonce: (isAnew ? 'b' : 'a').repeat(32) }))
      await system.advance(100)
      const olderStays = isOurs && !isAnew
      assert.equal([older, newer].map(({ farewell }) => farewell), olderStays ? [undefined, 'REPLICATION_DUPLICATE_LINK'] : ['REPLICATION_DUPLICATE_LINK', undefined])
      const again = await guest('g')
      again.say(hello({ ...same, nonce: (isAnew ? 'b' : 'a').repeat(32) }))
      await system.advance(100)
      assert.is(again.farewell, olderStays ? 'REPLICATION_DUPLICATE_LINK' : undefined, 'it is the same one')
      await end()
    }
  }
})

test('a peer that answers before it has everything on disk is asked again', async () => {
  const { system, replica, replicator, guest, hello, end } = await setUp()
  await replica.put('key', 'value')
  const vector = [...replica.store.vector]
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), log: log(1), vector, want: true }))
  await system.advance(100)
  const asked = (): number => peer.heard.filter((frame) => frame.type === 'fragment').map(({ bytes }) => decodeData(bytes)).filter((message) => message.type === 'advance' && message.acknowledge).length
  const acknowledge = (members: AcknowledgedMember[]): void => { peer.say(encodeControl({ type: 'acknowledge', members })) }
  let isSynced = false
  const synced = replicator.mesh.synced(60_000).then(() => { isSynced = true })
  await system.advance(100)
  assert.is(asked(), 1)
  acknowledge([])
  await system.advance(1000)
  assert.is(asked(), 2)
  assert.not(isSynced)
  acknowledge([{ replica: id(1), unseenSeconds: 0, vector }])
  acknowledge([])
  await system.advance(1000)
  await synced
  await end()
})

test('who waits to be in sync is told when the time is over, and not later', async () => {
  const { system, replicator, guest, hello, end } = await setUp()
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), log: log(1) }))
  await system.advance(5)
  let code: string | undefined
  replicator.mesh.synced(100).catch((error) => { code = error.code })
  await system.advance(99)
  assert.is(code, undefined)
  await system.advance(1)
  assert.is(code, 'REPLICATION_TIMEOUT')
  await end()
})

test('what a peer had said before it was asked is no answer, and its answer is heard at once', async () => {
  const { system, replica, replicator, guest, hello, end } = await setUp()
  await replica.put('key', 'value')
  const ours = [...replica.store.vector]
  const peer = await guest('a')
  const acknowledge = (members: AcknowledgedMember[]): void => { peer.say(encodeControl({ type: 'acknowledge', members })) }
  peer.say(hello({ replica: id(1), log: log(1), vector: ours, want: true }))
  acknowledge([{ replica: id(1), unseenSeconds: 0, vector: ours }])
  await system.advance(100)
  let isSynced = false
  const synced = replicator.mesh.synced(60_000).then(() => { isSynced = true })
  await system.advance(2000)
  assert.not(isSynced)
  acknowledge([])
  await system.advance(5)
  assert.ok(isSynced)
  await synced
  await end()
})

test('what a peer comes to have after it has answered is not waited for', async () => {
  const { system, replica, replicator, guest, hello, end } = await setUp()
  await replica.put('key', 'value')
  const ours = [...replica.store.vector]
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), log: log(1), vector: ours, want: true }))
  await system.advance(100)
  let isSynced = false
  const synced = replicator.mesh.synced(60_000).then(() => { isSynced = true })
  await system.advance(100)
  const acknowledge = (members: AcknowledgedMember[]): void => { peer.say(encodeControl({ type: 'acknowledge', members })) }
  acknowledge([{ replica: id(1), unseenSeconds: 0, vector: [...ours, ...vector(1)] }])
  acknowledge([])
  await system.advance(1000)
  acknowledge([{ replica: id(1), unseenSeconds: 0, vector: vector(2) }])
  await system.advance(1000)
  assert.not(isSynced, 'what it had is not here yet')
  const unit = encodeUnit([], encodeUnitBody(vector(1), []))
  peer.say(nextFragment(unit, 1, unit.length - 1))
  await system.advance(2000)
  assert.ok(isSynced)
  await synced
  await end()
})

test('who is linked is told of many who come together, not of each by itself', async () => {
  const { system, guest, hello, end } = await setUp()
  const member = await guest('a')
  member.say(hello({ replica: id(1) }))
  await system.advance(2 * acknowledgeDelayMs)
  member.heard.length = 0
  const come = 60
  for (let number = 0; number < come; number++) (await guest(`h${number}`)).say(hello({ replica: id(100 + number) }))
  await system.advance(2 * acknowledgeDelayMs)
  const told = member.heard.flatMap((frame) => frame.type === 'acknowledge' ? [frame.members.map(({ replica }) => replica)] : [])
  assert.ok(told.length <= 6, `told ${told.length} times`)
  const named = new Set(told.flat())
  for (let number = 0; number < come; number++) assert.ok(named.has(id(100 + number)))
  await end()
})

test('a link that is half-open is found by the silence, and so is a peer that only listens', async () => {
  const { system, network, replicator, guest, hello, codes, end } = await setUp()
  const [cut, mute] = [await guest('cut'), await guest('mute')]
  cut.say(hello({ replica: id(1) }))
  mute.say(hello({ replica: id(2) }))
  await system.advance(100)
  network.partition('cut', 'h', true)
  for (let passedMs = 0; passedMs < heartbeatTimeoutMs - 1000; passedMs += heartbeatIntervalMs) {
    cut.say(encodeControl({ type: 'heartbeat', timeMs: system.nowMs() }))
    await system.advance(heartbeatIntervalMs)
  }
  assert.is(mute.heard.filter(({ type }) => type === 'heartbeat').length >= 2, true, 'heartbeats go out meanwhile')
  await system.advance(1500)
  assert.is(replicator.mesh.links.size, 0)
  assert.equal(codes(), ['REPLICATION_PEER_SILENT', 'REPLICATION_PEER_SILENT'])
  assert.is(mute.farewell, 'REPLICATION_PEER_SILENT')
  await end()
})

test('a peer whose frames take long to come is not silent, as long as something comes', async () => {
  const { system, replicator, guest, hello, codes, end } = await setUp()
  const slow = await guest('slow')
  slow.say(hello({ replica: id(1) }))
  await system.advance(100)
  const [frame] = encodeFrames([encodeControl({ type: 'direct', logs: [log(1), log(2), log(3)] })])
  for (const byte of frame!) {
    slow.write(Buffer.of(byte))
    await system.advance(heartbeatTimeoutMs - 1000)
    assert.is(replicator.mesh.links.size, 1)
  }
  assert.equal(codes(), [])
  await system.advance(heartbeatTimeoutMs)
  assert.is(replicator.mesh.links.size, 0)
  await end()
})

test('frames of one peer that come together and take long let others have their turn now and then', async () => {
  const { system, guest, hello, end } = await setUp()
  const peer = await guest('a')
  peer.say(hello({ replica: id(1) }))
  await system.advance(5)
  const { monotonicMs, yield: giveWay } = system
  let [passedMs, turns] = [0, 0]
  system.monotonicMs = () => monotonicMs.call(system) + passedMs++ // each look at the clock takes so long
  system.yield = async () => {
    turns++
    await giveWay.call(system)
  }
  peer.write(Buffer.concat(Array.from({ length: 50 }, () => encodeFrames([encodeControl({ type: 'heartbeat', timeMs: system.nowMs() })])).flat()))
  await system.advance(5)
  assert.ok(turns >= passedMs / 50 && turns <= passedMs / 10, `${turns} turns in ${passedMs} ms`)
  Object.assign(system, { monotonicMs, yield: giveWay })
  await end()
})

test('a peer that beats and does not read is left after a while; one that reads slowly is not', async () => {
  const { system, network, replica, replicator, guest, hello, codes, end } = await setUp()
  await replica.put('key', 'x'.repeat(30 * network.windowBytes))
  const [stuck, slow] = [await guest('stuck', { reads: false }), await guest('slow', { reads: false })]
  stuck.say(hello({ replica: id(1), want: true, credit: 2 ** 40 }))
  slow.say(hello({ replica: id(2), want: true, credit: 2 ** 40 }))
  const chunks = slow.connection.source[Symbol.asyncIterator]()
  for (let passedMs = 0; passedMs < outputStallMs + 3000; passedMs += heartbeatIntervalMs) {
    for (const each of [stuck, slow]) each.say(encodeControl({ type: 'heartbeat', timeMs: system.nowMs() }))
    await chunks.next()
    await system.advance(heartbeatIntervalMs)
    assert.is(replicator.mesh.links.size, passedMs < outputStallMs - 2 * heartbeatIntervalMs ? 2 : replicator.mesh.links.size)
  }
  assert.equal(codes(), ['REPLICATION_PEER_STALLED'])
  assert.equal([...replicator.mesh.links].map(({ session }) => session.peer!.replica), [id(2)])
  await end()
})

test('so is one that has never read, of a stream that takes much into its own hands', async () => {
  const { system, replicator, hello, codes, end } = await setUp()
  const output = pushable<Uint8Array>()
  void replicator.stream().sink(output)
  const say = (frame: Uint8Array): void => { for (const part of encodeFrames([frame])) output.push(part) }
  say(hello({ replica: id(1) }))
  for (let passedMs = 0; passedMs < outputStallMs + 3000; passedMs += heartbeatIntervalMs) {
    say(encodeControl({ type: 'heartbeat', timeMs: system.nowMs() }))
    await system.advance(heartbeatIntervalMs)
  }
  assert.equal(codes(), ['REPLICATION_PEER_STALLED'])
  await end()
})

test('of what a peer does not read so much may wait as can be said of all members, and no more', async () => {
  const { system, replicator, guest, hello, codes, end } = await setUp()
  const vectorMax = vector(1000).map(({ log }) => ({ log, sequence: Number.MAX_SAFE_INTEGER, hlc: hlcMax }))
  const membersBytes = memberEntriesMax / 1000 * encodeControl({ type: 'acknowledge', members: [{ replica: id(2), unseenSeconds: 0, vector: vectorMax }] }).length
  const peer = await guest('a', { reads: false })
  peer.say(hello({ replica: id(1) }))
  await system.advance(5)
  const link = replicator.mesh.linkTo(id(1))!
  const peers = Array.from({ length: peersPerMessageMax }, () => ({ replica: id(2), host: 'h'.repeat(hostBytesMax), port: 9000 }))
  const { length } = encodeControl({ type: 'peers', peers })
  let said = 0
  while (replicator.mesh.links.size > 0 && said < 2 * outputBytesMax) {
    link.handle({ type: 'tell-peers', peers })
    said += length
  }
  assert.ok(said > membersBytes && Math.abs(said - outputBytesMax) < MiB, `after ${said} bytes`)
  assert.equal(codes(), ['REPLICATION_PEER_STALLED'])
  await end()
})

test('a stream that is not read at once is waited for like any other peer, however long the process has run', async () => {
  const { system, replicator, codes, end } = await setUp()
  await system.advance(outputStallMs + 1000)
  replicator.stream()
  await system.advance(handshakeTimeoutMs - 500)
  assert.is(replicator.mesh.links.size, 1)
  assert.equal(codes(), [])
  await system.advance(1500)
  assert.is(replicator.mesh.links.size, 0)
  assert.equal(codes(), ['REPLICATION_PEER_SILENT'])
  await end()
})

test('logs that would be too many end the link, and from many on there is a warning at open', async () => {
  const { system, replica, replicator, guest, hello, codes, end } = await setUp()
  const many = await guest('a')
  many.say(hello({ replica: id(1), vector: vector(logsOfOthersMax + 1) }))
  await system.advance(100)
  assert.is(many.farewell, 'REPLICATION_TOO_MANY_LOGS')
  const more = await guest('a')
  more.say(hello({ replica: id(1), vector: vector(logsMax + 1) }))
  await system.advance(100)
  assert.is(more.farewell, 'REPLICATION_PROTOCOL')
  assert.equal(codes(), ['REPLICATION_TOO_MANY_LOGS', 'REPLICATION_PROTOCOL'])
  assert.is(replicator.mesh.links.size, 0)
  await end()

  const { store } = replica
  await store.intake.begin('catch-up', vector(logsWarned), [], 0).end(0)
  await store.close()
  assert.equal((await replica.reopened()).errors.map(({ code }) => code), ['REPLICATION_TOO_MANY_LOGS'])
})

test('members that would be too many end the link that names them', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  const gossip = await guest('a')
  gossip.say(hello({ replica: id(1) }))
  for (let number = 100; number < membersMax + 200; number += membersPerMessageMax) {
    gossip.say(encodeControl({ type: 'acknowledge', members: Array.from({ length: membersPerMessageMax }, (_, index) => ({ replica: id(number + index), unseenSeconds: 0, vector: [] })) }))
  }
  await system.advance(100)
  assert.is(gossip.farewell, 'REPLICATION_TOO_MANY_MEMBERS')
  assert.is([...replica.store.members].length, membersMax)
  assert.equal(codes(), ['REPLICATION_TOO_MANY_MEMBERS'])
  await end()
})

test('a member with more logs than a vector names ends the link that names them', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  replica.store.members.met(id(3))
  await replica.store.retire(id(3))
  for (const member of [id(2), id(3)]) {
    const gossip = await guest('a')
    gossip.say(hello({ replica: id(1) }))
    const logs = vector(logsMax + 1)
    gossip.say(encodeControl({ type: 'acknowledge', members: [{ replica: member, unseenSeconds: 0, vector: logs.slice(0, 10_000) }] }))
    await system.advance(100)
    gossip.say(encodeControl({ type: 'acknowledge', members: [{ replica: member, unseenSeconds: 0, vector: logs.slice(10_000) }] }))
    await system.advance(100)
    assert.is(gossip.farewell, 'REPLICATION_TOO_MANY_MEMBERS')
  }
  assert.is(replica.store.members.acknowledged(id(2)).size, 10_000)
  assert.equal(codes(), ['REPLICATION_TOO_MANY_MEMBERS', 'REPLICATION_TOO_MANY_MEMBERS'])
  await end()
})

test('what a peer says that this replica itself holds is not kept', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  await replica.store.flush()
  const { size } = replica.store.members.acknowledged(replica.store.replica)
  for (let link = 0; link < 3; link++) {
    const gossip = await guest('a')
    gossip.say(hello({ replica: id(1) }))
    gossip.say(encodeControl({ type: 'acknowledge', members: [{ replica: replica.store.replica, unseenSeconds: 0, vector: vector(10_000) }] }))
    await system.advance(100)
  }
  assert.is(replica.store.members.acknowledged(replica.store.replica).size, size)
  assert.equal(codes(), [])
  await end()
})

test('a bug that shows while a link is told of something ends that link, and nothing else', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  const gossip = await guest('a')
  gossip.say(hello({ replica: id(1) }))
  gossip.say(encodeControl({ type: 'acknowledge', members: [{ replica: id(2), unseenSeconds: 0, vector: vector(1) }] }))
  await system.advance(100)
  const { members } = replica.store
  Object.assign(members, { [Symbol.iterator]: () => { throw new TypeError('planted') } })
  await system.advance(2000) // when all are told
  delete (members as Partial<typeof members>)[Symbol.iterator]
  assert.is(gossip.farewell, 'REPLICATION_INTERNAL')
  assert.equal(codes(), ['REPLICATION_INTERNAL'])
  await end()
})

test('a link that ends since what came could not be stored says so as the disk does of anything in the background', async () => {
  const { system, replica, guest, hello, errors, end } = await setUp()
  const planted = new ReplicationError('planted', { code: 'REPLICATION_WRITE_INDETERMINATE' })
  replica.store.intake.apply = async () => { throw planted }
  const peer = await guest('a')
  peer.say(hello({ replica: id(1) }))
  peer.say(encodeControl({ type: 'live', places: [] }))
  const unit = encodeUnit([], encodeUnitBody(vector(1), []))
  peer.say(nextFragment(unit, 1, unit.length - 1))
  await system.advance(100)
  assert.is(peer.farewell, 'LEVEL_IO_ERROR')
  assert.equal(errors.map(({ code, message, cause }) => [code, /^a:\d+: planted$/.test(message), cause]), [['LEVEL_IO_ERROR', true, planted]])
  await end()
})

test('a disk that refuses everything for one reason is told of once, until it can', async () => {
  const { system, replica, replicator, guest, hello, codes, end } = await setUp()
  const { flush } = replica.store
  replica.store.flush = async () => { throw new ReplicationError('planted', { code: 'REPLICATION_CORRUPT' }) }
  await replica.put('key', 'value')
  const gossip = await guest('a')
  gossip.say(hello({ replica: id(1) }))
  await system.advance(2500)
  assert.equal(codes(), ['REPLICATION_CORRUPT'])
  const full = async (): Promise<never> => { throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }) }
  replica.store.flush = full
  await system.advance(2000)
  assert.equal(codes(), ['REPLICATION_CORRUPT', 'LEVEL_IO_ERROR'])
  replica.store.flush = flush
  await system.advance(2000)
  assert.ok(replica.store.durable.equals(replica.store.vector), 'it was tried again')
  replica.store.flush = full
  await replica.put('key', 'value')
  replicator.mesh.changed()
  gossip.say(encodeControl({ type: 'heartbeat', timeMs: system.nowMs() }))
  await system.advance(acknowledgeDelayMs)
  assert.equal(codes(), ['REPLICATION_CORRUPT', 'LEVEL_IO_ERROR', 'LEVEL_IO_ERROR'])
  await end()
})

test('what fails because the database is closed is not told', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  let fail = (_error: Error): void => {}
  replica.store.flush = async () => await new Promise((_resolve, reject) => { fail = reject })
  await replica.put('key', 'value')
  const gossip = await guest('a')
  gossip.say(hello({ replica: id(1) }))
  await system.advance(5000)
  const ended = end()
  fail(new ReplicationError('planted', { code: 'LEVEL_DATABASE_NOT_OPEN' }))
  await ended
  assert.equal(codes(), [])
})

test('what is opened for a peer is closed when it leaves, also if that is opened only then', async () => {
  const { system, replica, replicator, guest, hello, end } = await setUp()
  for (let index = 0; index < 10; index++) await replica.put(`key-${index}`, 'x'.repeat(200_000))
  const { openSource } = replica.store
  let open = 0
  let goOn = (): void => {}
  replica.store.openSource = async (...given) => {
    await new Promise<void>((resolve) => { goOn = resolve })
    const source = await openSource.apply(replica.store, given)
    open++
    const close = source.close.bind(source)
    return Object.assign(source, { close: async () => { open--; await close(); throw new Error('planted') } })
  }
  const bye = encodeControl({ type: 'bye', code: 'REPLICATION_DISCONNECTED', message: '' })
  for (const leavesBefore of [false, true]) {
    const peer = await guest('a')
    const sinceMs = system.nowMs() - 5
    peer.say(hello({ replica: id(1), want: true, credit: 0 }))
    await system.advance(100)
    assert.ok(Math.abs(replicator.peers()[0]!.since! - sinceMs) <= 5)
    if (leavesBefore) peer.say(bye)
    await system.advance(100)
    goOn()
    await system.advance(100)
    if (!leavesBefore) {
      assert.is(open, 1)
      peer.say(bye)
      await system.advance(100)
    }
    assert.is(open, 0)
    await replica.put('while nobody reads', 'x'.repeat(300_000))
    assert.is(replica.store.feed.records(false), false)
  }
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), want: true, credit: 2_000_000 }))
  await system.advance(100)
  goOn()
  await system.advance(100)
  peer.say(encodeControl({ type: 'credit', bytes: 1_000_000 }))
  await system.advance(100)
  assert.ok(peer.heard.filter((frame) => frame.type === 'fragment').length > 10)
  assert.is(open, 0, 'all of it has been read')
  assert.is(replicator.peers().length, 1)
  await end()
})

test('how much of a delivery a peer has been sent is shown, and that the rest cannot be read ends its link', async () => {
  const { system, replica, replicator, guest, hello, codes, end } = await setUp()
  for (let index = 0; index < 10; index++) await replica.put(`key-${index}`, 'x'.repeat(200_000))
  const { openSource } = replica.store
  let fails = false
  replica.store.openSource = async (...given) => {
    const source = await openSource.apply(replica.store, given)
    const next = source.next.bind(source)
    return Object.assign(source, { next: async () => fails ? await Promise.reject(new Error('planted')) : await next() })
  }
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), want: true, credit: 500_000 }))
  await system.advance(100)
  const progress = replicator.peers()[0]!.progress!
  assert.ok(progress > 0 && progress < 1, String(progress))
  fails = true
  peer.say(encodeControl({ type: 'credit', bytes: 2_000_000 }))
  await system.advance(100)
  assert.is(peer.farewell, 'REPLICATION_INTERNAL')
  assert.equal(codes(), ['REPLICATION_INTERNAL'])
  await end()
})

test('what was being read for a delivery that was given up is not sent with the next one, nor is it a fault that it cannot be read', async () => {
  for (const [fails, comesBefore] of [[false, false], [true, false], [true, true]]) {
    const { system, replica, guest, hello, codes, end } = await setUp()
    await replica.put('key', 'value')
    const { openSource } = replica.store
    const goOn: Array<() => void> = []
    replica.store.openSource = async (...given) => {
      const source = await openSource.apply(replica.store, given)
      const next = source.next.bind(source)
      const isFirst = goOn.length === 0
      return Object.assign(source, {
        next: async () => {
          const chunk = await next()
          await new Promise<void>((resolve) => { goOn.push(resolve) })
          if (isFirst && fails) throw new Error('planted')
          return chunk
        }
      })
    }
    const peer = await guest('a')
    peer.say(hello({ replica: id(1), want: true, credit: 0 }))
    for (let passedMs = 0; passedMs <= transferStallMs + heartbeatIntervalMs; passedMs += heartbeatIntervalMs) {
      peer.say(encodeControl({ type: 'heartbeat', timeMs: system.nowMs() }))
      await system.advance(heartbeatIntervalMs)
    }
    assert.ok(peer.heard.some(({ type }) => type === 'later'))
    if (comesBefore) goOn[0]!()
    await system.advance(100)
    peer.say(encodeControl({ type: 'credit', bytes: 1_000_000 }))
    peer.say(encodeControl({ type: 'want', vector: [], collected: [] }))
    await system.advance(100)
    for (const go of goOn) go()
    await system.advance(100)
    goOn.at(-1)!()
    await system.advance(100)
    assert.equal(peer.heard.flatMap((frame) => frame.type === 'fragment' ? decodeData(frame.bytes).type : []), ['begin', 'chunk', 'end'])
    assert.equal(codes(), [])
    await end()
  }
})

test('whoever asks for what it has sent to be on disk is answered when that is there', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  const { intake } = replica.store
  const { apply } = intake
  let goOn = (): void => {}
  const isOver = new Promise<void>((resolve) => { goOn = resolve })
  intake.apply = async (...given) => {
    await isOver
    await apply.apply(intake, given)
  }
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), log: log(0), want: true }))
  peer.say(encodeControl({ type: 'live', places: [] }))
  const unit = encodeUnit([], encodeUnitBody(vector(1), []))
  peer.say(nextFragment(unit, 1, unit.length - 1))
  peer.say(encodeData({ type: 'advance', vector: [], acknowledge: true }))
  const answers = (): number => peer.heard.filter((frame) => frame.type === 'acknowledge' && frame.members.length === 0).length
  await system.advance(100)
  assert.is(answers(), 0)
  goOn()
  await system.advance(100)
  assert.is(answers(), 1)
  assert.is(replica.store.durable.sequenceOf(log(0)), 1)
  assert.equal(codes(), [])
  await end()
})

test('a peer that comes back with less than it said to have on disk has what it will say', async () => {
  const { system, replica, guest, hello, end } = await setUp()
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), log: log(9), vector: vector(2) }))
  peer.say(encodeControl({ type: 'acknowledge', members: [{ replica: id(1), unseenSeconds: 0, vector: vector(2) }] }))
  peer.say(encodeControl({ type: 'bye', code: 'REPLICATION_DISCONNECTED', message: '' }))
  await system.advance(100)
  const size = (): number => replica.store.members.acknowledged(id(1)).size
  assert.is(size(), 2)
  const back = await guest('a')
  back.say(hello({ replica: id(1), log: log(9), vector: vector(1) }))
  await system.advance(100)
  assert.is(size(), 0)
  await end()
})

test('whoever leaves gives its turn to the next at once', async () => {
  const { system, guest, hello, end } = await setUp()
  const guests: Array<Awaited<ReturnType<typeof guest>>> = []
  for (const number of [1, 2, 3]) {
    const peer = await guest('a')
    peer.say(hello({ replica: id(number), vector: vector(number) }))
    await system.advance(100)
    guests.push(peer)
  }
  const wanted = (): boolean[] => guests.map(({ heard }) => heard.some((frame) => frame.type === 'want' || (frame.type === 'hello' && frame.want)))
  assert.equal(wanted(), [true, false, false])
  for (const [index, expected] of [[1, [true, false, false]], [0, [true, false, true]]] as const) {
    guests[index]!.say(encodeControl({ type: 'bye', code: 'REPLICATION_DISCONNECTED', message: '' }))
    await system.advance(100)
    assert.equal(wanted(), expected)
  }
  await end()
})

test('what was lost is not written again as long as a peer is asked for it, or brings it; that it could not be is told once, and it is tried again', async () => {
  const { system, replica, replicator, guest, hello, codes, end } = await setUp()
  let [ends, isFull] = [0, true]
  Object.defineProperty(replica.store, 'repairing', { get: () => isFull || ends === 0 })
  replica.store.endRepair = async () => {
    if (isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
    ends++
  }
  const peer = await guest('a')
  const wait = async (ms: number): Promise<void> => {
    for (let passedMs = 0; passedMs < ms; passedMs += heartbeatIntervalMs) {
      peer.say(encodeControl({ type: 'heartbeat', timeMs: system.nowMs() }))
      await system.advance(heartbeatIntervalMs)
    }
  }
  peer.say(hello({ replica: id(1), vector: vector(1) }))
  await wait(repairMs + heartbeatIntervalMs)
  assert.equal(codes(), [])
  peer.say(encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: vector(1), collected: [], entries: 0 }))
  await wait(heartbeatIntervalMs)
  assert.equal(codes(), [])
  assert.is(replicator.peers()[0]!.progress, 1)
  peer.say(encodeData({ type: 'end', entries: 0 }))
  await wait(2 * heartbeatIntervalMs)
  assert.is(replicator.peers()[0]!.progress, undefined)
  assert.equal(codes(), ['LEVEL_IO_ERROR'])
  isFull = false
  await wait(heartbeatIntervalMs)
  assert.is(ends, 1)
  await end()
})

test('whoever waits for a peer waits for the link in its place too, if there may be one, until that has greeted and brought what it has, or is gone', async () => {
  for (const [greets, code, newer] of [[true, 'REPLICATION_DUPLICATE_LINK', 'greets'], [true, 'REPLICATION_DUPLICATE_LINK', 'is silent'], [true, 'REPLICATION_DISCONNECTED', 'is silent'], [false, 'REPLICATION_DUPLICATE_LINK', 'is silent']] as const) {
    const { system, replicator, guest, visited, hello, end } = await setUp()
    const first = await visited('g')
    const same = { replica: id(1), log: log(1), nonce: 'a'.repeat(32), vector: vector(1) }
    if (greets) first.say(hello(same))
    await system.advance(5)
    let isOver = false
    void replicator.mesh.caughtUpWithAll().then(() => { isOver = true })
    const second = await guest('g')
    first.say(encodeControl({ type: 'bye', code, message: '' }))
    await system.advance(1000)
    const mayBeReplaced = greets && code === 'REPLICATION_DUPLICATE_LINK'
    assert.is(isOver, !mayBeReplaced, `${code} ${newer}`)
    if (newer === 'greets') {
      second.say(hello(same))
      await system.advance(1000)
      assert.not(isOver)
      second.say(encodeControl({ type: 'live', places: [] }))
      await system.advance(1000)
    } else {
      await system.advance(handshakeTimeoutMs)
    }
    assert.ok(isOver)
    await end()
  }
})

test('a hello asks if nobody else is asked, or is going to be, and there is nothing to go on with', async () => {
  const { system, replica, guest, hello, end } = await setUp()
  const asks = async (): Promise<Awaited<ReturnType<typeof guest>> & { readonly asked: boolean }> => {
    const peer = await guest('a')
    await system.advance(5)
    const [first] = peer.heard
    return Object.assign(peer, { asked: first?.type === 'hello' && first.want })
  }
  const [first, second] = [await asks(), await asks()]
  assert.equal([first.asked, second.asked], [true, false])
  first.say(encodeControl({ type: 'bye', code: 'REPLICATION_DISCONNECTED', message: '' }))
  await system.advance(5)
  const third = await asks()
  assert.ok(third.asked, 'whoever was asked before has gone')
  third.say(hello({ replica: id(3) }))
  await system.advance(5)
  const fourth = await asks()
  assert.ok(fourth.asked, 'whoever was asked before has nothing')
  fourth.say(hello({ replica: id(4) }))
  await system.advance(5)
  Object.defineProperty(replica.store.intake, 'resumePoint', { get: () => ({ kind: 'catch-up', parts: [] }) })
  assert.not((await asks()).asked)
  await end()
})

test('nobody is asked before what came of the last delivery has left the store, and a close waits for that, and for its farewell', async () => {
  const { system, replica, replicator, guest, hello, end } = await setUp()
  const { intake } = replica.store
  const { begin } = intake
  let goOn = (): void => {}
  intake.begin = (...given) => {
    const delivery = begin.apply(intake, given)
    const abandon = delivery.abandon.bind(delivery)
    return Object.assign(delivery, {
      abandon: async () => {
        await new Promise<void>((resolve) => { goOn = resolve })
        await abandon()
        throw new Error('planted')
      }
    })
  }
  const beginning = encodeData({ type: 'begin', kind: 'catch-up', resumes: false, vector: vector(1), collected: [], entries: 1 })
  const [one, two] = [await guest('a'), await guest('b')]
  const wanted = (): number[] => [one, two].map(({ heard }) => heard.filter(({ type }) => type === 'want').length)
  one.say(hello({ replica: id(1), vector: vector(1) }))
  two.say(hello({ replica: id(2), vector: vector(2) }))
  one.say(beginning)
  await system.advance(100)
  assert.is(replicator.peers()[0]!.progress, 0)
  for (const type of ['later', 'again'] as const) one.say(encodeControl({ type }))
  await system.advance(100)
  assert.is(replicator.peers()[0]!.progress, undefined)
  assert.equal(wanted(), [0, 0])
  goOn()
  await system.advance(100)
  assert.equal(wanted(), [0, 1])
  two.say(encodeControl({ type: 'live', places: [] }))
  await system.advance(100)
  assert.equal(wanted(), [1, 1])

  one.say(beginning)
  await system.advance(100)
  let isClosed = false
  const closed = end().then(() => { isClosed = true })
  await system.advance(3000)
  assert.not(isClosed, 'it is in the store')
  goOn()
  await closed

  const { replica: full, network, ...other } = await setUp()
  await full.put('key', 'x'.repeat(8 * network.windowBytes))
  const stuck = await other.guest('a', { reads: false })
  stuck.say(hello({ replica: id(1), want: true, credit: 2 ** 40 }))
  await other.system.advance(100)
  isClosed = false
  const left = other.replicator.close().then(() => { isClosed = true })
  await other.system.advance(100)
  assert.not(isClosed, 'nobody has read why')
  await other.system.advance(1000)
  assert.ok(isClosed)
  await left
})

test('what another group knows of our log is its own affair', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  await replica.put('key', 'value')
  const { ownLog } = replica.store
  const stranger = await guest('a')
  stranger.say(hello({ group: 'others', vector: [{ log: ownLog, sequence: 7, hlc: 1024 }] }))
  await system.advance(1000)
  assert.is(stranger.farewell, 'REPLICATION_GROUP_MISMATCH')
  assert.equal(codes(), ['REPLICATION_GROUP_MISMATCH'])
  assert.is(replica.store.ownLog, ownLog)
  await end()
})

test('a log that could not be left is left later, and until then nobody is let in', async () => {
  const { system, replica, replicator, guest, hello, codes, end } = await setUp()
  await replica.put('key', 'value')
  const { ownLog } = replica.store
  const { leaveLog } = replica.store
  replica.store.leaveLog = async () => { throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }) }
  const peer = await guest('a')
  peer.say(hello({ replica: id(1), vector: [{ log: ownLog, sequence: 7, hlc: 1024 }] }))
  await system.advance(100)
  assert.is(peer.farewell, 'REPLICATION_LOG_REPLACED')
  assert.is(replica.store.ownLog, ownLog)
  const second = await guest('a')
  await system.advance(5000)
  assert.ok(second.state.ended)
  assert.equal(codes(), ['REPLICATION_LOG_REPLACED', 'LEVEL_IO_ERROR'])
  replica.store.leaveLog = leaveLog
  await system.advance(2000)
  assert.is.not(replica.store.ownLog, ownLog)
  assert.equal(codes(), ['REPLICATION_LOG_REPLACED', 'LEVEL_IO_ERROR'])
  const third = await guest('a')
  third.say(hello({ replica: id(1) }))
  await system.advance(100)
  assert.is(replicator.peers().length, 1)
  await end()
})

test('a log is left, too, when what somebody else has sent cannot be stored at that moment', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  await replica.put('key', 'value')
  const { ownLog, intake } = replica.store
  let fail = (): void => {}
  intake.apply = async () => await new Promise<void>((_resolve, reject) => { fail = () => { reject(new Error('planted')) } })
  const [peer, other] = [await guest('a'), await guest('b')]
  peer.say(hello({ replica: id(1), log: log(0) }))
  const unit = encodeUnit([], encodeUnitBody(vector(1), []))
  peer.say(nextFragment(unit, 1, unit.length - 1))
  await system.advance(100)
  other.say(hello({ replica: id(2), vector: [{ log: ownLog, sequence: 7, hlc: 1024 }] }))
  await system.advance(100)
  assert.is(replica.store.ownLog, ownLog, 'what was sent is in the store')
  fail()
  await system.advance(100)
  assert.is.not(replica.store.ownLog, ownLog)
  assert.equal(codes(), ['REPLICATION_LOG_REPLACED'])
  await end()
})

test('a log is not left for what somebody is said to have of it though it was not sent, if that is what stands there', async () => {
  const { system, replica, guest, hello, codes, end } = await setUp()
  const { ownLog } = replica.store
  await replica.put('first', '1')
  const vector = [...replica.store.vector]
  await replica.put('second', '2')
  const peer = await guest('a')
  peer.say(hello({ replica: id(1) }))
  peer.say(encodeControl({ type: 'acknowledge', members: [{ replica: id(2), unseenSeconds: 0, vector }] }))
  await system.advance(1000)
  assert.is(peer.farewell, 'REPLICATION_DISCONNECTED')
  assert.is(replica.store.ownLog, ownLog)
  assert.equal(codes(), [])
  await end()
})

test('an acknowledgement names so many members, and entries of vectors, at most', async () => {
  const { system, guest, hello, codes, end } = await setUp()
  const member = (number: number, length: number) => ({ replica: id(number), unseenSeconds: 0, vector: vector(length) })
  for (const members of [Array.from({ length: membersPerMessageMax + 1 }, (_, index) => member(index, 0)), [member(1, logsMax), member(2, 1)]]) {
    const gossip = await guest('a')
    gossip.say(hello({ replica: id(1) }))
    gossip.say(encodeControl({ type: 'acknowledge', members }))
    await system.advance(100)
    assert.is(gossip.farewell, 'REPLICATION_PROTOCOL')
  }
  assert.equal(codes(), ['REPLICATION_PROTOCOL', 'REPLICATION_PROTOCOL'])
  await end()
})

test.run()
