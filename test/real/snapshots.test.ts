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
