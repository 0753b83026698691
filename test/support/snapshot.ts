/** A snapshot of a replica's whole disk: nothing tells it from the disk. */
import type { Engine } from '../../lib/storage/engine.ts'
import { newMemory, openReplica, type ReplicaOptions, type TestReplica } from './store.ts'

/** Opens it as another replica. */
export async function snapshotOf (replica: TestReplica, options: ReplicaOptions = {}): Promise<TestReplica> {
  const memory = newMemory()
  await memory.open()
  await memory.batch((await replica.memory.iterator().all()).map(([key, value]) => ({ type: 'put', key, value })))
  return await openReplica({ engine: memory as unknown as Engine, identity: replica.identity.clone(), ...options })
}
