/**
 * Random histories of a few replicas, compared with true causality after every step, and with each other at the end.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import { timeMaxMs } from '../../lib/core/hlc.ts'
import { formatLogId, logIdFrom } from '../../lib/core/ids.ts'
import type { ReadonlyVersionVector } from '../../lib/core/version-vector.ts'
import type { Operation } from '../../lib/storage/local.ts'
import type { Resolver } from '../../lib/types.ts'
import { CausalOracle, type Write } from '../support/causal-oracle.ts'
import { checkEqual, checkInvariants, type DiskState } from '../support/invariants.ts'
import { runs } from '../support/seed.ts'
import { del, LiveStream, openReplica, pull, put, valueNumber, type Kind, type TestReplica } from '../support/store.ts'

const replicaCount = 3
const keys = ['', 'a', 'b', 'c\0', '\xff']

type Step =
  | { type: 'write', replica: number, operations: Array<[number, boolean]> }
  | { type: 'together', replica: number, transactions: Array<Array<[number, boolean]>> }
  | { type: 'clear', replica: number, from: number, to: number }
  | { type: 'pull', to: number, from: number, kind: Kind | undefined }
  | { type: 'stream', from: number, to: number }
  | { type: 'send', from: number, to: number }
  | { type: 'gather', replica: number }
  | { type: 'crash', replica: number }
  | { type: 'sweep', replica: number }
  | { type: 'acknowledge', replica: number }
  | { type: 'round' }
  | { type: 'collect', replica: number }
  | { type: 'clock', replica: number, byMs: number }

const replica = fc.nat({ max: replicaCount - 1 })
const allPairs = [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]].map(([from, to]) => ({ from: from!, to: to! }))
const pair = fc.constantFrom(...allPairs)
const operation = fc.tuple(fc.nat({ max: keys.length - 1 }), fc.boolean())
const transaction = fc.array(operation, { minLength: 1, maxLength: 4 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ type: fc.constant('write' as const), replica, operations: transaction }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('together' as const), replica, transactions: fc.array(transaction, { minLength: 2, maxLength: 5 }) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('clear' as const), replica, from: fc.nat({ max: keys.length }), to: fc.nat({ max: keys.length }) }) },
  { weight: 4, arbitrary: fc.tuple(pair, fc.constantFrom<Kind | undefined>('catch-up', 'transfer', undefined)).map(([pair, kind]) => ({ type: 'pull' as const, kind, ...pair })) },
  { weight: 2, arbitrary: pair.map((pair) => ({ type: 'stream' as const, ...pair })) },
  { weight: 5, arbitrary: pair.map((pair) => ({ type: 'send' as const, ...pair })) },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('gather' as const), replica }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('crash' as const), replica }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('sweep' as const), replica }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant('acknowledge' as const), replica }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('collect' as const), replica }) },
  { weight: 3, arbitrary: fc.constant({ type: 'round' as const }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('clock' as const), replica, byMs: fc.oneof(fc.integer({ min: -1e6, max: 1e6 }), fc.constantFrom(1e13, -1e13)) }) }
)

const hourMs = 3_600_000

const resolvers: Record<string, Resolver> = {
  'the default': () => true,
  'one that always keeps the first': () => false,
  'one by value, with ties': (a, b) => String(b.value ?? '').length > String(a.value ?? '').length,
  'one that is not symmetric': (a, b) => a.type === 'put' && String(a.value).endsWith('1') && b.type !== 'del',
  'one that merges': (a, b) => ({ value: [a.value, b.value].filter((value) => value !== undefined).join('+') }),
  'one that deletes': () => ({ type: 'del' }),
  'one that throws': () => { throw new Error('planted') }
}

class History {
  readonly replicas: TestReplica[]
  readonly #oracle = new CausalOracle(replicaCount)
  readonly #streams = new Map<string, LiveStream>()
  readonly #sequences: number[]
  readonly #resolver: Resolver
  #values = 0

  private constructor (replicas: TestReplica[], resolver: Resolver) {
    this.replicas = replicas
    this.#sequences = replicas.map(() => 0)
    this.#resolver = resolver
  }

  static async begin (resolver: Resolver): Promise<History> {
    const replicas: TestReplica[] = []
    for (let index = 0; index < replicaCount; index++) replicas.push(await openReplica({ resolver, seed: index + 1 }))
    for (const { store } of replicas) {
      for (const other of replicas) store.members.met(other.store.replica)
      await store.flush()
    }
    return new History(replicas, resolver)
  }

  /** The operations of a transaction, told to the oracle too. */
  #transaction (index: number, operations: ReadonlyArray<readonly [string, boolean]>): Operation[] {
    return operations.map(([key, isPut]) => {
      this.#note(index, key, isPut)
      return isPut ? put(key, valueNumber(++this.#values)) : del(key)
    })
  }

  #note (index: number, key: string, isPut: boolean): void {
    if (!isPut && !this.#oracle.holdsPut(index, key)) return
    this.#oracle.write(index, `${formatLogId(this.replicas[index]!.store.ownLog)}:${++this.#sequences[index]!}`, key, isPut ? 'put' : 'del')
  }

  async run (step: Step): Promise<void> {
    if (step.type === 'round') {
      for (const { from, to } of [...allPairs, ...allPairs]) await this.run({ type: 'pull', from, to, kind: undefined })
      for (let replica = 0; replica < replicaCount; replica++) await this.run({ type: 'acknowledge', replica })
      return
    }
    if ('replica' in step) {
      const replica = this.replicas[step.replica]!
      switch (step.type) {
        case 'write':
          await replica.store.commit(this.#transaction(step.replica, step.operations.map(([key, isPut]) => [keys[key]!, isPut])), false)
          return
        case 'together':
          await Promise.all(step.transactions.map(async (operations) => {
            await replica.store.commit(this.#transaction(step.replica, operations.map(([key, isPut]) => [keys[key]!, isPut])), false)
          }))
          return
        case 'clear': {
          const range = { ...(step.from < keys.length ? { gte: Buffer.from(keys[step.from]!, 'latin1') } : {}), ...(step.to < keys.length ? { lt: Buffer.from(keys[step.to]!, 'latin1') } : {}) }
          const { data } = await checkInvariants(replica.engine, { resolver: this.#resolver })
          for (const key of [...data.keys()].sort()) {
            const inside = (step.from >= keys.length || key >= keys[step.from]!) && (step.to >= keys.length || key < keys[step.to]!)
            if (inside) this.#note(step.replica, key, false)
          }
          await replica.store.clear({ ...range, keyEncoding: 'buffer' })
          return
        }
        case 'gather':
          await this.#gather(step.replica)
          return
        case 'crash':
          for (const [name, stream] of this.#streams) {
            if (!name.includes(String(step.replica))) continue
            stream.close()
            this.#streams.delete(name)
          }
          this.replicas[step.replica] = await replica.reopened()
          assert.ok(this.replicas[step.replica]!.store.vector.equals(replica.store.vector), 'the vector is the one before the crash')
          return
        case 'sweep':
          await replica.store.housekeeping.sweep()
          return
        case 'acknowledge':
          await replica.store.flush()
          for (const { store } of this.replicas) for (const member of replica.store.members) store.members.acknowledge(member.replica, member.acknowledged)
          return
        case 'collect':
          await this.#collect(step.replica)
          return
        case 'clock':
          // Nearly to the end of time, where nobody's clock may follow; at the end itself another log begins.
          replica.system.jumpWallClock(Math.min(step.byMs, timeMaxMs - hourMs - replica.system.nowMs()))
          return
      }
    }
    const { from, to } = step
    const name = `${from}-${to}`
    switch (step.type) {
      case 'pull':
        await pull(this.replicas[to]!, this.replicas[from]!, step.kind)
        break
      case 'stream':
        this.#streams.get(name)?.close()
        this.#streams.set(name, await LiveStream.open(this.replicas[from]!, this.replicas[to]!))
        break
      case 'send': {
        const stream = this.#streams.get(name)
        if (stream === undefined) return
        const sent = stream.send()
        if (sent !== 'lost') {
          await sent
          break
        }
        stream.close()
        this.#streams.delete(name)
        return
      }
    }
    this.#oracle.receive(to, this.#oracle.moment(from))
  }

  /** What is settled, since a clock says that it is old, is a write like any other. */
  async #collect (index: number): Promise<void> {
    const { store, engine } = this.replicas[index]!
    const before = store.vector.sequenceOf(store.ownLog)
    await store.housekeeping.collect()
    const { versions } = await checkInvariants(engine, { resolver: this.#resolver })
    const settled = [...versions].flatMap(([key, siblings]) => siblings.map((sibling) => ({ ...sibling, key })))
      .filter(({ log, sequence }) => log === store.ownLog && sequence > before)
      .sort((a, b) => a.sequence - b.sequence)
    for (const { key, type } of settled) this.#note(index, key, type === 'put')
  }

  /** Everybody's units at once, so that those of several senders share an inner batch. */
  async #gather (to: number): Promise<void> {
    const sending: Array<Promise<void[]>> = []
    const moments: Array<ReadonlySet<Write>> = []
    // Keeps the writer busy until all are queued.
    const flushing = this.replicas[to]!.store.flush()
    for (const [name, stream] of this.#streams) {
      if (!name.endsWith(String(to))) continue
      const sent = stream.send()
      if (sent === 'lost') continue
      sending.push(sent)
      moments.push(this.#oracle.moment(Number(name[0])))
    }
    await flushing
    await Promise.all(sending)
    for (const moment of moments) this.#oracle.receive(to, moment)
  }

  async check (): Promise<void> {
    for (const [index, replica] of this.replicas.entries()) {
      const state = await checkInvariants(replica.engine, { vector: replica.store.vector as never, collected: replica.store.collected, resolver: this.#resolver })
      this.#compare(index, state, replica.store.collected)
    }
  }

  /** State is a function of what is known and of what was collected, and no conflict has lost its delete. */
  #compare (index: number, { versions, staged }: DiskState, collected: ReadonlyVersionVector): void {
    assert.is(staged, 0)
    const isCollected = ({ dot, type }: Write): boolean => {
      const [log, sequence] = dot.split(':') as [string, string]
      return type === 'del' && collected.covers(logIdFrom(Buffer.from(log, 'hex')), Number(sequence))
    }
    for (const key of new Set([...versions.keys(), ...this.#oracle.keys(index)])) {
      const found = (versions.get(key) ?? []).map(({ log, sequence, type }) => `${type} ${formatLogId(log)}:${sequence}`).sort()
      const siblings = this.#oracle.siblings(index, key)
      assert.not.ok(siblings.some(isCollected) && siblings.some(({ type }) => type === 'put'), `replica ${index}, key ${JSON.stringify(key)}: a conflict has lost its delete`)
      const expected = siblings.filter((write) => !isCollected(write)).map(({ dot, type }) => `${type} ${dot}`).sort()
      assert.equal(found, expected, `replica ${index}, key ${JSON.stringify(key)}`)
    }
  }

  /** Lets everybody exchange everything, in an order of `rounds`, and expects all to be equal. */
  async converge (pairs: ReadonlyArray<{ from: number, to: number }>): Promise<void> {
    for (const { from, to } of [...pairs, ...pairs, { from: 1, to: 0 }, { from: 2, to: 0 }, { from: 0, to: 1 }, { from: 0, to: 2 }]) {
      await this.run({ type: 'pull', from, to, kind: undefined })
    }
    await this.check()
    await checkEqual(this.replicas.map(({ engine }) => engine), { resolver: this.#resolver })
  }
}

for (const [name, resolver] of Object.entries(resolvers)) {
  test(`with ${name}, siblings are those of true causality after every step, and replicas converge`, async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }), fc.array(pair, { maxLength: 4 }), fc.boolean(), async (steps, pairs, mesh) => {
      const history = await History.begin(resolver)
      if (mesh) for (const { from, to } of allPairs) await history.run({ type: 'stream', from, to })
      for (const step of steps) {
        await history.run(step)
        if (step.type !== 'clock') await history.check()
      }
      await history.converge(pairs)
    }), runs(name === 'the default' ? 150 : 40))
  })
}

test.run()
