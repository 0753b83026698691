/**
 * What replicas in processes leave on their disks.
 */
import { ClassicLevel } from 'classic-level'
import type { Engine } from '../../lib/storage/engine.ts'
import { checkEqual } from './invariants.ts'
import type { ReplicaProcess } from './replica-process.ts'

/** Closes them, and throws unless all invariants hold on disk, and all have the same versions of every key. */
export async function disksAgree (replicas: readonly ReplicaProcess[]): Promise<void> {
  for (const replica of replicas) await replica.close()
  const levels = replicas.map(({ directory }) => new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' }) as unknown as Engine)
  await checkEqual(levels)
  for (const level of levels) await level.close()
}
