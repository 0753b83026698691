/**
 * The machines of a world: how many, who dials whom, and the copies that are made of them.
 */
import { Disk } from './disk.ts'
import { Machine } from './machine.ts'
import type { Topology } from './settings.ts'
import type { World } from './world.ts'

export class Group {
  readonly world: World
  readonly machines: Machine[] = []
  #copies = 0

  constructor (world: World) {
    this.world = world
    const { dice, settings } = world
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
    clone.special = true
    return clone
  }

  restore (machine: Machine): void {
    machine.disk.restore(machine.saved!, ++this.#copies)
    machine.special = true
  }

  /** The whole machine goes back to what it was, as a snapshot of its disk does: nothing shows it. */
  rollBack (machine: Machine): void {
    const { tree, identity } = machine.saved!
    Object.assign(machine.disk, { tree, identity })
    machine.disk.settle()
    machine.special = machine.wentBack = true
  }

  /** A machine is gone for good; those that are left find each other without it. */
  remove (machine: Machine): void {
    machine.kill()
    machine.gone = true
    for (const other of this.machines) other.peers = this.living.filter((peer) => peer !== other).map(({ name }) => name)
  }
}

function peersOf (topology: Topology, names: readonly string[], index: number): string[] {
  switch (topology) {
    case 'mesh': return names.filter((_, other) => other !== index)
    case 'chain': return names.slice(index + 1, index + 2)
    case 'star': return index === 0 ? [] : [names[0]!]
    case 'ring': return [names[(index + 1) % names.length]!]
  }
}
