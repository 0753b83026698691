/**
 * The machines of a world: how many, who dials whom, and the copies that are made of them.
 */
import { logIdFrom, type LogId } from '../../lib/core/ids.ts'
import { keyspace, meta } from '../../lib/storage/keyspaces.ts'
import { vectorOf } from '../support/invariants.ts'
import { Disk, type Contents, type Tree } from './disk.ts'
import { Machine } from './machine.ts'
import type { Topology } from './settings.ts'
import type { Branch } from './witness.ts'
import type { World } from './world.ts'

export class Group {
  readonly world: World
  readonly machines: Machine[] = []
  #copies = 0

  constructor (world: World) {
    this.world = world
    const { dice, settings } = world
    world.network.allows = (from, to) => this.#allows(from, to)
    const names = [...'abcdefg'].slice(0, settings.replicas)
    for (const [index, name] of names.entries()) {
      const machine = this.#add(new Machine(world, name, peersOf(settings.topology, names, index)))
      if (dice.chance(settings.skewed)) machine.clock.offsetMs = Math.round((dice.roll() - 0.5) * 60 * 86_400_000)
    }
  }

  #add (machine: Machine): Machine {
    this.machines.push(machine)
    this.world.replicas.push(machine)
    return machine
  }

  /** Those that can be written to. */
  get ready (): Machine[] {
    return this.machines.filter(({ ready }) => ready)
  }

  /** Those that are there, or will be again. */
  get living (): Machine[] {
    return this.machines.filter(({ gone }) => !gone)
  }

  /** A new machine with a copy of another one's directory; it is not switched on. */
  clone (machine: Machine): Machine {
    const disk = Disk.copyOf(machine.saved ?? machine.disk, ++this.#copies)
    const clone = this.#add(new Machine(this.world, `x${this.machines.length}`, this.living.map(({ name }) => name), disk))
    clone.special = machine.hasCopies = true
    return clone
  }

  /**
   * The log that a snapshot goes on in, if it is opened as another machine: there has to be somebody who knows what the
   * original has written since, or the original itself.
   */
  #branchOf (saved: Contents, name: string): Branch | undefined {
    const { tree, identity, told } = Disk.with(saved)
    const log = tree.get(meta.ownLog)
    if (log === undefined || identity === undefined || told?.log !== logIdFrom(log)) return undefined
    const branch = { log: logIdFrom(log), above: vectorOf(metasOf(tree)).sequenceOf(logIdFrom(log)), name: `${logIdFrom(log)}${name}` as LogId }
    return this.machines.some((other) => mayMeet(branch, other)) ? branch : undefined
  }

  /** A snapshot of a whole disk goes on beside the disk: nothing shows it, or, on another machine, only that this one was started. */
  twin (machine: Machine): Machine | undefined {
    const name = `x${this.machines.length}`
    const branch = machine.saved === undefined || this.branched !== undefined ? undefined : this.#branchOf(machine.saved, name)
    if (branch === undefined) return undefined
    const disk = Disk.with(machine.saved!)
    disk.bootId = this.world.dice.chance(0.5) ? machine.disk.bootId : `boot of ${name}`
    const twin = this.#add(new Machine(this.world, name, this.living.map(({ name }) => name), disk))
    twin.branch = branch
    twin.special = machine.special = machine.hasCopies = true
    return twin
  }

  /** Of two snapshots that write in one log, the one that is not alone with what it writes. */
  get branched (): Machine | undefined {
    return this.living.find(({ branch }) => branch !== undefined)
  }

  /** Where two have heard different things of one log, neither can know who is right: so nobody hears of the second one. */
  #allows (from: string, to: string): boolean {
    const { branched } = this
    if (branched?.branch === undefined || (from !== branched.name && to !== branched.name)) return true
    return mayMeet(branched.branch, this.machines.find(({ name }) => name === (from === branched.name ? to : from))!)
  }

  /** Nobody is left by whom the second one could notice. */
  endBranch (): void {
    const { branched } = this
    if (branched?.branch !== undefined && !this.living.some((other) => other !== branched && mayMeet(branched.branch!, other))) this.remove(branched)
  }

  restore (machine: Machine): void {
    machine.disk.restore(machine.saved!, ++this.#copies)
    machine.special = true
  }

  /** The whole machine goes back to what it was, as a snapshot of its disk does: nothing shows it, but to those who know more of its log. */
  rollBack (machine: Machine): void {
    machine.branch = this.branched === undefined ? this.#branchOf(machine.saved!, `${machine.name} again ${++this.#copies}`) : undefined
    machine.disk.rollBack(machine.saved!)
    machine.special = true
    machine.wentBack = machine.branch === undefined
  }

  /** A machine is gone for good; those that are left find each other without it. */
  remove (machine: Machine): void {
    machine.kill()
    machine.gone = true
    for (const other of this.machines) other.peers = this.living.filter((peer) => peer !== other).map(({ name }) => name)
  }
}

/** One that is being opened may still find out that it is a copy, and take another log. */
function mayMeet ({ log, above }: Branch, { process, gone, branch }: Machine): boolean {
  const witness = process?.witness
  return !gone && branch === undefined && witness !== undefined && ((process!.store !== undefined && witness.ownLog === log) || witness.vector.sequenceOf(log) > above)
}

function metasOf (tree: Tree): Map<string, Buffer> {
  const metas = new Map<string, Buffer>()
  tree.forEach((key, value) => { if (key[0] === keyspace.meta) metas.set(key.toString('latin1'), value) })
  return metas
}

function peersOf (topology: Topology, names: readonly string[], index: number): string[] {
  switch (topology) {
    case 'mesh': return names.filter((_, other) => other !== index)
    case 'chain': return names.slice(index + 1, index + 2)
    case 'star': return index === 0 ? [] : [names[0]!]
    case 'ring': return [names[(index + 1) % names.length]!]
  }
}
