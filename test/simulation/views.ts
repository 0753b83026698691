/**
 * What a user is told of replication beside the data and events, held against the truth: `synced()`, versions, conflicts,
 * peers, and how many deletes there are to be forgotten.
 */
import { decodeSiblings } from '../../lib/codec/sibling-set.ts'
import { holdsPut } from '../../lib/core/siblings.ts'
import { keyspace } from '../../lib/storage/keyspaces.ts'
import type { Machine } from './machine.ts'
import { setOf } from './witness.ts'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

/** Who is linked with a machine, as that one thinks, and has not been opened anew since. */
function linkedWith ({ process }: Machine, machines: readonly Machine[]): Machine[] {
  const nonces = new Set([...process!.replicator!.mesh.links].map(({ session }) => session.peer?.nonce))
  return machines.filter(({ process }) => process?.replicator !== undefined && nonces.has(process.replicator.mesh.local.nonce))
}

/** @returns the writes that a machine knows. */
function known ({ process }: Machine): bigint {
  return process!.witness.bitsOf(process!.store!.vector)
}

/** Waits until all that are linked have what this one has, and the other way round, on the medium. Returns whether that came in time. */
export async function synchronise (machine: Machine, machines: readonly Machine[], timeoutMs: number): Promise<boolean> {
  const { process, world, name } = machine
  const { oracle } = world
  const ours = known(machine)
  const theirs = new Map(linkedWith(machine, machines).map((peer) => [peer.process!, known(peer)]))
  try {
    await process!.replicator!.mesh.synced(timeoutMs)
  } catch {
    world.count('synced: not in time')
    return false
  }
  if (process!.system.dead) return true
  world.count('synced')
  for (const peer of linkedWith(machine, machines)) {
    const missing = oracle.lost(ours, peer.process!.syncedSeen)
    if (missing !== 0n) world.fail('synced', `${name} is in sync, and ${peer.name} has not on disk ${oracle.names(missing)}`)
    const lacking = oracle.lost(theirs.get(peer.process!) ?? 0n, process!.syncedSeen)
    if (lacking !== 0n) world.fail('synced', `${name} is in sync with ${peer.name}, and has not on disk ${oracle.names(lacking)}`)
  }
  return true
}

/** What can be asked for at any time, when nothing moves. */
export async function checkViews ({ world, name, disk, process }: Machine, machines: readonly Machine[]): Promise<void> {
  const store = process!.store!
  for (const { id, address, state, lag, progress } of process!.replicator!.peers()) {
    if (id === undefined && machines.some((machine) => machine.name === address.host && machine.gone)) continue
    if (state !== 'live' || lag.inbound !== 0 || lag.outbound !== 0 || progress !== undefined) world.fail('status', `${name} says of ${address.host} that it is ${state}, ${lag.inbound} and ${lag.outbound} behind, ${progress} of a delivery`)
  }
  const inConflict: string[] = []
  let tombstones = 0
  disk.tree.forEach((key, value) => {
    if (key[0] !== keyspace.version) return
    const set = decodeSiblings(value)
    tombstones += set.filter(({ type }) => type === 'del').length
    if (set.length > 1 && holdsPut(set)) inConflict.push(key.toString('latin1', 1))
  })
  if (store.garbage.tombstones.count < tombstones) world.fail('status', `${name} says that it has ${store.garbage.tombstones.count} deletes to forget at most, and has ${tombstones}`)
  const told: string[] = []
  for await (const { key } of store.conflicts({})) told.push(text(key))
  if (told.join() !== inConflict.join()) world.fail('status', `${name} tells of conflicts at ${told.join()}, and they are at ${inConflict.join()}`)
  for (const key of world.keys) {
    const set = setOf(disk.tree, key)
    const versions = await store.versions(Buffer.from(key, 'latin1'))
    if (versions.length !== set.length) world.fail('status', `${name} tells of ${versions.length} versions of ${key}, which has ${set.length}`)
    const written = set.map(({ log, sequence }) => process!.witness.at(log, sequence)?.value).sort().join()
    const values = versions.map(({ valueBytes }) => valueBytes === undefined ? undefined : text(valueBytes)).sort().join()
    if (values !== written) world.fail('status', `${name} tells of the versions ${values} of ${key}, which are ${written}`)
  }
}
