/**
 * Clocks that stand at the end of all times that are accepted: nobody else's follows, and writes go on everywhere.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { hlcFollowedMax, hlcMax, timeMaxMs, toMs } from '../../lib/core/hlc.ts'
import { checkEqual } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { exchange, LiveStream, openReplica, pull, type TestReplica } from '../support/store.ts'
import { snapshotOf } from '../support/snapshot.ts'

/** Until no time is left in its log. */
async function exhaust (replica: TestReplica): Promise<void> {
  replica.system.jumpWallClock(timeMaxMs - replica.system.nowMs())
  const log = replica.store.ownLog
  for (let writes = 0; replica.store.vector.get(log)?.hlc !== hlcMax; writes++) await replica.put('far', String(writes))
  assert.is(replica.store.ownLog, log)
}

function lastOf ({ store }: TestReplica): number {
  return store.vector.get(store.ownLog)!.hlc
}

test('a write at the end of time stops nobody: live, by a catch-up, after a restart', async () => {
  const [far, live, caught] = [await openReplica(), await openReplica(), await openReplica()]
  const stream = await LiveStream.open(far, live)
  await exhaust(far)
  await stream.send()
  await pull(caught, far)
  for (let replica of [live, caught]) {
    for (const value of ['first', 'reopened']) {
      await replica.put('far', value)
      assert.ok(lastOf(replica) < hlcFollowedMax)
      assert.equal(await replica.values('far'), [value], 'what was seen is superseded')
      replica = await replica.reopened()
    }
  }
  const [a, b] = [await live.reopened(), await caught.reopened()]
  await exchange(a, b)
  assert.equal(await a.values('far'), ['reopened', 'reopened'])
  await exchange(far, a)
  await checkEqual([far, a].map(({ engine }) => engine))
})

test('a clock that was mended writes on in a new log, and is believed', async () => {
  const [far, peer] = [await openReplica(), await openReplica()]
  await exhaust(far)
  await pull(peer, far)
  const log = far.store.ownLog
  far.system.jumpWallClock(-1e13)
  await Promise.all([far.put('far', 'mended'), far.put('near', 'mended')])
  assert.is.not(far.store.ownLog, log)
  assert.is(far.store.vector.sequenceOf(far.store.ownLog), 2)
  const again = await far.reopened()
  await again.put('near', 'again')
  await exchange(peer, again)
  await checkEqual([peer, again].map(({ engine }) => engine))
  assert.equal(await peer.data(), { far: 'mended', near: 'again' })
})

test('nothing follows in a log that has come to its end, also after a restart', async () => {
  const far = await openReplica()
  await exhaust(far)
  const log = far.store.ownLog
  far.system.jumpWallClock(-1e13)
  const again = await far.reopened()
  assert.is(again.store.ownLog, log)
  await again.put('far', 'mended')
  assert.is.not(again.store.ownLog, log)
})

test('a clock that goes on beyond the end of time refuses writes', async () => {
  const far = await openReplica()
  await exhaust(far)
  far.system.jumpWallClock(1)
  assert.is((await rejection(far.put('far', 'later'))).code, 'REPLICATION_CLOCK_IMPOSSIBLE')
  far.system.jumpWallClock(-1e13)
  await far.put('far', 'mended')
  assert.equal(await far.data(), { far: 'mended' })
})

test('what is taken out of a log with such times is there, and writes go on', async () => {
  const [a, peer] = [await openReplica(), await openReplica()]
  await a.put('before', 'told')
  a.store.told.tell()
  await pull(peer, a)
  const b = await snapshotOf(a)
  await a.put('far', 'of a')
  a.store.told.tell()
  await pull(peer, a)
  await b.put('forgotten', 'x')
  await b.del('forgotten')
  await b.store.housekeeping.collect()
  assert.ok(b.store.collected.sequenceOf(b.store.ownLog) > 1)
  await exhaust(b)
  await b.store.leaveLog()
  b.system.jumpWallClock(-1e13)
  await b.put('near', 'of b')
  assert.ok(toMs(lastOf(b)) < timeMaxMs)
  for (let round = 0; round < 2; round++) for (const one of [a, b]) await exchange(peer, one)
  await checkEqual([a, b, peer].map(({ engine }) => engine))
  assert.equal(Object.keys(await peer.data()).sort(), ['before', 'far', 'near'])
  assert.is((await peer.versions('far')).length, 2)
})

test.run()
