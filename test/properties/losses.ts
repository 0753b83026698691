/**
 * A short history of three replicas that are linked and collect, sweep, leave logs and change their resolver; then, for each
 * batch of each that LevelDB could lose, alone or with another one: what is left is one state, and all become equal. For CI
 * and the long run.
 */
import { lastWriterWins } from '../../lib/core/resolve.ts'
import type { Resolver } from '../../lib/types.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { del, exchange, LiveStream, MemoryRedoFile, openReplica, pull, put, valueNumber, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const replicaCount = 3
/** In a chain, both ways. */
const streams = [[1, 0], [0, 1], [2, 1], [1, 2]] as const
const everything = { covers: () => true } as never
const resolvers: Resolver[] = [
  lastWriterWins,
  () => false,
  (a, b) => ({ value: [a.value, b.value].filter((value) => value !== undefined).join('+') }),
  (a, b) => a.type === 'del' || b.type === 'del' ? { type: 'del' } : true
]

class Group {
  readonly random: VirtualSystem
  readonly memories: LossyMemory[] = []
  replicas: TestReplica[] = []
  #streams: LiveStream[] = []
  #resolver: Resolver
  #resolverVersion = ''
  /** Whether anybody wants to be told what became visible; else some of it is merged without being decoded. */
  readonly #reports: boolean
  /** Whether what is written locally counts before LevelDB has it. */
  readonly #redoes: boolean
  #count = 0

  constructor (seed: number) {
    this.random = new VirtualSystem({ seed })
    this.#resolver = this.#pick(resolvers)
    this.#reports = seed % 2 === 1
    this.#redoes = seed % 4 < 2
  }

  #pick<T> (items: readonly T[]): T {
    return items[this.random.below(items.length)]!
  }

  async open (): Promise<void> {
    for (let index = 0; index < replicaCount; index++) {
      const memory = this.memories[index] = await LossyMemory.open()
      this.replicas[index] = await openReplica({ engine: memory.asEngine, redoFile: this.#redoes ? new MemoryRedoFile() : undefined, resolver: this.#resolver, reports: () => this.#reports, system: new VirtualSystem({ seed: this.random.below(1e9) }) })
    }
    for (const { store } of this.replicas) for (const other of this.replicas) store.members.met(other.store.replica)
    await this.#link()
  }

  async #link (): Promise<void> {
    for (const { store } of this.replicas) store.told.tell()
    for (const [from, to] of streams) this.#streams.push(await LiveStream.open(this.replicas[from]!, this.replicas[to]!))
  }

  #unlink (): void {
    for (const stream of this.#streams) stream.close()
    this.#streams = []
  }

  async step (): Promise<void> {
    const replica = this.#pick(this.replicas)
    const dice = this.random.random()
    if (dice < 0.45) await this.#write(replica)
    else if (dice < 0.75) await this.#send()
    else if (dice < 0.9) await this.#collect(replica)
    else if (dice < 0.92) await replica.store.housekeeping.sweep()
    else if (dice < 0.94) await this.#leave(replica)
    else if (dice < 0.97) await this.#changeResolver()
    else await this.#pick(this.memories).engine.compactRange!()
  }

  async #write ({ store }: TestReplica): Promise<void> {
    const operations = Array.from({ length: 1 + this.random.below(2) }, () => {
      const key = `k${this.random.below(3)}`
      return this.random.below(3) === 0 ? del(key) : put(key, valueNumber(++this.#count))
    })
    await store.commit(operations, false)
  }

  async #send (): Promise<void> {
    for (const { store } of this.replicas) store.told.tell()
    if (await this.#pick(this.#streams).send() !== 'lost') return
    this.#unlink()
    await this.#link()
  }

  async #collect ({ store }: TestReplica): Promise<void> {
    for (const { store } of this.replicas) await store.flush()
    for (const from of this.replicas) {
      for (const to of this.replicas) for (const { replica, acknowledged } of from.store.members) to.store.members.acknowledge(replica, acknowledged)
    }
    await store.housekeeping.collect()
  }

  async #leave ({ store }: TestReplica): Promise<void> {
    this.#unlink()
    await store.leaveLog()
    await this.#link()
  }

  async #changeResolver (): Promise<void> {
    this.#unlink()
    this.#resolver = this.#pick(resolvers)
    this.#resolverVersion += 'x'
    for (const [index, replica] of this.replicas.entries()) {
      await replica.store.close()
      this.memories[index] = await this.memories[index]!.reopenedWithout(new Set())
      this.replicas[index] = await this.#openOver(this.memories[index]!, replica)
    }
    await this.#link()
  }

  async #openOver (memory: LossyMemory, { identity, system, options: { redoFile } }: TestReplica): Promise<TestReplica> {
    return await openReplica({ engine: memory.asEngine, identity, redoFile, system, resolver: this.#resolver, reports: () => this.#reports, resolverVersion: this.#resolverVersion })
  }

  /** What a replica would be after a crash, without some batches. */
  async #without (index: number, lost: ReadonlySet<number>): Promise<TestReplica> {
    const { identity, system, options: { redoFile } } = this.replicas[index]!
    const found = { identity: identity.clone(), system, options: { redoFile: (redoFile as MemoryRedoFile | undefined)?.clone() } }
    return await this.#openOver(await this.memories[index]!.reopenedWithout(lost), found as TestReplica)
  }

  async lose (index: number, lost: ReadonlySet<number>): Promise<void> {
    const replica = await this.#without(index, lost)
    await rest()
    await checkInvariants(replica.engine, { resolver: this.#resolver, alsoCovered: everything })
    const others: TestReplica[] = []
    for (let other = 0; other < replicaCount; other++) if (other !== index) others.push(await this.#without(other, new Set()))
    if (this.random.below(3) > 0) for (const other of others) await pull(replica, other)
    await replica.store.endRepair()
    const { vector, collected } = replica.store
    await checkInvariants(replica.engine, { resolver: this.#resolver, vector: vector as never, collected })
    const all = [replica, ...others]
    for (let round = 0; round < replicaCount; round++) for (const [at, one] of all.entries()) await exchange(one, all[(at + 1) % replicaCount]!)
    await checkEqual(all.map(({ engine }) => engine), { resolver: this.#resolver })
  }

  close (): void {
    this.#unlink()
  }
}

/** What goes on in the background comes to its end. */
async function rest (): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await new Promise((resolve) => { setImmediate(resolve) })
}

async function history (seed: number): Promise<number> {
  const group = new Group(seed)
  await group.open()
  for (let steps = 15 + group.random.below(15); steps > 0; steps--) await group.step()
  await rest()
  let losses = 0
  for (let index = 0; index < replicaCount; index++) {
    const last = group.memories[index]!.logLength - 1
    for (let first = 0; first < last; first++) {
      const lost = new Set(group.random.below(3) === 0 ? [first, group.random.below(last)] : [first])
      try {
        await group.lose(index, lost)
      } catch (error) {
        throw new Error(`history ${seed}, replica ${index} loses ${[...lost].join(', ')} of ${last}: ${(error as Error).stack}`)
      }
      losses++
    }
  }
  group.close()
  return losses
}

/** Runs so many histories, from the one of this number on. Returns how many losses there were. */
export async function losses (from: number, count: number): Promise<number> {
  let sum = 0
  for (let seed = from; seed < from + count; seed++) sum += await history(seed)
  return sum
}
