/**
 * What fails again and again is told once.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicationError } from '../../lib/errors.ts'
import { Complaints, toldAgainMs } from '../../lib/network/complaints.ts'
import type { Replicator } from '../../lib/network/replicator.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { makeReplicator } from '../support/replicator.ts'
import { openReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const refused = new ReplicationError('Not let in', { code: 'REPLICATION_AUTHENTICATION_FAILED' })
const mistaken = new ReplicationError('Another group', { code: 'REPLICATION_GROUP_MISMATCH' })

test('of each place each code is told once, and once an hour', async () => {
  const system = new VirtualSystem()
  const complaints = new Complaints(system)
  const told = (): boolean[] => [complaints.isNews('a', refused), complaints.isNews('b', refused), complaints.isNews('a', mistaken)]
  assert.equal(told(), [true, true, true])
  assert.equal(told(), [false, false, false])
  await system.advance(toldAgainMs - 1)
  assert.equal(told(), [false, false, false])
  await system.advance(1)
  assert.equal(told(), [true, true, true])
  complaints.forget('a')
  assert.equal(told(), [true, false, true])
})

test('of many places those are remembered of which something was told last', () => {
  const complaints = new Complaints(new VirtualSystem())
  complaints.isNews('first', refused)
  complaints.isNews('second', refused)
  complaints.isNews('first', mistaken)
  for (let other = 0; other < 1023; other++) complaints.isNews(`other ${other}`, refused)
  assert.not(complaints.isNews('first', refused))
  assert.ok(complaints.isNews('second', refused))
})

test('a replica that is dialled again and again in vain says so once at each end, and again if they have been linked meanwhile', async () => {
  const system = new VirtualSystem()
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 5) } })
  const told: string[] = []
  const replicator = async (host: string, group: string, peers: string[] = []): Promise<Replicator> => {
    const { store } = await openReplica({ system })
    const made = makeReplicator({ system, store, transport: network.transport(host), host, group, peers, onError: ({ code }) => { told.push(`${host} ${code}`) } })
    await made.open()
    return made
  }
  const dialler = await replicator('a', 'shop', ['b:9000'])
  const listens = async (group: string): Promise<Replicator> => {
    told.length = 0
    const listener = await replicator('b', group)
    await system.advance(60_000)
    return listener
  }
  const once = ['a REPLICATION_GROUP_MISMATCH', 'b REPLICATION_GROUP_MISMATCH']
  const stranger = await listens('others')
  assert.equal(told.sort(), once)
  await stranger.close()
  const good = await listens('shop')
  assert.is(good.peers()[0]!.state, 'live')
  await good.close()
  const again = await listens('others')
  assert.equal(told.sort(), once)
  told.length = 0
  dialler.disconnect({ host: 'b', port: 9000 })
  dialler.connect({ host: 'b', port: 9000 })
  await system.advance(10_000)
  assert.equal(told, once.slice(0, 1), 'whoever asks for it is told')
  await Promise.all([dialler.close(), again.close()])
})

test.run()
