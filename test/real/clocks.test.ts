/**
 * Clocks that are far ahead, far behind, or jump: all converges, conflicts are exact, and who is wrong is named.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { disksAgree } from '../support/replica-disks.ts'
import { converged, killAll, ReplicaProcess, type Place } from '../support/replica-process.ts'

test.after(killAll)

const dayMs = 24 * 60 * 60 * 1000

async function open (place: Place = {}, directory = newDirectory()): Promise<ReplicaProcess> {
  return await ReplicaProcess.open(directory, { initialSyncMs: 0 }, place)
}

async function versions (replica: ReplicaProcess, key: string): Promise<Array<{ value: string, timestamp: number }>> {
  return await replica.do('versions', { key })
}

/** What a replica says of the clock of another one. */
async function complains (replica: ReplicaProcess, code: string, of: ReplicaProcess): Promise<void> {
  const id = await of.do('id')
  await eventually(async () => (await replica.do('errors')).some((error: string) => error.startsWith(`${code}:`) && error.includes(id)), { message: `${code} of that replica` })
}

test('100 days ahead, 5 days behind and right: each names who is wrong, all are equal, and only concurrent writes conflict', async () => {
  const fast = FakeClock.at('+100d')
  const slow = FakeClock.at('-5d')
  if (fast === undefined || slow === undefined) return
  const right = await open()
  const ahead = await open(fast)
  const behind = await open(slow)
  const replicas = [right, ahead, behind]
  for (const [index, replica] of replicas.entries()) {
    await replica.do('put', { key: 'all', value: `of ${index}` })
    await replica.do('put', { key: `of ${index}`, value: 'x' })
  }
  const [now, later, earlier] = await Promise.all(replicas.map(async (replica) => (await versions(replica, 'all'))[0]!.timestamp))
  assert.ok(Math.abs(later! - now! - 100 * dayMs) < dayMs)
  assert.ok(Math.abs(now! - earlier! - 5 * dayMs) < dayMs)
  await ahead.do('connect', { address: right.address })
  await behind.do('connect', { address: right.address })
  await converged(replicas)
  await complains(right, 'REPLICATION_CLOCK_AHEAD', ahead)
  await complains(right, 'REPLICATION_CLOCK_BEHIND', behind)
  await complains(ahead, 'REPLICATION_CLOCK_BEHIND', right)
  await complains(behind, 'REPLICATION_CLOCK_AHEAD', right)
  for (const replica of replicas) {
    assert.is((await versions(replica, 'all')).length, 3)
    assert.is(await replica.do('conflicts'), 1)
    assert.is(await replica.do('get', { key: 'all' }), 'of 1')
  }

  // Each has seen the write of the one before: no conflict, and the last one stays, whatever its clock says.
  for (const [index, replica] of [ahead, right, behind, ahead, behind].entries()) {
    await replica.do('put', { key: 'all', value: `round ${index}` })
    await converged(replicas)
    for (const one of replicas) assert.equal((await versions(one, 'all')).map(({ value }) => value), [`round ${index}`])
  }
  await Promise.all(replicas.map(async (replica) => { await replica.do('work', { operations: 200, keys: 30 }) }))
  await converged(replicas)
  await disksAgree(replicas)
})

test('a clock that jumps while it is looked at: all are equal, and its own writes never conflict', async () => {
  const clock = FakeClock.at('+0d')
  if (clock === undefined) return
  const right = await open()
  const directory = newDirectory()
  let jumping = await open(clock, directory)
  await jumping.do('connect', { address: right.address })
  for (const offset of ['+30d', '-30d', '+400d', '-400d', '+0d']) {
    clock.set(offset)
    for (const replica of [jumping, right]) {
      for (let index = 0; index < 20; index++) await replica.do('put', { key: `key ${index}`, value: `${offset} ${index}` })
      await converged([right, jumping])
    }
    assert.is(await right.do('conflicts'), 0)
    assert.is(await right.do('get', { key: 'key 7' }), `${offset} 7`)
  }
  for (const [offset, code] of [['+2d', 'REPLICATION_CLOCK_AHEAD'], ['-2d', 'REPLICATION_CLOCK_BEHIND']] as const) {
    clock.set(offset)
    await complains(right, code, jumping)
  }
  await jumping.close()
  jumping = await open(clock, directory)
  await jumping.do('put', { key: 'key 7', value: 'after a restart' })
  await jumping.do('connect', { address: right.address })
  await converged([right, jumping])
  assert.is(await right.do('conflicts'), 0)
  assert.is(await right.do('get', { key: 'key 7' }), 'after a restart')
  await disksAgree([right, jumping])
})

test.run()
