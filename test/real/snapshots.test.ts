/**
 * Whole disks that are put back to a snapshot, or go on twice: nothing in the directory tells, only what a peer knows.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DiskImage } from '../support/disk-image.ts'
import { eventually } from '../support/eventually.ts'
import { converged, killAll, type ReplicaProcess } from '../support/replica-process.ts'
import { identity, link, open, settled, write, type Identity } from '../support/known-replicas.ts'

test.after(killAll)

interface Snapshots {
  /** Places of what was one closed replica: two, if no more are asked for. */
  readonly places: readonly [string, string, ...string[]]
  readonly original: Identity
  /** A replica that has the same. */
  readonly peer: ReplicaProcess
  readonly keys: string[]
}

async function snapshots (count = 2): Promise<Snapshots | undefined> {
  const disk = DiskImage.make(16)
  if (disk === undefined) return
  const place = (directory: string): string => join(directory, 'db')
  const peer = await open()
  const replica = await open(place(disk.directory), peer)
  const keys = [...await write(replica, 'first', 20), ...await write(peer, 'peer', 20)]
  await replica.do('synced')
  const original = await identity(replica)
  await replica.close()
  execFileSync('sync', ['-f', disk.directory])
  return { places: [place(disk.directory), place(disk.copy().directory), ...Array.from({ length: count - 2 }, () => place(disk.copy().directory))], original, peer, keys }
}

test('a disk that is put back to a snapshot, and meets one that knows more before it is written to: another replica, and what was lost is back', async () => {
  const made = await snapshots()
  if (made === undefined) return
  const { places, original, peer, keys } = made
  let replica = await open(places[0], peer)
  assert.equal(await identity(replica), original)
  keys.push(...await write(replica, 'lost', 20))
  await replica.do('synced')
  await replica.close()
  replica = await open(places[1], peer)
  await eventually(async () => (await replica.do('missing', { keys })).length === 0)
  keys.push(...await write(replica, 'restored', 20))
  await settled([replica, peer], keys)
})

for (const directly of [true, false]) {
  test(`two snapshots of a disk, both alive, that meet ${directly ? 'each other' : 'a third one'} before the second is written to: two replicas`, async () => {
    const made = await snapshots()
    if (made === undefined) return
    const { places, original, peer, keys } = made
    const [a, b] = [await open(places[0]), await open(places[1])]
    for (const replica of [a, b]) assert.equal(await identity(replica), original)
    if (!directly) {
      await link(a, peer)
      keys.push(...await write(a, 'more', 5))
      await a.do('synced')
    }
    await link(b, directly ? a : peer)
    await eventually(async () => (await identity(a)).id !== (await identity(b)).id, { message: 'each is a replica of its own' })
    await link(a, peer)
    await link(b, peer, a)
    keys.push(...await write(a, 'a', 20), ...await write(b, 'b', 20))
    await converged([a, b, peer])
    await eventually(async () => (await peer.do('peers')).filter(({ state }: { state: string }) => state === 'live').length === 2, { message: 'both have a link that lasts' })
    assert.ok(await peer.do('links') < 10)
    await settled([a, b, peer], keys)
  })
}

test('snapshots of a disk, all alive, that write less than it, as much, and more before they meet: no write is lost, and no name has two contents', async () => {
  const made = await snapshots(4)
  if (made === undefined) return
  const { places, original, peer, keys } = made
  const [a, ...others] = await Promise.all(places.map(async (place) => await open(place)))
  for (const replica of [a!, ...others]) assert.equal(await identity(replica), original)
  keys.push(...await write(a!, 'a', 6))
  for (const [index, replica] of others.entries()) keys.push(...await write(replica, `b${index}`, 3 * 2 ** index))
  await link(a!, peer)
  await a!.do('synced')
  for (const replica of others) {
    await link(replica, peer)
    await eventually(async () => (await identity(replica)).log !== original.log, { message: 'it has a log of its own' })
    await link(replica, a!)
    keys.push(...await write(replica, `${replica.address}-met`, 5))
  }
  assert.equal(await identity(a!), original)
  keys.push(...await write(a!, 'a-met', 5))
  await settled([a!, ...others, peer], keys)
})

test('two snapshots of a disk that have both written, and sent nothing, meet each other: no write is lost, and each is another replica', async () => {
  const made = await snapshots()
  if (made === undefined) return
  const { places, peer, keys } = made
  const [a, b] = [await open(places[0]), await open(places[1])]
  keys.push(...await write(a, 'a', 6), ...await write(b, 'b', 9))
  await link(a, b)
  await eventually(async () => (await identity(a)).log !== (await identity(b)).log, { message: 'each has a log of its own' })
  await link(a, peer)
  await settled([a, b, peer], keys)
})

test('two snapshots of a disk that have sent what they wrote to different replicas: these do not link, and say so', async () => {
  const made = await snapshots()
  if (made === undefined) return
  const { places, peer } = made
  const other = await open()
  await link(other, peer)
  await converged([other, peer])
  await other.do('disconnect', { address: peer.address })
  const [a, b] = [await open(places[0]), await open(places[1])]
  for (const [replica, prefix, to] of [[a, 'a', peer], [b, 'b', other]] as const) {
    await write(replica, prefix, 5)
    await link(replica, to)
    await replica.do('synced')
  }
  await link(other, peer)
  await eventually(async () => (await other.do('errors')).some((error: string) => error.startsWith('REPLICATION_LOG_FORKED')), { message: 'it is said' })
  const missing = async (replica: ReplicaProcess, prefix: string): Promise<number> => (await replica.do('missing', { keys: Array.from({ length: 5 }, (_, index) => `${prefix}-${index}`) })).length
  assert.equal(await Promise.all([missing(peer, 'a'), missing(peer, 'b'), missing(other, 'a'), missing(other, 'b')]), [0, 5, 5, 0], 'each keeps what it has')
})

test.run()
