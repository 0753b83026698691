/**
 * A store whose redo log and whose disk fail now and then, in every way, and whose process ends now and then. What is
 * read is always what was promised: the last write that has resolved, or a later one of which nobody has said that it is
 * not there. What is on disk is one state, and the one in memory, and a peer gets all of it.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { VersionVector } from '../../lib/core/version-vector.ts'
import type { ReplicationError } from '../../lib/errors.ts'
import { groupBytes, redoAreaBytes, redoPace } from '../../lib/limits.ts'
import { valueIn } from '../../lib/storage/memtable.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { seed } from '../support/seed.ts'
import { del, exchange, LiveStream, MemoryIdentity, MemoryRedoFile, newMemory, openReplica, pull, put, type FaultyMemory, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const histories = 100
const keys = ['a', 'b', 'c']
const peerKeys = ['p', 'q']
const lengths = [0, 0, 0, 0, 1500, groupBytes, redoAreaBytes / 3]
const redoFaults = ['nothing is there', 'a part is there', 'all is there'] as const

/** A write, and what is known of it: undefined until it is settled. */
interface Write {
  readonly value: string | undefined
  fate: 'there' | 'unknown' | 'not there' | undefined
}

/** A process and its disk, which fail when they are told to. */
class Machine {
  readonly #dice: VirtualSystem
  readonly memory: FaultyMemory
  readonly redoFile: MemoryRedoFile
  readonly identity: MemoryIdentity
  readonly system: VirtualSystem
  replica!: TestReplica
  isDead = false
  engineFaults = 0
  redoFaults = 0
  failed = { engine: 0, redo: 0 }

  private constructor (dice: VirtualSystem, memory: FaultyMemory, redoFile: MemoryRedoFile, identity: MemoryIdentity, startMs: number) {
    this.#dice = dice
    this.memory = memory
    this.redoFile = redoFile
    this.identity = identity
    this.system = new VirtualSystem({ seed: dice.below(1e9) })
    this.system.jumpWallClock(startMs)
  }

  static async begin (dice: VirtualSystem): Promise<Machine> {
    return await new Machine(dice, newMemory(), new MemoryRedoFile(), new MemoryIdentity(), 0).#open()
  }

  /** The process ends, and another one opens what there is. */
  async next (number: number): Promise<Machine> {
    this.isDead = true
    const memory = newMemory()
    await memory.open()
    const entries = await this.memory.iterator({ keyEncoding: 'buffer', valueEncoding: 'buffer' }).all()
    if (entries.length > 0) await memory.batch(entries.map(([key, value]) => ({ type: 'put', key, value })), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
    const redoFile = new MemoryRedoFile()
    redoFile.bytes = Buffer.from(this.redoFile.bytes)
    const next = new Machine(this.#dice, memory, redoFile, this.identity.clone(), number * 60_000)
    next.failed = this.failed
    return await next.#open()
  }

  async #open (): Promise<this> {
    const { memory, redoFile, identity, system } = this
    this.replica = await openReplica({ engine: memory as never, redoFile, identity, system, reopen: async (look) => { await this.#reopen(look) } })
    this.#failAtTimes()
    return this
  }

  #failAtTimes (): void {
    const write = this.memory._batch.bind(this.memory)
    this.memory._batch = async (operations, options) => {
      for (let turns = this.#dice.below(4); turns > 0; turns--) await turn()
      if (this.isDead) throw new Error('dead')
      const fails = this.engineFaults > 0 && this.#dice.below(2) === 0
      if (!fails || this.#dice.below(2) === 0) await write(operations, options)
      if (!fails) return
      this.engineFaults--
      this.failed.engine++
      await turn()
      throw new Error('disk full')
    }
    const append = this.redoFile.write.bind(this.redoFile)
    this.redoFile.write = (bytes, position) => {
      if (this.isDead) throw new Error('dead')
      if (this.redoFaults === 0 || this.#dice.below(2) === 0) return append(bytes, position)
      this.redoFaults--
      this.failed.redo++
      const fault = redoFaults[this.#dice.below(redoFaults.length)]
      if (fault !== 'nothing is there') append(fault === 'all is there' ? bytes : bytes.subarray(0, this.#dice.below(bytes.length)), position)
      throw new Error('input/output error')
    }
  }

  async #reopen (look: () => Promise<void>): Promise<void> {
    for (;;) {
      for (let turns = this.#dice.below(20); turns > 0; turns--) await turn()
      if (this.isDead) return await new Promise(() => {})
      try {
        return await look()
      } catch {
        // The disk has failed again.
      }
    }
  }
}

class History {
  readonly #dice: VirtualSystem
  readonly #writes = new Map<string, Write[]>(keys.map((key) => [key, [{ value: undefined, fate: 'there' }]]))
  #machine!: Machine
  #processes = 0
  #count = 0
  #unsettled = new Set<Promise<void>>()
  #link: LiveStream | undefined
  /** What the peer knew when the last of its units was sent that was taken in. */
  #taken = new VersionVector()

  constructor (seed: number) {
    this.#dice = new VirtualSystem({ seed })
  }

  async run (): Promise<Machine['failed']> {
    this.#machine = await Machine.begin(this.#dice)
    const peer = await openReplica()
    for (let step = 0; step < 40; step++) await this.#step(peer)
    await this.#mended()
    await this.#check()
    await exchange(peer, this.#machine.replica)
    await this.#machine.replica.store.flush()
    await checkEqual([peer.engine, this.#machine.replica.engine])
    return this.#machine.failed
  }

  async #step (peer: TestReplica): Promise<void> {
    const machine = this.#machine
    const { replica, system } = machine
    const dice = this.#dice.below(25)
    if (dice < 9) this.#write()
    else if (dice < 12) for (let turns = this.#dice.below(10); turns > 0; turns--) await turn()
    else if (dice < 13) await system.advance(this.#dice.below(3) === 0 ? redoPace.restMs : redoPace.keptMs)
    else if (dice < 14) machine.redoFaults += 1 + this.#dice.below(2)
    else if (dice < 15) machine.engineFaults += 1 + this.#dice.below(3)
    else if (dice < 16) await Promise.race([pull(peer, replica).catch(() => {}), turns(20)])
    else if (dice < 17) replica.store.atMoment(() => {}).catch(() => {})
    else if (dice < 18) await this.#check()
    else if (dice < 19) await this.#crash()
    else if (dice < 20) machine.engineFaults++
    else if (dice < 23) await this.#receive(peer)
    else if (dice < 24) this.#dispute()
    else {
      await this.#mended()
      await this.#check()
    }
  }

  /** What the peer has written comes, as units if there is a link. */
  async #receive (peer: TestReplica): Promise<void> {
    await peer.put(this.#peerKey, `p${++this.#count}`.padEnd(lengths[this.#dice.below(5)]!))
    if (this.#dice.below(3) === 0) await peer.del(this.#peerKey)
    const vector = peer.store.vector.clone()
    const machine = this.#machine
    const sent = this.#link?.send()
    if (sent === 'lost' || this.#link === undefined) this.#link = await Promise.race([LiveStream.open(peer, this.#machine.replica).catch(() => undefined), turns(20)]) ?? undefined
    else sent!.then(() => { if (this.#machine === machine) this.#taken = vector }, () => { this.#link = undefined })
  }

  get #peerKey (): string {
    return peerKeys[this.#dice.below(peerKeys.length)]!
  }

  /** One of the peer's keys is written here, too. */
  #dispute (): void {
    const key = this.#peerKey
    this.#machine.replica.store.commit([this.#dice.below(3) === 0 ? del(key) : put(key, `d${++this.#count}`)], false).catch(() => {})
  }

  #write (): void {
    for (let count = 1 + this.#dice.below(4); count > 0; count--) {
      const some = keys.filter(() => this.#dice.below(2) === 0)
      const writes = some.map((key): [string, Write] => [key, { value: this.#dice.below(4) === 0 ? undefined : `v${++this.#count}`.padEnd(lengths[this.#dice.below(lengths.length)]!), fate: undefined }])
      for (const [key, write] of writes) this.#writes.get(key)!.push(write)
      const settle = (fate: Write['fate']): void => { for (const [, write] of writes) write.fate ??= fate }
      const written = this.#machine.replica.store.commit(writes.map(([key, { value }]) => value === undefined ? del(key) : put(key, value)), this.#dice.below(6) === 0)
        .then(() => { settle('there') }, ({ code }: ReplicationError) => {
          assert.ok(code === 'LEVEL_IO_ERROR' || code === 'REPLICATION_WRITE_INDETERMINATE', code)
          settle(code === 'LEVEL_IO_ERROR' ? 'not there' : 'unknown')
        }).finally(() => { this.#unsettled.delete(written) })
      this.#unsettled.add(written)
    }
  }

  async #crash (): Promise<void> {
    this.#unsettled = new Set()
    this.#link = undefined
    for (const write of [...this.#writes.values()].flat()) write.fate ??= 'unknown'
    this.#machine = await this.#machine.next(++this.#processes)
    await turns(20)
    assert.ok(this.#machine.replica.store.vector.dominates(this.#taken), 'what was taken in of the peer is gone')
    await this.#check()
  }

  /** All is settled, and in the engine. */
  async #mended (): Promise<void> {
    this.#machine.engineFaults = this.#machine.redoFaults = 0
    await Promise.all(this.#unsettled)
    const { engine, store } = this.#machine.replica
    await turns(40)
    await store.flush()
    await checkInvariants(engine, { vector: store.vector as VersionVector, collected: store.collected })
  }

  /** What can be read is what may be. */
  async #check (): Promise<void> {
    const { replica } = this.#machine
    for (const key of keys) {
      const writes = this.#writes.get(key)!
      const last = writes.findLastIndex(({ fate }) => fate === 'there')
      const allowed = writes.filter(({ fate }, index) => index >= last && fate !== 'not there').map(({ value }) => value)
      const held = replica.store.find(key)
      const found = held === undefined ? await replica.get(key).catch(() => undefined) : held.type === 'put' ? String(valueIn(held.value!, 'utf8')) : undefined
      assert.ok(allowed.includes(found), `${key} is ${found?.trim()}, not one of ${allowed.map((value) => value?.trim()).join()}`)
    }
  }
}

async function turn (): Promise<void> {
  await new Promise((resolve) => { setImmediate(resolve) })
}

async function turns (count: number): Promise<void> {
  for (; count > 0; count--) await turn()
}

test('whatever fails of the disk, and whenever the process ends, what has resolved is there, and nothing that was refused', async () => {
  const failed = { engine: 0, redo: 0 }
  for (let number = seed; number < seed + histories; number++) {
    try {
      const { engine, redo } = await new History(number).run()
      failed.engine += engine
      failed.redo += redo
    } catch (error) {
      throw new Error(`history ${number}: ${(error as Error).stack}`)
    }
  }
  assert.ok(failed.engine > histories / 2 && failed.redo > histories / 3, `${failed.engine} batches and ${failed.redo} records failed`)
})

test.run()
