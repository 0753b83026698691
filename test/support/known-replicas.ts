/**
 * Replicas in processes of their own, of which it is known who they are, in which log they write, and what they have to
 * have in the end.
 */
import * as assert from 'uvu/assert'
import { newDirectory } from './directory.ts'
import { disksAgree } from './replica-disks.ts'
import { converged, ReplicaProcess } from './replica-process.ts'

export interface Identity {
  readonly id: string
  readonly log: string
}

export async function open (directory = newDirectory(), ...peers: ReplicaProcess[]): Promise<ReplicaProcess> {
  return await ReplicaProcess.open(directory, { peers: peers.map(({ address }) => address), initialSyncMs: 0 })
}

export async function identity (replica: ReplicaProcess): Promise<Identity> {
  const { id, log } = await replica.do('status')
  return { id, log }
}

/** Writes so many keys, and returns them. */
export async function write (replica: ReplicaProcess, prefix: string, count: number): Promise<string[]> {
  await replica.do('stream', { prefix, count, batch: 1 })
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`)
}

export async function link (from: ReplicaProcess, ...to: ReplicaProcess[]): Promise<void> {
  for (const { address } of to) await from.do('connect', { address })
}

/** All know the same and have these keys, each writes in a log of its own, and what is on their disks agrees. */
export async function settled (replicas: ReplicaProcess[], keys: string[]): Promise<void> {
  await converged(replicas)
  for (const replica of replicas) assert.equal(await replica.do('missing', { keys }), [])
  const identities = await Promise.all(replicas.map(identity))
  assert.is(new Set(identities.map(({ log }) => log)).size, replicas.length, 'every replica has a log of its own')
  await disksAgree(replicas)
}
