/**
 * A newcomer whose every link is cut after a second or two, long before all that there is could have come over it, and
 * whose sources go on writing meanwhile: how many cuts it takes until it has what they had when it came.
 */
import { Group } from './group.ts'
import { rest, switchOn } from './scenario.ts'
import { World } from './world.ts'

const keys = 200
const valueBytes = 30_000
/** Of virtual time. */
const patienceMs = 120_000

export interface Patience {
  readonly cuts: number
  /** Payloads that the newcomer received, per key. */
  readonly copies: number
}

export async function firstSyncOverCutLinks (seed: number): Promise<Patience> {
  const world = new World(seed, {}, {
    replicas: 3,
    topology: 'mesh',
    keys,
    resolver: 'lastWriterWins',
    limits: {},
    network: { delayMs: 80, fragmentBytes: 65_536, windowBytes: 65_536 },
    initialSyncMs: 0,
    reports: false,
    skewed: 0
  })
  const { dice, network, scheduler, counts } = world
  const group = new Group(world)
  const [a, b, newcomer] = group.machines as [typeof group.machines[0], typeof group.machines[0], typeof group.machines[0]]
  try {
    for (const machine of [a, b]) switchOn(machine, 0)
    await world.pass(1000)
    for (const [index, key] of world.keys.entries()) {
      dice.pick([a, b]).write([{ type: 'put', key, value: `${index}${'x'.repeat(valueBytes)}` }], false)
      await world.pass(20)
    }
    await world.pass(5000)
    const goal = a.process!.witness.vector.clone()
    if (!goal.equals(b.process!.witness.vector)) world.fail('no-rest', 'the sources differ')

    const begunMs = scheduler.elapsedMs
    switchOn(newcomer, 0)
    let cuts = 0
    while (newcomer.process?.witness.vector.dominates(goal) !== true) {
      if (scheduler.elapsedMs - begunMs > patienceMs) world.fail('no-rest', `not whole after ${cuts} cuts`)
      await world.pass(dice.between(1000, 2000))
      for (const machine of [a, b]) machine.write([{ type: 'put', key: dice.pick(world.keys), value: `changed ${cuts}` }], false)
      while (network.connections > 0) network.cutOne()
      cuts++
    }
    const copies = (counts['payloads received in deliveries'] ?? 0) / keys
    await rest(group, 0n)
    return { cuts, copies }
  } finally {
    for (const machine of group.machines) machine.kill()
  }
}
