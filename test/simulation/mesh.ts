/**
 * Five replicas in a full mesh, all of which write: how many copies of each value a replica receives; and how many,
 * when one of them comes back to the other four.
 */
import { memberTtlDefaultMs } from '../../lib/limits.ts'
import { Group } from './group.ts'
import { rest, switchOn } from './scenario.ts'
import { World } from './world.ts'

const replicas = 5
const writesEach = 200

export interface Redundancy {
  /** Payload copies received per write and replica: 1 is what has to be. */
  readonly underLoad: number
  readonly rejoining: number
}

export async function measureRedundancy (seed: number): Promise<Redundancy> {
  const world = new World(seed, {}, {
    replicas,
    topology: 'mesh',
    keys: 10_000,
    resolver: 'lastWriterWins',
    limits: {},
    network: { delayMs: 5, fragmentBytes: 65_536, windowBytes: 65_536 },
    initialSyncMs: 1000,
    memberTtlMs: memberTtlDefaultMs,
    reports: false,
    skewed: 0
  })
  const group = new Group(world)
  let key = 0
  const write = async (machines: typeof group.machines, each: number): Promise<number> => {
    for (let count = 0; count < each; count++) {
      for (const machine of machines) machine.write([{ type: 'put', key: world.keys[key++]!, value: `value ${key}` }], false)
      await world.pass(world.dice.exponential(20))
    }
    await rest(group, 0n)
    return machines.length * each
  }
  const received = (): number => (world.counts['payloads received live'] ?? 0) + (world.counts['payloads received in deliveries'] ?? 0)

  for (const machine of group.machines) switchOn(machine, 0)
  await world.pass(3000)
  const writes = await write(group.machines, writesEach)
  const underLoad = received() / (writes * (replicas - 1))

  const [back, ...others] = group.machines
  void back!.stop()
  while (back!.process !== undefined) await world.pass(100)
  const before = received()
  for (let count = 0; count < writesEach; count++) {
    for (const machine of others) machine.write([{ type: 'put', key: world.keys[key++]!, value: `value ${key}` }], false)
    await world.pass(world.dice.exponential(20))
  }
  await world.pass(3000)
  switchOn(back!, 0)
  const more = await write(group.machines.slice(1), 20)
  const rejoining = (received() - before) / ((others.length * writesEach + more) * (replicas - 1))
  for (const machine of group.machines) machine.kill()
  return { underLoad, rejoining }
}
