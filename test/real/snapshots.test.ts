/**
 * Whole disks that are put back to a snapshot, or go on twice: nothing in the directory tells, only what a peer knows.
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DiskImage } from '../support/disk-image.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { disksAgree } from '../support/replica-disks.ts'
import { converged, killAll, ReplicaProcess } from '../support/replica-process.ts'

test.after(killAll)

interface Identity {
  readonly id: string
  readonly log: string
}

async function open (directory = newDirectory(), ...peers: ReplicaProcess[]): Promise<ReplicaProcess> {
  return await ReplicaProcess.open(directory, { peers: peers.map(({ address }) => address), initialSyncMs: 0 })
}

async function identity (replica: ReplicaProcess): Promise<Identity> {
  const { id, log } = await replica.do('status')
  return { id, log }
}

/** Writes so many keys, and returns them. */
async function write (replica: ReplicaProcess, prefix: string, count: number): Promise<string[]> {
  await replica.do('stream', { prefix, count, batch: 1 })
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`)
}

async function link (from: ReplicaProcess, ...to: ReplicaProcess[]): Promise<void> {
  for (const { address } of to) await from.do('connect', { address })
}

/** All know the same and have these keys, each writes in a log of its own, and what is on their disks agrees. */
async function settled (replicas: ReplicaProcess[], keys: string[]): Promise<void> {
  await converged(replicas)
  for (const replica of replicas) assert.equal(await replica.do('missing', { keys }), [])
  const identities = await Promise.all(replicas.map(identity))
  assert.is(new Set(identities.map(({ log }) => log)).size, replicas.length, 'every replica has a log of its own')
  await disksAgree(replicas)
}

interface Snapshots {
  /** Two places of what was one closed replica. */
  readonly places: readonly [string, string]
  readonly original: Identity
  /** A replica that has the same. */
  readonly peer: ReplicaProcess
  readonly keys: string[]
}

async function snapshots (): Promise<Snapshots | undefined> {
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
  return { places: [place(disk.directory), place(disk.copy().directory)], original, peer, keys }
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

test.run()
