/**
 * What all links of a replica have in common.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { makeReplicator } from '../support/replicator.ts'
import { openReplica, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

test('what every linked replica has been sent, the feed lets go', async () => {
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
