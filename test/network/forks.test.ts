/**
 * What two replicas that meet know of one log, and cannot both be right about: it is looked up before anything is sent.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Replicator } from '../../lib/network/replicator.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { snapshotOf } from '../support/snapshot.ts'
import { openReplica, pull, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

interface Running {
  readonly replica: TestReplica
  readonly codes: string[]
}

async function run (system: VirtualSystem, network: MemoryNetwork, host: string, replica: TestReplica, peers: string[]): Promise<Running> {
  const codes: string[] = []
  const replicator = new Replicator({
    system,
    store: replica.store,
    transport: network.transport(host),
    protection: undefined,
    announcementKey: undefined,
    finder: undefined,
    discovery: { bonjour: false, exchange: false, interfaces: undefined, port: 5353, machineOnly: true },
    group: 'shop',
    host,
    port: 9000,
    portIsPreference: false,
    peers,
    resolverVersion: '',
    transactionBytesMax: 1024 * 1024,
    initialSyncMs: 0,
    emit: () => {},
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

test.run()
