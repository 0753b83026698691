/**
 * A short history of two replicas that do not wait for each other: each forgets its deletes at once, so that a state transfer
 * follows, and what one is sent is merged without being decoded. Then, for each batch that LevelDB could lose of one of
 * them, alone or with another one: what is left is one state, and both become equal, and a third with them.
 */
import { stampedValueMax } from '../../lib/limits.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { del, exchange, openReplica, pull, put, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const everything = { covers: () => true } as never
const undecoded = { reports: () => false }
const kinds = ['catch-up', 'scan', 'transfer', undefined] as const

class Pair {
  readonly #random: VirtualSystem
  readonly #memories: LossyMemory[] = []
  readonly #replicas: TestReplica[] = []
  #count = 0

  constructor (seed: number) {
    this.#random = new VirtualSystem({ seed })
  }

  async open (): Promise<void> {
    for (let index = 0; index < 2; index++) {
      const memory = this.#memories[index] = await LossyMemory.open()
      this.#replicas[index] = await openReplica({ ...undecoded, engine: memory.asEngine, system: new VirtualSystem({ seed: this.#random.below(1e9) }) })
    }
  }

  async run (): Promise<void> {
    for (let steps = 12 + this.#random.below(14); steps > 0; steps--) await this.#step()
    await rest()
    const [{ engine, store }] = this.#replicas as [TestReplica]
    await checkInvariants(engine, { vector: store.vector as never, collected: store.collected })
  }

  async #step (): Promise<void> {
    const [one, other] = this.#replicas as [TestReplica, TestReplica]
    const dice = this.#random.random()
    if (dice < 0.3) await this.#write(other)
    else if (dice < 0.45) await this.#write(one)
    else if (dice < 0.6) await other.store.housekeeping.collect()
    else if (dice < 0.65) await one.store.housekeeping.collect()
    else if (dice < 0.9) await this.#bring()
    else if (dice < 0.93) await pull(other, one)
    else if (dice < 0.96) await this.#memories[0]!.engine.compactRange!()
    else await one.store.housekeeping.sweep()
  }

  async #bring (): Promise<void> {
    const [one, other] = this.#replicas as [TestReplica, TestReplica]
    await other.put('last', 'x'.repeat(50)) // the end of a chunk is decoded
    await pull(one, other, kinds[this.#random.below(kinds.length)])
  }

  async #write ({ store }: TestReplica): Promise<void> {
    const operations = Array.from({ length: 1 + this.#random.below(2) }, () => {
      const key = `k${this.#random.below(3)}`
      return this.#random.below(3) === 0 ? del(key) : put(key, this.#value())
    })
    await store.commit(operations, false)
  }

  /** With a stamp or with a version record. */
  #value (): string {
    return `v${++this.#count}`.padEnd([stampedValueMax + 1, stampedValueMax, 0, 0][this.#random.below(4)]!)
  }

  async #without (index: number, lost: ReadonlySet<number>): Promise<TestReplica> {
    const { identity, system } = this.#replicas[index]!
    return await openReplica({ ...undecoded, engine: (await this.#memories[index]!.reopenedWithout(lost)).asEngine, identity: identity.clone(), system })
  }

  /** For each batch of the first replica. Returns how many there were. */
  async lose (): Promise<number> {
    const last = this.#memories[0]!.logLength - 1
    for (let first = 0; first < last; first++) {
      const lost = new Set(this.#random.below(2) === 0 ? [first] : [first, this.#random.below(last)])
      try {
        await this.#loseThese(lost)
      } catch (error) {
        throw new Error(`loses ${[...lost].join(', ')} of ${last}: ${(error as Error).stack}`)
      }
    }
    return Math.max(0, last)
  }

  async #loseThese (lost: ReadonlySet<number>): Promise<void> {
    const [one, other] = [await this.#without(0, lost), await this.#without(1, new Set())]
    await rest()
    await checkInvariants(one.engine, { alsoCovered: everything })
    if (this.#random.below(3) > 0) await pull(one, other)
    await one.store.endRepair()
    await checkInvariants(one.engine, { vector: one.store.vector as never, collected: one.store.collected })
    for (let round = 0; round < 2; round++) await exchange(one, other)
    const third = await openReplica(undecoded)
    await pull(third, one)
    await checkEqual([one, other, third].map(({ engine }) => engine))
  }
}

/** What goes on in the background comes to its end. */
async function rest (): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await new Promise((resolve) => { setImmediate(resolve) })
}

/** Runs so many histories, from the one of this number on. Returns how many losses there were. */
export async function lossesOfTwo (from: number, count: number): Promise<number> {
  let sum = 0
  for (let seed = from; seed < from + count; seed++) {
    const pair = new Pair(seed)
    await pair.open()
    await pair.run()
    try {
      sum += await pair.lose()
    } catch (error) {
      throw new Error(`history ${seed} ${(error as Error).message}`)
    }
  }
  return sum
}
