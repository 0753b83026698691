/**
 * What all links of a replica have in common.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Replicator } from '../../lib/network/replicator.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { openReplica, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

test('what every linked replica has been sent, the feed lets go', async () => {
  const system = new VirtualSystem({ seed: 1 })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const replicas: TestReplica[] = []
  for (const host of ['a', 'b', 'c']) {
    const replica: TestReplica = await openReplica({ system, onCommit: () => { replicator.mesh.changed() } })
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
      peers: replicas.map((_, index) => `${'abc'[index]}:9000`),
      resolverVersion: '',
      transactionBytesMax: 1024 * 1024,
      initialSyncMs: 0,
      emit: () => {},
      onError: (error) => { throw error }
    })
    await replicator.open()
    replicas.push(replica)
  }
  await system.advance(2000)
  for (let round = 0; round < 3; round++) {
    for (const [index, replica] of replicas.entries()) for (let write = 0; write < 10; write++) await replica.put(`${index}-${write}`, String(round))
    await system.advance(1000)
  }
  const expected = await replicas[0]!.data()
  assert.is(Object.keys(expected).length, 30)
  for (const replica of replicas) {
    const { feed } = replica.store
    assert.equal(await replica.data(), expected)
    assert.ok(feed.end > 0)
    assert.is(feed.at(feed.end - 1), 'lost')
  }
})

test.run()
