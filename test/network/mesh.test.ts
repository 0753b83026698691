/**
 * What all links of a replica have in common.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { acknowledgeDelayMs, backlogBytes, backOffMaxMs, heartbeatTimeoutMs, repairMs } from '../../lib/limits.ts'
import type { Replicator } from '../../lib/network/replicator.ts'
import type { Connection, Transport } from '../../lib/network/transport.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { rejection } from '../support/rejection.ts'
import { makeReplicator } from '../support/replicator.ts'
import { openReplica, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

test('what every linked replica has been sent, the feed lets go, but for a backlog', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const replicas: TestReplica[] = []
  for (const host of ['a', 'b', 'c']) {
    const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
    const replicator = makeReplicator({
      system,
      store: replica.store,
      transport: network.transport(host),
      host,
      peers: replicas.map((_, index) => `${'abc'[index]}:9000`),
      onError: (error) => { throw error }
    })
    await replicator.open()
    replicas.push(replica)
  }
  await system.advance(2000)
  for (let round = 0; round < 3; round++) {
    for (const [index, replica] of replicas.entries()) for (let write = 0; write < 10; write++) await replica.put(`${index}-${write}`, String(round).repeat(10_000))
    await system.advance(1000)
  }
  const expected = await replicas[0]!.data()
  assert.is(Object.keys(expected).length, 30)
  for (const replica of replicas) {
    const { feed } = replica.store
    assert.equal(await replica.data(), expected)
    assert.is(feed.at(0), 'lost')
    let bytes = 0
    for (let number = feed.end - 1, unit = feed.at(number); typeof unit === 'object'; unit = feed.at(--number)) bytes += unit.body?.length ?? 0
    assert.ok(bytes > 0 && bytes <= backlogBytes)
  }
})

test('who comes back soon is sent what it lacks from memory, and who has been away for more from disk', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const replicas: TestReplica[] = []
  const replicators: Replicator[] = []
  let sources = 0
  for (const host of ['a', 'b']) {
    const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
    const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers: host === 'a' ? [] : ['a:9000'], onError: (error) => { if (error.code !== 'REPLICATION_PEER_SILENT') throw error } })
    const { openSource } = replica.store
    replica.store.openSource = async (...given) => {
      sources++
      return await openSource.apply(replica.store, given)
    }
    await replicator.open()
    replicas.push(replica)
    replicators.push(replicator)
  }
  const [a, b] = replicas as [TestReplica, TestReplica]
  await a.put('k', '0')
  await system.advance(2000)
  const linked = (count: number): void => { for (const { mesh } of replicators) assert.is(mesh.links.size, count) }
  for (const [round, bytes] of [10, 10, backlogBytes, 10].entries()) {
    linked(1)
    const before = sources
    network.partition('a', 'b', true)
    await system.advance(2 * heartbeatTimeoutMs)
    linked(0)
    await a.put('k', `${round}`.repeat(bytes))
    await a.put('l', `${round}`)
    await b.put('l', `${round}`)
    await b.put('m', `${round}`)
    network.partition('a', 'b', false)
    await system.advance(2 * backOffMaxMs)
    const data = await a.data()
    assert.equal(await b.data(), data)
    assert.is(data.m, `${round}`)
    assert.is((await a.versions('l')).length, 2)
    assert.is(sources - before, bytes > 10 ? 1 : 0)
  }
  await Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
})

test('what one peer has not been sent yet the feed keeps, though others have it: nobody has to ask again for being slow', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const replicas: TestReplica[] = []
  const replicators: Replicator[] = []
  for (const host of ['a', 'b', 'c']) {
    const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
    const peers = host === 'a' ? [] : ['a:9000']
    const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers, onError: (error) => { throw error } })
    await replicator.open()
    replicas.push(replica)
    replicators.push(replicator)
  }
  await system.advance(2000)
  const [a, b, c] = replicas as [TestReplica, TestReplica, TestReplica]
  for (const slow of ['b', 'c']) {
    network.partition('a', slow, true)
    for (let write = 0; write < 60; write++) await a.put(`${slow}-${write}`, 'x'.repeat(100_000)) // more than there is credit for
    await system.advance(heartbeatTimeoutMs / 4)
    await a.put(`${slow}-last`, 'x')
    await system.advance(heartbeatTimeoutMs / 4)
    const other = slow === 'b' ? c : b
    assert.equal(Object.keys(await other.data()), Object.keys(await a.data()))
    const { openSource } = a.store
    a.store.openSource = async () => { throw new Error('asked again') }
    network.partition('a', slow, false)
    await system.advance(heartbeatTimeoutMs / 2)
    for (const replica of replicas) assert.equal(Object.keys(await replica.data()), Object.keys(await a.data()))
    a.store.openSource = openSource
  }
  await Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
})

test('where all are linked with all, what one writes comes to each once', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const hosts = ['a', 'b', 'c', 'd']
  const replicas: TestReplica[] = []
  const replicators: Replicator[] = []
  for (const [index, host] of hosts.entries()) {
    const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
    const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers: hosts.slice(0, index).map((other) => `${other}:9000`), onError: (error) => { throw error } })
    await replicator.open()
    replicas.push(replica)
    replicators.push(replicator)
  }
  await system.advance(2000)
  const received = (): number[] => replicators.map((replicator) => replicator.peers().reduce((sum, { bytes }) => sum + bytes.received, 0))
  const before = received()
  for (let write = 0; write < 20; write++) {
    await replicas[0]!.put(String(write), 'x'.repeat(10_000))
    await system.advance(100)
  }
  await system.advance(1000)
  for (const replica of replicas) assert.is(Object.keys(await replica.data()).length, 20)
  const bytes = received().map((total, index) => total - before[index]!)
  for (const each of bytes.slice(1)) assert.ok(each > 200_000 && each < 300_000, bytes.join())
  await Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
})

test('what the end of a chain has on disk is known at its beginning soon, each time', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const replicas: TestReplica[] = []
  const replicators: Replicator[] = []
  for (const [index, host] of ['a', 'b', 'c'].entries()) {
    const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
    const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers: index === 0 ? [] : [`${'abc'[index - 1]}:9000`], onError: (error) => { throw error } })
    await replicator.open()
    replicas.push(replica)
    replicators.push(replicator)
  }
  await system.advance(2000)
  const [first, , last] = replicas as [TestReplica, TestReplica, TestReplica]
  for (let round = 0; round < 3; round++) {
    await first.put('key', String(round))
    await system.advance(5 * acknowledgeDelayMs)
    assert.ok(first.store.members.acknowledged(last.store.replica).dominates(first.store.vector), `round ${round}`)
  }
  await Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
})

test('what no link to its author brings any more comes over others, and at once', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const hosts = ['a', 'b', 'c']
  const replicas: TestReplica[] = []
  const replicators: Replicator[] = []
  for (const [index, host] of hosts.entries()) {
    const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
    const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers: hosts.slice(0, index).map((other) => `${other}:9000`), onError: ({ code }) => { assert.is(code, 'REPLICATION_PEER_SILENT') } })
    await replicator.open()
    replicas.push(replica)
    replicators.push(replicator)
  }
  await system.advance(2000)
  const [a, , c] = replicas as [TestReplica, TestReplica, TestReplica]
  network.partition('a', 'c', true)
  await system.advance(heartbeatTimeoutMs + 2000)
  for (let write = 0; write < 3; write++) {
    await c.put('key', String(write))
    await system.advance(100)
    assert.equal(await a.data(), { key: String(write) })
  }
  const closed = Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
  await system.advance(10_000)
  await closed
})

test('a replica that is alone leaves the disk alone', async () => {
  const system = new VirtualSystem({ seed: 1 })
  let flushes = 0
  const replica: TestReplica = await openReplica({ system, syncFullLogs: async () => { flushes++ }, onCommit: () => { replicator.mesh.changed() } })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const replicator = makeReplicator({ system, store: replica.store, transport: network.transport('a'), host: 'a', onError: (error) => { throw error } })
  await replicator.open()
  await replica.put('key', 'value')
  await system.advance(10 * acknowledgeDelayMs)
  assert.is(flushes, 0)
  await replicator.close()
})

test('what is to be durable while the disk is busy waits for it together, and not for what is durable already, nor after a close', async () => {
  const system = new VirtualSystem({ seed: 1 })
  let flushes = 0
  let goOn: (error?: Error) => void = () => {}
  const syncFullLogs = async (): Promise<void> => {
    flushes++
    await new Promise<void>((resolve, reject) => { goOn = (error) => { if (error === undefined) resolve(); else reject(error) } })
  }
  const replica = await openReplica({ system, syncFullLogs })
  const network = new MemoryNetwork({ system })
  const replicator = makeReplicator({ system, store: replica.store, transport: network.transport('a'), host: 'a', onError: (error) => { throw error } })
  const { mesh } = replicator
  await replica.put('key', '1')
  const first = rejection(mesh.flush())
  await system.settle()
  await replica.put('key', '2')
  const others = [mesh.flush(), mesh.flush(), mesh.flush()]
  await system.settle()
  assert.is(flushes, 1)
  goOn(new Error('planted'))
  assert.is((await first).message, 'planted')
  await system.settle()
  assert.is(flushes, 2)
  goOn()
  await Promise.all(others)
  assert.ok(replica.store.durable.equals(replica.store.vector))
  await mesh.flush()
  assert.is(flushes, 2, 'it was durable')

  await replica.put('key', '3')
  const busy = mesh.flush()
  await system.settle()
  await replica.put('key', '4')
  const late = mesh.flush()
  let isClosed = false
  const closing = replicator.close().then(() => { isClosed = true })
  await system.settle()
  assert.not(isClosed, 'a close waits for the disk')
  goOn()
  await Promise.all([busy, late, closing])
  assert.is(flushes, 3)
})

test('what was lost is written again when a peer has had time to bring it, and not as long as nobody has come', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const open = async (host: string, peers: string[]): Promise<{ replica: TestReplica, replicator: Replicator }> => {
    const replica = await openReplica({ system })
    const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers, onError: (error) => { throw error } })
    return { replica, replicator }
  }
  const lacking = await open('a', [])
  let ends = 0
  Object.defineProperty(lacking.replica.store, 'repairing', { get: () => ends === 0 })
  lacking.replica.store.endRepair = async () => { ends++ }
  await lacking.replicator.open()
  await system.advance(2 * repairMs)
  assert.is(ends, 0)
  const other = await open('b', ['a:9000'])
  await other.replicator.open()
  await system.advance(repairMs - 1000)
  assert.is(ends, 0)
  await system.advance(2000)
  assert.is(ends, 1)
  await Promise.all([lacking, other].map(async ({ replicator }) => { await replicator.close() }))
})

test('a close ends the wait for being in sync, and what comes in meanwhile', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const { store } = await openReplica({ system })
  const replicator = makeReplicator({ system, store, transport: network.transport('a'), host: 'a', onError: (error) => { throw error } })
  await replicator.open()
  const waiting = rejection(replicator.mesh.synced(60_000))
  await replicator.close()
  assert.is((await waiting).code, 'REPLICATION_DISCONNECTED')
  let isClosed = false
  const late = { remote: { host: 'b', port: 1 }, close: () => { isClosed = true } } as Connection
  assert.is(replicator.mesh.add(late, 'inbound', late.remote), undefined)
  assert.ok(isClosed)
})

test('a close leaves nothing behind that would be done later, whatever has begun', async () => {
  for (let closedMs = 0; closedMs < 60; closedMs += 6) {
    const system = new VirtualSystem({ seed: 1 })
    let underWay = 0
    const schedule = (deliver: () => void): void => {
      underWay++
      system.setTimer(() => { underWay--; deliver() }, 5)
    }
    const network = new MemoryNetwork({ system, schedule })
    const replicas: TestReplica[] = []
    const replicators: Replicator[] = []
    for (const [index, host] of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].entries()) {
      const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
      const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers: index === 0 ? [] : ['a:9000'], onError: (error) => { throw error } })
      await replicator.open()
      replicas.push(replica)
      replicators.push(replicator)
    }
    await system.advance(closedMs)
    for (const replica of replicas) for (const key of ['1', '2', '3']) await replica.put(key, 'value')
    const waiting = rejection(replicators[0]!.mesh.synced(60_000))
    const closing = Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
    await system.advance(100)
    await Promise.all([closing, waiting])
    for (const { store } of replicas) await store.close()
    assert.is(system.timers, underWay, `closed after ${closedMs} ms`)
  }
})

test('where everybody writes, and wants to be in sync, all the while, nobody waits for what comes later, nor asks the disk for it', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const flushMs = 100
  let flushes = 0
  const syncFullLogs = async (): Promise<void> => {
    flushes++
    await new Promise<void>((resolve) => { system.setTimer(resolve, flushMs) })
  }
  const hosts = ['a', 'b', 'c', 'd', 'e']
  const replicas: TestReplica[] = []
  const replicators: Replicator[] = []
  for (const [index, host] of hosts.entries()) {
    const replica: TestReplica = await openReplica({ system, syncFullLogs, onCommit: () => { replicator.mesh.changed() } })
    const peers = hosts.slice(0, index).map((other) => `${other}:9000`)
    const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers, onError: (error) => { throw error } })
    await replicator.open()
    replicas.push(replica)
    replicators.push(replicator)
  }
  await system.advance(2000)
  const waitsMs: number[] = []
  const endMs = system.monotonicMs() + 2000
  const askers = replicators.map(async ({ mesh }) => {
    while (system.monotonicMs() < endMs) {
      const startMs = system.monotonicMs()
      await mesh.synced(30_000)
      waitsMs.push(system.monotonicMs() - startMs)
    }
  })
  const write = async (seconds: number): Promise<void> => {
    for (let round = 0; round < seconds * 20; round++) {
      for (const replica of replicas) await replica.put(`${round % 10}`, String(round))
      await system.advance(50)
    }
  }
  await write(2)
  let answered = false
  void Promise.all(askers).then(() => { answered = true })
  await write(1)
  assert.ok(answered, 'all have been answered')
  assert.ok(Math.max(...waitsMs) <= 4 * flushMs, `${Math.max(...waitsMs)} ms`)
  flushes = 0
  await write(2)
  assert.ok(flushes <= 4 * hosts.length, `${flushes} in 2 s in which nobody asks`)
  const closed = Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
  await system.advance(flushMs) // the disk may be at work
  await closed
})

for (const memberTtlMs of [60_000, 600_000, 3_600_000]) {
  test(`a replica that is met over others only is waited for as long as it is there, and ${memberTtlMs / 1000} s longer, though nothing is written`, async () => {
    const system = new VirtualSystem({ seed: 1 })
    const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
    const replicas: TestReplica[] = []
    const replicators: Replicator[] = []
    for (const [index, host] of ['a', 'b', 'c', 'd'].entries()) {
      const replica = await openReplica({ system, memberTtlMs })
      const peers = index === 0 ? [] : [`${'abcd'[index - 1]}:9000`]
      const replicator = makeReplicator({ system, store: replica.store, transport: network.transport(host), host, peers, onError: (error) => { throw error } })
      await replicator.open()
      replicas.push(replica)
      replicators.push(replicator)
    }
    const [first, last] = [replicas[0]!, replicas.at(-1)!]
    const isCounted = ({ store }: TestReplica): boolean => [...store.members].some(({ replica, counted }) => replica === last.store.replica && counted)
    await system.advance(2 * memberTtlMs)
    for (const replica of replicas) assert.ok(isCounted(replica))
    await first.store.flush()
    assert.ok(isCounted(await first.reopened({ memberTtlMs })), 'also if it has just been opened')
    await replicators.at(-1)!.close()
    await system.advance(memberTtlMs / 2)
    for (const replica of replicas) assert.ok(isCounted(replica))
    await system.advance(memberTtlMs)
    for (const replica of replicas.slice(0, -1)) assert.not.ok(isCounted(replica))
  })
}

interface Meeting {
  readonly system: VirtualSystem
  readonly b: TestReplica
  readonly first: Replicator
  readonly second: Replicator
  /** The open of the second, which has dialled the first. */
  readonly opening: { isOver: boolean, readonly done: Promise<void> }
}

/** Two of which the first one has a value, is open and is told of the second a while after that has begun to open. */
async function meet ({ seed, initialSyncMs }: { seed: number, initialSyncMs: number }): Promise<Meeting> {
  const system = new VirtualSystem({ seed })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 1 + 9 * system.random()) } })
  // As where the group has a secret: whoever has dialled greets second.
  const transport = (host: string): Transport => {
    const plain = network.transport(host)
    return { ...plain, dial: async (...given) => Object.assign(await plain.dial(...given), { listensFirst: true }) }
  }
  const [a, b] = [await openReplica({ system }), await openReplica({ system })]
  await a.put('key', 'value')
  const [first, second] = [a, b].map(({ store }, index) => makeReplicator({ system, store, transport: transport('ab'[index]!), host: 'ab'[index]!, peers: index === 0 ? [] : ['a:9000'], initialSyncMs: index * initialSyncMs, onError: (error) => { throw error } })) as [Replicator, Replicator]
  await first.open()
  const opening: Meeting['opening'] = { isOver: false, done: second.open().then(() => { opening.isOver = true }) }
  return { system, b, first, second, opening }
}

test('an open that reaches a peer has what it had, also if another link takes the place of the one that was dialled, a moment later', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    for (let dialledMs = 0; dialledMs <= 20; dialledMs++) {
      const { system, b, first, second, opening } = await meet({ seed, initialSyncMs: 1000 })
      for (let ms = 0; !opening.isOver; ms++) {
        if (ms === dialledMs) first.connect({ host: 'b', port: 9000 })
        await system.advance(1)
      }
      await opening.done
      assert.equal(await b.data(), { key: 'value' }, `seed ${seed}, dialled after ${dialledMs} ms`)
      await Promise.all([first.close(), second.close()])
    }
  }
})

test('an open that may wait for ever does not wait for a peer that has gone, whichever of two links was to stay', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    for (let goneMs = 1; goneMs <= 60; goneMs += 3) {
      const { system, first, second, opening } = await meet({ seed, initialSyncMs: Infinity })
      first.connect({ host: 'b', port: 9000 })
      await system.advance(goneMs)
      const closing = first.close()
      for (let seconds = 0; seconds < 30 && !opening.isOver; seconds++) await system.advance(1000)
      assert.ok(opening.isOver, `seed ${seed}, gone after ${goneMs} ms`)
      await Promise.all([closing, second.close()])
    }
  }
})

test.run()
