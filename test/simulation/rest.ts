/**
 * What must hold when everything has been exchanged: all replicas are equal, nothing that one of them had is lost,
 * nothing that was superseded is back, and what is there for a while only is gone.
 *
 * When all that are waited for are there, every tombstone goes, and a conflict that holds one is settled.
 */
import { memberTtlDefaultMs } from '../../lib/limits.ts'
import { keyspace } from '../../lib/storage/keyspaces.ts'
import type { Tree } from './disk.ts'
import type { Group } from './group.ts'
import type { Machine } from './machine.ts'
import { dotOf, type Write } from './oracle.ts'
import { dataOf, membersOf, setOf } from './witness.ts'
import type { World } from './world.ts'

/** Whether all know the same, have made it durable, and owe each other nothing. */
export function atRest ({ living: machines }: Group): boolean {
  const first = machines[0]?.process?.witness
  return first !== undefined && machines.every(({ ready, process }) => ready &&
    process!.witness.vector.equals(first.vector) &&
    process!.witness.collected.equals(first.collected) &&
    process!.witness.applying === undefined &&
    process!.store!.durable.equals(first.vector)) &&
    machines.every(({ hasFolded }) => hasFolded) &&
    machines.every(({ disk }) => countIn(disk.tree, keyspace.stage) === 0)
}

export function checkRest ({ world, living }: Group, alive: bigint): void {
  const { oracle } = world
  const [first, ...others] = living
  for (const machine of living) machine.process!.witness.checkAll(machine.disk.tree)
  const state = (machine: Machine): string => JSON.stringify([...oracle.keys].map((key) => [key, dataOf(machine.disk.tree, key), setOf(machine.disk.tree, key)]))
  for (const other of others) {
    if (state(other) !== state(first!)) world.fail('no-convergence', `${first!.name} and ${other.name} differ: ${state(first!)} and ${state(other)}`)
  }
  const lost = oracle.lost(alive, first!.seen)
  if (lost !== 0n) world.fail('lost', `nobody has ${oracle.names(lost)}`)
  const replicas = living.map(({ process }) => process!.store!.replica)
  for (const key of oracle.keys) checkKey(world, key, first!, replicas)
  for (const machine of living) checkLeftovers(world, machine)
}

/**
 * Exact conflicts: the one exemption is a delete that was collected, and a write of somebody who was not counted; or one that
 * its author had lost, and with it who else has it.
 */
function checkKey (world: World, key: string, { seen, disk }: Machine, replicas: readonly string[]): void {
  const { oracle } = world
  const left = oracle.list(oracle.siblings(key, seen) & ~oracle.erased)
  const found = new Set(setOf(disk.tree, key).map(({ log, sequence }) => oracle.at(log, sequence)))
  const collected = left.filter((write) => !found.has(write))
  const puts = left.filter(({ type }) => type === 'put')
  if (collected.length === 0 || puts.length === 0) return
  const isUncounted = (del: Write, replica: string): boolean => oracle.countedAt.get(del)?.has(replica) === false
  const uncounted = collected.some((del) => puts.some(({ replica, bit }) => isUncounted(del, replica) || ((oracle.lostByAuthors & bit) !== 0n && replicas.some((other) => isUncounted(del, other)))))
  if (uncounted || [...collected, ...puts].some(({ special }) => special)) return world.count('exempt conflicts')
  world.fail('conflict-lost', `${key}: ${collected.map(dotOf).join(', ')} was collected while concurrent with ${puts.map(dotOf).join(', ')}`)
}

/** Whether nobody is waited for in vain: all members are there, or will soon not count any more. */
export function isComplete ({ world, living }: Group): boolean {
  const present = new Set(living.map(({ process }) => process!.store!.replica))
  return world.settings.memberTtlMs < memberTtlDefaultMs || living.every(({ disk }) => membersOf(disk.tree).every((member) => present.has(member)))
}

export function tombstones (world: World, { disk }: Machine): Write[] {
  return [...world.oracle.keys].flatMap((key) => setOf(disk.tree, key)).filter(({ type }) => type === 'del').map(({ log, sequence }) => world.oracle.at(log, sequence)!)
}

function checkLeftovers (world: World, { name, disk }: Machine): void {
  const siblings = countIn(disk.tree, keyspace.sibling)
  const expected = [...world.oracle.keys].reduce((sum, key) => {
    const set = setOf(disk.tree, key)
    return sum + (set.length < 2 ? 0 : set.filter(({ type }) => type === 'put').length)
  }, 0)
  if (siblings !== expected) world.fail('siblings', `${name} has ${siblings} sibling values, and ${expected} siblings`)
}

function countIn (tree: Tree, space: number): number {
  let count = 0
  tree.forEach((key) => { if (key[0] === space) count++ })
  return count
}
