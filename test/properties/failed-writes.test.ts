/**
 * Two stores whose disks fail now and then: writes that wait for each other, and fail with or without being there, deletes,
 * collections and catch-ups, all at once. After each step what is on disk is one state, and the one in memory.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicationError } from '../../lib/errors.ts'
import { stampedValueMax } from '../../lib/limits.ts'
import { checkInvariants } from '../support/invariants.ts'
import { seed } from '../support/seed.ts'
import { del, newMemory, openReplica, pull, put, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const histories = 100
const longest = 70_000 // of several such a batch is full

class Pair {
  readonly #random: VirtualSystem
  readonly #replicas: TestReplica[] = []
  /** How many batches of each are still to fail. */
  readonly #failing = [0, 0]
  failed = 0
  #count = 0

  constructor (seed: number) {
    this.#random = new VirtualSystem({ seed })
  }

  async open (): Promise<void> {
    for (let index = 0; index < 2; index++) {
      const memory = newMemory()
      const write = memory._batch.bind(memory)
      memory._batch = async (operations, options) => {
        const fails = this.#failing[index]! > 0 && this.#random.below(3) === 0
        if (!fails || this.#random.below(2) === 0) await write(operations, options)
        if (!fails) return
        this.#failing[index]!--
        this.failed++
        await turn()
        throw new Error('disk full')
      }
      const reopen = async (look: () => Promise<void>): Promise<void> => {
        await turn()
        await look()
      }
      this.#replicas[index] = await openReplica({ engine: memory as never, reports: () => this.#random.below(2) === 0, reopen, system: new VirtualSystem({ seed: this.#random.below(1e9) }) })
    }
  }

  async step (): Promise<void> {
    const index = this.#random.below(2)
    const replica = this.#replicas[index]!
    if (this.#random.below(3) === 0) this.#failing[index]!++
    const dice = this.#random.below(10)
    if (dice < 6) await this.#failOrNot([...this.#writes(replica), ...(this.#random.below(3) === 0 ? [replica.store.housekeeping.collect()] : [])])
    else if (dice < 7) await this.#failOrNot([replica.store.housekeeping.collect(), ...this.#writes(replica), replica.store.housekeeping.collect()])
    else if (dice < 8) await this.#failOrNot([replica.store.clear({})])
    else await this.#failOrNot([pull(replica, this.#replicas[1 - index]!)])
    for (let turns = 0; turns < 30; turns++) await turn()
    for (const { engine, store } of this.#replicas) {
      if (!store.applying) await checkInvariants(engine, { vector: store.vector as never, collected: store.collected })
    }
  }

  #writes ({ store }: TestReplica): Array<Promise<void>> {
    return Array.from({ length: 1 + this.#random.below(12) }, async () => {
      const operations = Array.from({ length: 1 + this.#random.below(2) }, () => {
        const key = `k${this.#random.below(3)}`
        return this.#random.below(4) === 0 ? del(key) : put(key, this.#value())
      })
      await store.commit(operations, this.#random.below(8) === 0)
    })
  }

  #value (): string {
    return `v${++this.#count}`.padEnd([stampedValueMax + 1 + this.#random.below(longest), stampedValueMax, 0][this.#random.below(3)]!)
  }

  async #failOrNot (work: Array<Promise<unknown>>): Promise<void> {
    for (const result of await Promise.allSettled(work)) {
      if (result.status === 'rejected') assert.instance(result.reason, ReplicationError)
    }
  }
}

async function turn (): Promise<void> {
  await new Promise((resolve) => { setImmediate(resolve) })
}

test('whichever writes fail, and whether they are there or not, what is on disk is one state', async () => {
  let failed = 0
  for (let number = seed; number < seed + histories; number++) {
    const pair = new Pair(number)
    await pair.open()
    try {
      for (let step = 0; step < 25; step++) await pair.step()
    } catch (error) {
      throw new Error(`history ${number}: ${(error as Error).stack}`)
    }
    failed += pair.failed
  }
  assert.ok(failed > histories, `${failed} writes failed`)
})

test.run()
