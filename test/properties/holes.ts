/**
 * LevelDB loses batches from the middle of its write-ahead log, again and again: whatever is lost, what another replica
 * has comes back, what survived stays, all replicas end equal, and no dot ever names two writes. For CI and the long run.
 */
import * as assert from 'uvu/assert'
import { formatLogId } from '../../lib/core/ids.ts'
import { lastWriterWins } from '../../lib/core/resolve.ts'
import type { Resolver } from '../../lib/types.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { del, exchange, MemoryRedoFile, openReplica, pull, put, valueNumber, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const replicaCount = 3
const resolvers: Resolver[] = [
  lastWriterWins,
  (a, b) => String(b.value ?? '').length >= String(a.value ?? '').length,
  (a, b) => ({ value: [a.value, b.value].filter((value) => value !== undefined).join('+') })
]

class Group {
  readonly random: VirtualSystem
  readonly memories: LossyMemory[] = []
  readonly replicas: TestReplica[] = []
  /** Which value each dot has been seen with. */
  readonly #valueOfDot = new Map<string, string>()
  readonly #resolver: Resolver
  /** Whether anybody wants to be told what became visible; else some of it is merged without being decoded. */
  readonly #reports: boolean
  /** Whether what is written locally counts before LevelDB has it. */
  readonly #redoes: boolean
  /** Keys that are written once and never again: who has them, and must keep them. */
  readonly owners = new Map<string, Set<number>>()
  #count = 0
  holes = 0
  rewritten = 0

  constructor (seed: number) {
    this.random = new VirtualSystem({ seed })
    this.#resolver = resolvers[seed % resolvers.length]!
    this.#reports = seed % 2 === 0
    this.#redoes = seed % 4 < 2
  }

  async open (index: number, memory: LossyMemory): Promise<void> {
    this.memories[index] = memory
    const before = this.replicas[index]
    const redoFile = !this.#redoes ? undefined : (before?.options.redoFile as MemoryRedoFile | undefined)?.clone() ?? new MemoryRedoFile()
    this.replicas[index] = await openReplica({ engine: memory.asEngine, redoFile, resolver: this.#resolver, reports: () => this.#reports, system: new VirtualSystem({ seed: this.random.below(1e9) }), ...(before === undefined ? {} : { identity: before.identity }) })
  }

  async write (index: number): Promise<void> {
    const replica = this.replicas[index]!
    const operations = Array.from({ length: 1 + this.random.below(3) }, () => {
      const key = `k${this.random.below(6)}`
      return this.random.below(4) === 0 ? del(key) : put(key, valueNumber(++this.#count))
    })
    const once = `once-${++this.#count}`
    this.owners.set(once, new Set([index]))
    await replica.store.commit([...operations, put(once, once)], false)
    await this.#note(replica)
  }

  async #note (replica: TestReplica): Promise<void> {
    const { versions, data } = await checkInvariants(replica.engine, { resolver: this.#resolver, alsoCovered: everything })
    for (const [key, set] of versions) {
      if (set.length !== 1) continue
      const { log, sequence } = set[0]!
      const text = `${key}=${String(data.get(key))}`
      const dot = `${formatLogId(log)}:${sequence}`
      const before = this.#valueOfDot.get(dot)
      assert.ok(before === undefined || before === text, `${dot} is ${text}, and was ${String(before)}`)
      this.#valueOfDot.set(dot, text)
    }
  }

  async exchange (to: number, from: number): Promise<void> {
    const [receiver, sender] = [this.replicas[to]!, this.replicas[from]!]
    if (sender.store.repairing || sender.store.vector.size === 0) return
    await pull(receiver, sender)
    await receiver.store.flush()
    for (const owners of this.owners.values()) if (owners.has(from)) owners.add(to)
    await this.#note(receiver)
  }

  /** Batches of a replica are lost; afterwards it knows its surviving writes only. */
  async lose (index: number): Promise<void> {
    const memory = this.memories[index]!
    const replica = this.replicas[index]!
    if (memory.logLength < 2) return
    const lost = new Set(Array.from({ length: 1 + this.random.below(3) }, () => this.random.below(memory.logLength - 1)))
    await this.open(index, await memory.reopenedWithout(lost))
    const opened = this.replicas[index]!
    this.holes++
    assert.is(opened.errors[0]?.code, 'REPLICATION_HOLE')
    assert.is.not(opened.store.ownLog, replica.store.ownLog)
    const data = await opened.data()
    for (const [key, owners] of this.owners) if (!(key in data)) owners.delete(index)
    await this.#note(opened)
  }

  async endRepair (index: number): Promise<void> {
    const replica = this.replicas[index]!
    if (!replica.store.repairing) return
    this.rewritten++
    await replica.store.endRepair()
    await checkInvariants(replica.engine, { resolver: this.#resolver, vector: replica.store.vector as never })
    await this.#note(replica)
  }

  async settle (): Promise<void> {
    for (let round = 0; round < 2; round++) {
      for (let to = 0; to < replicaCount; to++) for (let from = 0; from < replicaCount; from++) if (to !== from) await this.exchange(to, from)
      for (let index = 0; index < replicaCount; index++) await this.endRepair(index)
    }
    for (let index = 0; index < replicaCount; index++) await exchange(this.replicas[index]!, this.replicas[(index + 1) % replicaCount]!)
    for (let index = 0; index < replicaCount; index++) await exchange(this.replicas[index]!, this.replicas[(index + 1) % replicaCount]!)
  }

  async check (): Promise<void> {
    await checkEqual(this.replicas.map(({ engine }) => engine), { resolver: this.#resolver })
    const data = await this.replicas[0]!.data()
    for (const [key, owners] of this.owners) if (owners.size > 0) assert.ok(data[key]?.split('+').every((part) => part === key) === true, `${key} was at ${[...owners].join(', ')}, and reads ${data[key]}`)
  }
}

const everything = { covers: () => true } as never

async function history (seed: number): Promise<Group> {
  const group = new Group(seed)
  for (let index = 0; index < replicaCount; index++) await group.open(index, await LossyMemory.open())
  for (let step = 0; step < 40; step++) {
    const index = group.random.below(replicaCount)
    const dice = group.random.random()
    if (dice < 0.5) await group.write(index)
    else if (dice < 0.85) await group.exchange(index, (index + 1 + group.random.below(replicaCount - 1)) % replicaCount)
    else if (dice < 0.95) await group.lose(index)
    else await group.endRepair(index)
  }
  await group.settle()
  await group.check()
  return group
}

/** Runs so many histories, from the one of this number on. */
export async function histories (from: number, count: number): Promise<{ holes: number, rewritten: number }> {
  let [holes, rewritten] = [0, 0]
  for (let number = from; number < from + count; number++) {
    try {
      const group = await history(number)
      holes += group.holes
      rewritten += group.rewritten
    } catch (error) {
      throw new Error(`history ${number}: ${(error as Error).stack}`)
    }
  }
  return { holes, rewritten }
}
