/**
 * All that can be compared, by the names that the command line takes. The first is what the others are compared with.
 */
import { classicLevel } from './classic-level.ts'
import { hyperbee } from './hyperbee.ts'
import type { PeerKind } from './peer.ts'
import { pouchdb } from './pouchdb.ts'
import { redis } from './redis.ts'
import { replicatedLevel } from './replicated-level.ts'
import { rxdb } from './rxdb.ts'
import { yjs } from './yjs.ts'

export const ours = 'replicated-level'

export const kinds: Readonly<Record<string, PeerKind>> = {
  [ours]: replicatedLevel, 'classic-level': classicLevel, pouchdb, hyperbee, rxdb, yjs, redis
}
