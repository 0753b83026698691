/** What is decided about a run before it begins: by chance, unless somebody knows better. */
import { memberTtlDefaultMs } from '../../lib/limits.ts'
import type { Dice } from './dice.ts'
import { chooseLimits, type Limits } from './limits.ts'
import type { NetworkOptions } from './network.ts'
import { resolvers } from './resolvers.ts'

export type Topology = 'mesh' | 'chain' | 'star' | 'ring'

export interface Settings {
  readonly replicas: number
  readonly topology: Topology
  readonly keys: number
  readonly resolver: keyof typeof resolvers
  readonly limits: Limits
  readonly network: NetworkOptions
  readonly initialSyncMs: number
  /** How long a member may be unseen before it is not waited for. */
  readonly memberTtlMs: number
  /** Whether somebody listens to what becomes visible. */
  readonly reports: boolean
  /** Whether clocks are wrong from the beginning. */
  readonly skewed: number
}

export function chooseSettings (dice: Dice): Settings {
  const memberTtlMs = dice.chance(0.3) ? dice.between(12_000, 25_000) : memberTtlDefaultMs
  return {
    replicas: dice.pick([3, 3, 3, 4, 4, 5, 6, 7]),
    topology: dice.pick<Topology>(['mesh', 'mesh', 'chain', 'star', 'ring']),
    keys: dice.pick([2, 3, 5, 8, 40]),
    resolver: dice.pick(Object.keys(resolvers) as Array<keyof typeof resolvers>),
    limits: { ...chooseLimits(dice), ...(memberTtlMs < memberTtlDefaultMs ? { runningTimeSaveMs: 2000 } : {}) },
    network: {
      delayMs: dice.pick([1, 10, 50, 200]),
      fragmentBytes: dice.pick([100, 1000, 65_536]),
      windowBytes: dice.pick([500, 5000, 65_536])
    },
    initialSyncMs: dice.pick([0, 100, 1000]),
    memberTtlMs,
    reports: dice.chance(0.5),
    skewed: 0.5
  }
}
