/**
 * The network between the machines: each direction of each pair has a delay of its own, and can be blocked alone.
 *
 * What is blocked is held back, and arrives when the direction is open again, as TCP would send it again. So a link
 * is cut at any byte: where the last parcel ended that came through.
 */
import { ReplicationError } from '../../lib/errors.ts'
import type { Connection, Transport } from '../../lib/network/transport.ts'
import { MemoryNetwork, type MemoryConnection } from '../support/memory-transport.ts'
import type { Dice } from './dice.ts'
import { ProcessSystem, type Scheduler } from './scheduler.ts'

interface Direction {
  delayMs: number
  blocked: boolean
  held: Array<() => void>
}

export interface NetworkOptions {
  readonly delayMs: number
  readonly fragmentBytes: number
  readonly windowBytes: number
}

export class SimulatedNetwork {
  readonly #memory: MemoryNetwork
  readonly #scheduler: Scheduler
  readonly #dice: Dice
  readonly #delayMs: number
  readonly #directions = new Map<string, Direction>()
  /** Whose processes stand still. */
  readonly #frozen = new Set<string>()
  parcels = 0
  /** Whether a machine can dial another one just now. */
  allows: (from: string, to: string) => boolean = () => true

  constructor (scheduler: Scheduler, dice: Dice, { delayMs, ...options }: NetworkOptions) {
    this.#scheduler = scheduler
    this.#dice = dice
    this.#delayMs = delayMs
    this.#memory = new MemoryNetwork({
      ...options,
      system: new ProcessSystem(scheduler, { offsetMs: 0 }, dice),
      schedule: (deliver, from, to) => { this.#carry(deliver, this.#direction(from, to), to) }
    })
  }

  #direction (from: string, to: string): Direction {
    const name = `${from}>${to}`
    let direction = this.#directions.get(name)
    if (direction === undefined) this.#directions.set(name, direction = { delayMs: this.#delayMs * (0.5 + this.#dice.roll()), blocked: false, held: [] })
    return direction
  }

  #carry (deliver: () => void, direction: Direction, to: string): void {
    this.parcels++
    this.#scheduler.after(direction.delayMs * (0.5 + this.#dice.roll()), () => {
      if (direction.blocked || this.#frozen.has(to)) direction.held.push(deliver)
      else deliver()
    })
  }

  /** What a process on this machine sees of the network; nothing any more once it is dead. */
  transport (host: string, isDead: () => boolean): Transport {
    const inner = this.#memory.transport(host)
    return {
      listen: async (address, onConnection, onError) => await inner.listen(address, onConnection, onError),
      dial: async (address, options) => {
        if (!this.allows(host, address.host)) throw new ReplicationError(`${address.host} cannot be reached from ${host}`, { code: 'REPLICATION_DIAL_FAILED' })
        const connection = await inner.dial(address, options)
        if (isDead()) await this.#abandon(connection)
        return connection
      }
    }
  }

  async #abandon (connection: Connection): Promise<void> {
    connection.close()
    await new Promise(() => {})
  }

  setBlocked (from: string, to: string, blocked: boolean): void {
    const direction = this.#direction(from, to)
    direction.blocked = blocked
    if (!blocked) this.#release(direction, to)
  }

  #release (direction: Direction, to: string): void {
    for (const deliver of direction.held.splice(0)) this.#carry(deliver, direction, to)
  }

  /** Nothing reaches a process that stands still. */
  freeze (host: string): void {
    this.#frozen.add(host)
  }

  thaw (host: string): void {
    this.#frozen.delete(host)
    for (const [name, direction] of this.#directions) if (name.endsWith(`>${host}`) && !direction.blocked) this.#release(direction, host)
  }

  setDelay (from: string, to: string, delayMs: number): void {
    this.#direction(from, to).delayMs = delayMs
  }

  /** Everything flows again, at its ordinary pace. */
  heal (): void {
    for (const name of this.#directions.keys()) {
      const [from, to] = name.split('>') as [string, string]
      this.setBlocked(from, to, false)
      this.setDelay(from, to, this.#delayMs)
    }
  }

  /** Breaks one connection, chosen by chance; both ends notice. */
  cutOne (): string | undefined {
    const ends = [...this.#memory.connections]
    if (ends.length === 0) return undefined
    return this.#cut(this.#dice.pick(ends))
  }

  /** The same, of a machine, if it has one. */
  cutOneOf (host: string): string | undefined {
    const ends = [...this.#memory.connections].filter((end) => end.host === host)
    return ends.length === 0 ? undefined : this.#cut(this.#dice.pick(ends))
  }

  #cut (end: MemoryConnection): string {
    for (const other of [...this.#memory.connections]) if (other === end || other.incoming === end.outgoing) other.break()
    return `${end.host}-${end.remote.host}`
  }

  /** A machine's process is dead. Its peers are told at once, or find out by themselves. */
  vanish (host: string, told: boolean): void {
    this.#memory.vanish(host)
    if (told) this.reset(host)
  }

  /** A machine that is up again answers what is meant for connections that it does not know. */
  reset (host: string): void {
    for (const end of [...this.#memory.connections]) if (end.remote.host === host) end.break()
  }

  get connections (): number {
    return this.#memory.connections.size
  }
}
