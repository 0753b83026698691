/**
 * What two replicas that meet know of one log, and cannot both be right about: it is looked up before anything is sent.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { makeReplicator } from '../support/replicator.ts'
import { snapshotOf } from '../support/snapshot.ts'
import { openReplica, pull, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

interface Running {
  readonly replica: TestReplica
  readonly codes: string[]
}

async function run (system: VirtualSystem, network: MemoryNetwork, host: string, replica: TestReplica, peers: string[]): Promise<Running> {
  const codes: string[] = []
  const replicator = makeReplicator({
    system,
    store: replica.store,
    transport: network.transport(host),
    host,
    peers,
    onError: ({ code }) => { codes.push(code) }
  })
  await replicator.open()
  return { replica, codes }
}

for (const where of ['ours', 'of another'] as const) {
  test(`a write of a log, ${where}, that the peer knows otherwise, and that only the log records tell: nothing is sent, nothing taken`, async () => {
    const system = new VirtualSystem({ seed: 1 })
    const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
    const original = await openReplica({ system })
    await original.put('first', 'x')
    original.store.told.tell()
    const snapshot = await snapshotOf(original, { system })
    await original.put('of-the-original', 'x')
    await system.advance(10)
    for (const key of ['of-the-snapshot', 'too']) await snapshot.put(key, 'x')
    snapshot.store.told.tell() // to somebody else
    const log = original.store.ownLog
    const knowsOriginal = await openReplica({ system })
    await pull(knowsOriginal, original)
    const knowsSnapshot = where === 'ours' ? snapshot : await openReplica({ system })
    if (where !== 'ours') await pull(knowsSnapshot, snapshot)
    await knowsOriginal.put('own', 'x')

    const a = await run(system, network, 'a', knowsOriginal, [])
    const b = await run(system, network, 'b', knowsSnapshot, ['a:9000'])
    await system.advance(20_000)
    if (where === 'ours') {
      assert.is.not(snapshot.store.ownLog, log)
      assert.is(b.codes[0], 'REPLICATION_LOG_REPLACED')
    }
    assert.ok(b.codes.includes('REPLICATION_LOG_FORKED'))
    assert.equal(Object.keys(await a.replica.data()).sort(), ['first', 'of-the-original', 'own'])
    assert.equal(Object.keys(await b.replica.data()).sort(), ['first', 'of-the-snapshot', 'too'])
  })
}

test('a copy that finds out what it is after it has pushed the original out of its link: the original comes back as who it is', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const original = await openReplica({ system })
  await original.put('first', 'x')
  original.store.told.tell()
  const copy = await snapshotOf(original, { system })
  const { replica, ownLog } = original.store
  const third = await run(system, network, 'c', await openReplica({ system }), [])
  const a = await run(system, network, 'a', original, ['c:9000'])
  await original.put('of-the-original', 'x')
  await system.advance(1000)
  for (const key of ['of-the-copy', 'too', 'as-well']) await copy.put(key, 'x')
  const b = await run(system, network, 'b', copy, ['c:9000'])
  await system.advance(20_000)
  assert.equal(b.codes, ['REPLICATION_LOG_REPLACED'])
  assert.equal([original.store.replica, original.store.ownLog, a.codes], [replica, ownLog, []])
  for (const { replica } of [third, a, b]) assert.equal(Object.keys(await replica.data()).sort(), ['as-well', 'first', 'of-the-copy', 'of-the-original', 'too'])
})

for (const meet of [true, false]) {
  test(`a snapshot of a machine that is started elsewhere has a log of its own and the id of the original: one of them takes another, ${meet ? 'when they meet' : 'when a third one is linked with both'}`, async () => {
    const system = new VirtualSystem({ seed: 1 })
    const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
    const original = await openReplica({ system })
    await original.put('first', 'x')
    const identity = original.identity.clone()
    identity.bootId = 'of another machine'
    const snapshot = await snapshotOf(original, { system, identity })
    assert.is(snapshot.store.replica, original.store.replica)
    assert.is.not(snapshot.store.ownLog, original.store.ownLog)
    await original.put('of-the-original', 'x')
    await snapshot.put('of-the-snapshot', 'x')
    const third = await openReplica({ system })
    const all = [await run(system, network, 'a', original, []), await run(system, network, 'b', snapshot, meet ? ['a:9000'] : []), await run(system, network, 'c', third, meet ? [] : ['a:9000', 'b:9000'])]
    await system.advance(20_000)
    assert.is.not(snapshot.store.replica, original.store.replica)
    const codes = all.flatMap(({ codes }) => codes)
    assert.ok(codes.length < 5 && codes.includes('REPLICATION_ID_TAKEN'), codes.join())
    for (const { replica } of meet ? all.slice(0, 2) : all) assert.equal(Object.keys(await replica.data()).sort(), ['first', 'of-the-original', 'of-the-snapshot'])
  })
}

test.run()
