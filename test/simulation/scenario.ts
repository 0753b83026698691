/**
 * One run: a group lives through faults; then all faults end, and it has to come to rest in a bounded time.
 */
import { VersionVector } from '../../lib/core/version-vector.ts'
import { collectionIntervalMs, conflictKeptMs, heartbeatIntervalMs, housekeepingDelayMs, housekeepingPauseMs, memberTtlDefaultMs, runningTimeSaveMs, sweepOperationsMin } from '../../lib/limits.ts'
import { checkDisk, checkSwept } from './bounds.ts'
import { Group } from './group.ts'
import type { Machine } from './machine.ts'
import { dotOf, type Write } from './oracle.ts'
import { atRest, checkRest, isComplete, tombstones } from './rest.ts'
import { resolvers } from './resolvers.ts'
import { randomOperations } from './transactions.ts'
import { checkViews, synchronise } from './views.ts'
import { World, type TraceOptions } from './world.ts'

/** Nobody is waited for: so long may it take until tombstones are gone, if no disk has failed. */
const collectionMs = 30_000

/** So long nothing happens any more. */
const quietMs = 10_000

/** So long all may take together, in each other's way, to store one write. */
const storingMs = 500

/** Faults are over: so long may it take, of virtual time, until all are equal and silent. */
const restMs = 60_000

export interface Outcome {
  readonly seed: number
  readonly violation: Error | undefined
  readonly hash: string
  readonly counts: Readonly<Record<string, number>>
  readonly trace: readonly string[] | undefined
}

export async function simulate (seed: number, options: TraceOptions = {}): Promise<Outcome> {
  const world = new World(seed, options)
  const group = new Group(world)
  try {
    await live(group)
    await heal(group)
  } catch (error) {
    world.violation ??= error as Error
  }
  for (const machine of group.machines) machine.kill()
  world.counts.events = world.scheduler.events
  world.counts.writes = world.oracle.writes.length
  return { seed, violation: world.violation, hash: world.hash, counts: world.counts, trace: world.trace }
}

const calm = { write: 40, burst: 4, clear: 1, synced: 2, freeze: 1, cut: 6, block: 4, slow: 2, kill: 1, power: 1, tail: 1, restart: 1, disk: 0.5, full: 0.3, release: 0.2, disconnect: 1, backup: 0.5, copy: 1, restore: 0.4, rollback: 0.4, clone: 0.2, twin: 0.4, retire: 0.5, away: 1.5, gone: 0.1, clock: 1 }
const rough = { write: 25, burst: 3, clear: 1, synced: 2, freeze: 1, cut: 14, block: 8, slow: 4, kill: 5, power: 4, tail: 4, restart: 2, disk: 2, full: 0.8, release: 0.5, disconnect: 2, backup: 1, copy: 2, restore: 1.5, rollback: 0.8, clone: 0.6, twin: 1, retire: 2, away: 4, gone: 0.3, clock: 2 }

async function live (group: Group): Promise<void> {
  const { world, machines } = group
  const { dice } = world
  for (const machine of machines) switchOn(machine, dice.chance(0.7) ? 0 : dice.below(20_000))
  const weights = dice.pick([calm, rough])
  const pauseMs = dice.pick([20, 100, 300])
  const steps = dice.between(80, 200)
  const cutting = dice.pick([0, 0, 0.1, 0.3])
  world.onDelivering = (name) => { if (dice.chance(cutting)) cutSoon(group, name) }
  world.onStaged = (name) => { hitWhileStaging(group, name) }
  world.onApplying = (name) => { hitWhileApplying(group, machines.find((machine) => machine.name === name)!) }
  world.onFolding = (name) => { hitWhileFolding(group, machines.find((machine) => machine.name === name)!) }
  world.onLeaving = (name) => { hitWhileLeaving(group, machines.find((machine) => machine.name === name)!) }
  world.onOpening = (name) => { hitBetween(group, machines.find((machine) => machine.name === name)!, 0.1) }
  for (let step = 0; step < steps; step++) {
    await world.pass(dice.exponential(pauseMs))
    act(group, dice.weighted(weights))
  }
}

/** And so is a delivery. */
function cutSoon ({ world }: Group, name: string): void {
  const { dice, network, scheduler } = world
  scheduler.after(dice.exponential(5), () => {
    world.count('cut in a delivery')
    world.log(`the connection ${network.cutOneOf(name) ?? 'of nobody'} breaks`)
  })
}

/** Long deliveries are rare: what cuts them short, again and again, has to aim. */
function hitWhileStaging ({ world, machines }: Group, name: string): void {
  const { dice, network, scheduler } = world
  if (!dice.chance(0.1)) return
  scheduler.after(dice.exponential(10), () => {
    world.count('cuts of long deliveries')
    world.log(`the connection ${network.cutOneOf(name) ?? 'of nobody'} breaks`)
    const others = machines.filter((machine) => machine.ready && machine.name !== name)
    if (others.length > 0) write(world, dice.pick(others), 3)
  })
}

/** It takes a few steps to leave a log: what hits them has to aim. */
function hitWhileLeaving (group: Group, machine: Machine): void {
  const { dice, scheduler } = group.world
  if (!dice.chance(0.4)) return
  const what = dice.pick(['kill', 'kill', 'power', 'disk'] as const)
  scheduler.after(dice.exponential(10), () => { if (machine.process?.witness.leaving === true) act(group, what, machine) })
}

/** So is what a new resolver has to decide. */
function hitWhileFolding (group: Group, machine: Machine): void {
  const { dice, scheduler } = group.world
  if (!dice.chance(0.3)) return
  const what = dice.pick(['kill', 'power', 'disk', 'disk'] as const)
  scheduler.after(dice.exponential(10), () => { if (machine.process !== undefined && !machine.hasFolded) act(group, what, machine) })
}

/** An apply phase is short: what hits it has to aim. */
function hitWhileApplying (group: Group, machine: Machine): void {
  const { dice, scheduler } = group.world
  if (!dice.chance(0.15)) return
  const what = dice.pick(['kill', 'power', 'disk'] as const)
  scheduler.after(dice.exponential(10), () => { if (machine.process?.witness.applying !== undefined) act(group, what, machine) })
}

/** What is being opened or closed cannot be written to, and can be hit all the same. */
function hitBetween (group: Group, machine: Machine, chance: number): void {
  const { dice, scheduler } = group.world
  const { process } = machine
  if (process === undefined || !dice.chance(chance)) return
  const what = dice.pick(['kill', 'kill', 'kill', 'power'] as const)
  scheduler.after(dice.exponential(dice.pick([3, 30])), () => { if (machine.process === process && !process.ready) act(group, what, machine) })
}

/** While two write in one log, both keep their disks. */
const changesDisks = new Set<keyof typeof calm>(['power', 'copy', 'backup', 'restore', 'rollback', 'clone', 'gone'])

function act (group: Group, what: keyof typeof calm, machine: Machine | undefined = group.world.dice.pick(group.ready)): void {
  const { world, machines } = group
  const { dice, network, scheduler } = world
  if (machine === undefined || (group.branched !== undefined && changesDisks.has(what))) return
  world.count(what)
  if (what === 'write') return write(world, machine, dice.chance(0.3) ? dice.between(2, 6) : 1)
  switch (what) {
    case 'burst':
      for (let count = dice.between(2, 12); count > 0; count--) write(world, machine, dice.between(1, 3))
      return
    case 'clear': return machine.clear({ from: dice.pick(world.keys), to: `${dice.pick(world.keys)}~`, sync: dice.chance(0.3), limit: dice.chance(0.3) ? dice.between(1, 3) : Infinity, reverse: dice.chance(0.3) })
    case 'synced':
      synchronise(machine, machines, dice.pick([1000, 10_000])).catch((error) => { world.violation ??= error })
      return
    case 'freeze': {
      const forMs = dice.pick([500, 5000, 30_000])
      world.log(`${machine.name} stands still for ${forMs} ms`)
      return machine.freeze(forMs)
    }
    case 'cut': return world.log(`the connection ${network.cutOne() ?? 'of nobody'} breaks`)
    case 'block': return block(group, machine)
    case 'slow': {
      const other = dice.pick(machines)
      const delayMs = dice.between(300, 3000)
      world.log(`${machine.name} to ${other.name} takes ${delayMs} ms`)
      return network.setDelay(machine.name, other.name, delayMs)
    }
    case 'kill':
      world.log(`${machine.name} is killed`)
      machine.kill()
      return switchOn(machine, dice.exponential(1000))
    case 'power':
      machine.losePower()
      world.log(`${machine.name} has lost power`)
      return switchOn(machine, dice.exponential(3000))
    case 'tail':
      // What only a copy still has of it could not be told from what is written in its place; nor could what others have of it
      // of whom a disk that was put back does not know any more.
      if (machine.hasCopies || machine.special) return
      machine.saved = undefined
      machine.loseTail()
      world.log(`${machine.name} is killed, and has lost the end of its write-ahead log`)
      return switchOn(machine, dice.exponential(1000))
    case 'restart':
      world.log(`${machine.name} is closed`)
      void machine.stop().then(() => { switchOn(machine, dice.exponential(500)) }, (error) => { world.violation ??= error })
      return hitBetween(group, machine, 0.2)
    case 'disk':
      world.faultyDisks = true
      machine.disk.failures = dice.between(1, 3)
      world.log(`the disk of ${machine.name} fails ${machine.disk.failures} times`)
      return writeInARow(group, machine)
    case 'full': {
      const forMs = dice.pick([1000, 10_000, 40_000])
      world.faultyDisks = true
      machine.disk.failures = Infinity
      scheduler.after(forMs, () => { machine.disk.failures = 0 })
      return world.log(`the disk of ${machine.name} is full for ${forMs} ms`)
    }
    case 'release': {
      const [name, resolver] = dice.pick(Object.entries(resolvers))
      world.release = { resolver, version: `${Number(world.release.version) + 1}` }
      return world.log(`what is opened from now on has the resolver ${name}`)
    }
    case 'disconnect': {
      const other = dice.pick(machines)
      return other === machine ? undefined : machine.disconnect(other.name, dice.pick([1000, 20_000]))
    }
    case 'backup': return machine.backUp()
    case 'copy':
      machine.saved = machine.disk.contents
      return world.log(`${machine.name} is copied`)
    case 'restore':
      if (machine.saved === undefined) return
      machine.kill()
      group.restore(machine)
      world.log(`${machine.name} is restored`)
      return switchOn(machine, dice.exponential(1000))
    case 'rollback':
      if (machine.saved === undefined) return
      machine.kill()
      group.rollBack(machine)
      world.log(`${machine.name} goes back to what it was`)
      return switchOn(machine, dice.exponential(1000))
    case 'retire': return machine.retire()
    case 'clone':
      if (machines.length > 7) return
      world.log(`${machine.name} is cloned`)
      return switchOn(group.clone(machine), dice.exponential(1000))
    case 'twin': {
      const twin = machines.length > 7 ? undefined : group.twin(machine)
      if (twin === undefined) return
      world.count('snapshots that go on beside their disks')
      world.log(`a snapshot of the disk of ${machine.name} goes on as ${twin.name}`)
      return switchOn(twin, 0)
    }
    case 'away':
      world.log(`${machine.name} is switched off`)
      machine.away = true
      machine.kill({ told: dice.chance(0.5) })
      world.scheduler.after(dice.between(1000, 40_000), () => { machine.away = false; switchOn(machine, 0) })
      return
    case 'gone':
      if (group.living.length < 4) return
      world.log(`${machine.name} is gone for good`)
      return group.remove(machine)
    case 'clock':
      machine.clock.offsetMs = Math.round((dice.roll() - 0.5) * 60 * 86_400_000)
      return world.log(`the clock of ${machine.name} is off by ${machine.clock.offsetMs} ms`)
  }
}

function write (world: World, machine: Machine, operations: number): void {
  const { dice } = world
  const sync = dice.chance(0.1)
  const padding = dice.chance(0.1) ? dice.below(600) : dice.below(20)
  machine.write(randomOperations(dice, world.keys, operations, () => `${world.oracle.writes.length}${machine.name}${dice.below(1000)}${'x'.repeat(padding)}`), sync)
}

/** Of what comes from somebody else, one after the other, the first fails, and the next is on its way. */
function writeInARow ({ world, ready }: Group, machine: Machine): void {
  const { dice, scheduler } = world
  const others = ready.filter((other) => other !== machine)
  if (others.length === 0) return
  const other = dice.pick(others)
  let afterMs = 0
  for (let count = dice.between(2, 6); count > 0; count--) scheduler.after(afterMs += dice.exponential(3), () => { if (other.ready) write(world, other, 1) })
}

/** One way or both, from one or from all, for a while. */
function block ({ world, machines }: Group, machine: Machine): void {
  const { dice, network } = world
  const others = dice.chance(0.3) ? machines : [dice.pick(machines)]
  const directions = others.filter((other) => other !== machine).flatMap((other) => {
    const pair: Array<[string, string]> = [[machine.name, other.name], [other.name, machine.name]]
    return dice.chance(0.3) ? [dice.pick(pair)] : pair
  })
  const forMs = dice.pick([500, 5000, 20_000])
  world.log(`blocked for ${forMs} ms: ${directions.map((pair) => pair.join('>')).join(', ')}`)
  for (const [from, to] of directions) network.setBlocked(from, to, true)
  world.scheduler.after(forMs, () => { for (const [from, to] of directions) network.setBlocked(from, to, false) })
}

export function switchOn (machine: Machine, afterMs: number): void {
  const { world } = machine
  world.scheduler.after(afterMs, () => {
    if (machine.process !== undefined || machine.away || machine.gone) return
    const starting = machine.start()
    world.onOpening(machine.name)
    starting.then(() => {
      if (machine.process === undefined) switchOn(machine, 1000)
    }, (error) => { world.violation ??= error })
  })
}

async function heal (group: Group): Promise<void> {
  const { world, machines } = group
  const { network } = world
  world.log('all faults end')
  world.onStaged = world.onApplying = world.onOpening = world.onFolding = world.onLeaving = () => {}
  world.onDelivering = () => {}
  network.heal()
  for (const machine of machines) {
    machine.disk.failures = 0
    machine.thaw()
    machine.away = false
    for (const peer of machine.disconnected) machine.connect(peer)
    if (machine.process !== undefined && machine.process.release !== world.release) machine.kill()
    switchOn(machine, 0)
  }
  await world.pass(1000)
  group.endBranch()
  const alive = group.living.reduce((bits, machine) => bits | machine.seen, 0n)
  await rest(group, alive)
  for (const machine of group.ready) write(world, machine, 2)
  await world.pass(100)
  await rest(group, alive)
  if (isComplete(group)) await collect(group, alive)
  await giveSpaceBack(group)
  checkAnswers(group)
  await beQuiet(group)
}

/** Gives the collection of tombstones, and of conflicts that hold them, its time, and no more. */
async function collect (group: Group, alive: bigint): Promise<void> {
  const { world, living } = group
  const { scheduler, settings } = world
  const lastMs = scheduler.elapsedMs + collectionMs + living.length * conflictKeptMs + 2 * runningTimeSaveMs + (world.faultyDisks ? housekeepingPauseMs : 0) + (settings.memberTtlMs < memberTtlDefaultMs ? 2 * settings.memberTtlMs : 0)
  const left = (): Write[] => living.flatMap((machine) => tombstones(world, machine))
  while (left().length > 0) {
    if (scheduler.elapsedMs > lastMs) world.fail('not-collected', `these tombstones are still there: ${left().map(dotOf).join(', ')}`)
    await world.pass(250)
  }
  await rest(group, alive)
  world.count('groups without a tombstone to collect')
}

/** What happens by itself has its time; then a sweep that is asked for. */
async function giveSpaceBack ({ world, living }: Group): Promise<void> {
  const mayBeDue = world.oracle.writes.length > sweepOperationsMin
  if (mayBeDue) await world.pass(2 * housekeepingDelayMs + collectionIntervalMs + (world.faultyDisks ? housekeepingPauseMs : 0))
  for (const machine of living) {
    machine.process!.engine.slowReads = 0 // who looks at it wants to see one moment
    await checkDisk(machine)
    const store = machine.process!.store!
    // Who settles old conflicts may write meanwhile, after the moment of the sweep.
    for (let swept = new VersionVector(); !swept.dominates(store.vector);) {
      swept = store.vector.clone()
      await world.during(store.housekeeping.sweep())
    }
    await checkSwept(machine)
  }
}

/** What was asked for is answered, and what has come is told. */
function checkAnswers ({ world, living }: Group): void {
  for (const { name, process } of living) {
    const { transactions: { unanswered }, untold } = process!
    if (unanswered > 0) world.fail('unanswered', `${name} has not answered ${unanswered} of what it was asked for`)
    if (untold.size > 0) world.fail('event', `${name} tells nobody of ${[...untold].join(', ')}`)
  }
}

/** Where nothing happens nothing is sent but signs of life, no link ends, and all that is told is true. */
async function beQuiet (group: Group): Promise<void> {
  const { world, living, machines } = group
  for (const machine of living) {
    let inTime = false
    await world.during(synchronise(machine, living, restMs).then((result) => { inTime = result }))
    if (!inTime) world.fail('synced', `all are at rest, and ${machine.name} is not in sync in time`)
  }
  if (!world.dice.chance(0.3)) return // it takes as long as all the rest
  const restless = (): string => ['errors', 'units received', 'event connect', 'event disconnect', 'deliveries begun, catch-up', 'deliveries begun, transfer'].map((what) => `${world.counts[what] ?? 0} ${what}`).join(', ')
  // Where somebody is waited for in vain a conflict may still be settled, and what it held back be collected.
  const tidied = (): number => (world.counts['conflicts settled'] ?? 0) + (world.counts['tombstones collected'] ?? 0)
  let before: string
  let tidiedBefore: number
  do {
    tidiedBefore = tidied()
    await world.pass(4 * heartbeatIntervalMs) // in which is named what was passed over
    before = restless()
    await world.pass(quietMs)
  } while (tidied() !== tidiedBefore)
  if (restless() !== before) world.fail('restless', `at rest, and then from ${before} to ${restless()}`)
  for (const machine of living) await checkViews(machine, machines)
  await reachAll(group)
}

/** A write reaches all while links are live: each hop takes a moment, and nothing waits for anything. */
async function reachAll ({ world, living }: Group): Promise<void> {
  const { dice, keys, oracle, scheduler, settings } = world
  const lastMs = scheduler.elapsedMs + living.length * 1.5 * settings.network.delayMs + storingMs
  const authors = living.filter(({ mayWrite }) => mayWrite)
  if (authors.length === 0) return
  const author = dice.pick(authors)
  const index = oracle.writes.length
  author.write([{ type: 'put', key: dice.pick(keys), value: `the last one, of ${author.name}` }], false)
  const lacking = (): Machine[] => living.filter(({ seen }) => (seen & (1n << BigInt(index))) === 0n)
  while (lacking().length > 0) {
    if (scheduler.elapsedMs > lastMs) world.fail('late', `what ${author.name} writes has not come to ${lacking().map(({ name }) => name).join(', ')}, and all links are live`)
    await world.pass(5)
  }
}

export async function rest (group: Group, alive: bigint): Promise<void> {
  const { world } = group
  const { scheduler } = world
  const begunMs = scheduler.elapsedMs
  while (!atRest(group)) {
    if (scheduler.elapsedMs - begunMs > restMs) world.fail('no-rest', `not at rest after ${restMs} ms: ${group.machines.map(describe).join('; ')}`)
    await world.pass(250)
  }
  world.log(`at rest after ${Math.round(scheduler.elapsedMs - begunMs)} ms`)
  checkRest(group, alive)
}

function describe (machine: Machine): string {
  const { process, name } = machine
  if (process === undefined) return `${name} is off`
  const links = [...process.replicator?.mesh.links ?? []].map(({ address, direction, session }) => `${direction} ${address.host} sends ${session.sending}, receives ${session.receiving}`).join(', ')
  return `${name}${process.ready ? '' : ' is not ready'}${process.witness.applying === undefined ? '' : ' is applying'} [${links}]`
}
