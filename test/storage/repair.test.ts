/**
 * The end of a repair: what survived a hole is written again, in one go.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { housekeepingDelayMs } from '../../lib/limits.ts'
import { checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { openReplica, pull, put } from '../support/store.ts'

test('also while another database of this process is written to, the log names all that was written again', async () => {
  const memory = await LossyMemory.open()
  const replica = await openReplica({ engine: memory.asEngine })
  await replica.put('lost', '1')
  const lost = memory.logLength - 1
  await replica.store.commit([put('x', '1'), put('y', '2'), put('z', '3')], false)
  await replica.put('w', '1')
  const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity })
  assert.ok(again.store.repairing)

  const other = await openReplica()
  const repair = { isOver: false, done: again.store.endRepair().then(() => { repair.isOver = true }) }
  while (!repair.isOver) await other.put('other', 'value')
  await repair.done

  await checkInvariants(again.engine, { vector: again.store.vector as never })
  const newcomer = await openReplica()
  await pull(newcomer, again, 'catch-up')
  assert.equal(await newcomer.data(), { w: '1', x: '1', y: '2', z: '3' })
})

test('what survived a hole is not replaced by what a peer wrote that does not know it', async () => {
  const memory = await LossyMemory.open()
  const replica = await openReplica({ engine: memory.asEngine })
  await replica.put('lost', '1')
  const lost = memory.logLength - 1
  await replica.put('k', 'survived')
  const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity })
  assert.ok(again.store.repairing)

  const peer = await openReplica()
  await peer.put('k', 'theirs')
  await pull(again, peer)
  assert.equal(await again.values('k'), ['survived', 'theirs'])
  await again.store.endRepair()
  assert.equal(await again.values('k'), ['survived', 'theirs'])
  await checkInvariants(again.engine, { vector: again.store.vector as never })
})

for (const brought of [true, false]) {
  test(`deletes that survived a hole are forgotten in time: ${brought ? 'those of which peers bring what was lost' : 'two of one key, too, that are written again in one log'}`, async () => {
    const memory = await LossyMemory.open()
    const first = await openReplica({ engine: memory.asEngine })
    const peer = await openReplica({ system: first.system })
    await first.put('key', 'value')
    await pull(peer, first)
    await first.store.close()
    const replica = await first.reopened()
    await replica.put('lost', 'value')
    const lost = memory.logLength - 1
    await replica.del('key')
    await peer.del('key')
    await pull(replica, peer)
    if (brought) await pull(peer, replica)
    const again = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity, system: replica.system })
    assert.is((await again.versions('key')).length, 2)
    if (brought) await pull(again, peer)
    await again.store.endRepair()
    await again.put('later', 'value')
    await again.system.advance(4 * housekeepingDelayMs)
    assert.equal(await again.versions('key'), [])
    assert.equal(await again.data(), brought ? { lost: 'value', later: 'value' } : { later: 'value' })
    await checkInvariants(again.engine, { vector: again.store.vector as never })
  })
}

test.run()
