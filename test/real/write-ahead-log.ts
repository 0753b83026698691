/**
 * Damaged write-ahead logs of real LevelDB: what every mutation has to come to, for the sample and for the long run.
 */
import { cpSync } from 'node:fs'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { formatLogId } from '../../lib/core/ids.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { newDirectory } from '../support/directory.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { damageLog, damages } from '../support/log-mutator.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { exchange, openReplica, pull, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

function levelAt (location: string): ClassicLevel<Buffer, Buffer> {
  return new ClassicLevel<Buffer, Buffer>(location, buffers)
}

async function copyOf (memory: LossyMemory, replica: TestReplica): Promise<TestReplica> {
  const copy = await memory.reopenedWithout(new Set())
  return await openReplica({ engine: copy.asEngine, identity: replica.identity.clone() })
}

export interface Outcome {
  harmless: number
  holes: number
  lostTails: number
  rewritten: number
}

/** Damages copies of one database, each in another way, and lets each meet a peer again. */
export async function damageCopies (count: number, seed: number): Promise<Outcome> {
  const random = new VirtualSystem({ seed })
  const below = (limit: number): number => Math.floor(random.random() * limit)
  const location = newDirectory()
  const replica = await openReplica({ engine: levelAt(location) as unknown as Engine })
  const memory = await LossyMemory.open()
  const peer = await openReplica({ engine: memory.asEngine })
  const shared = new Set<string>()
  const own: string[] = []
  for (let index = 0; index < 120; index++) {
    const writer = below(3) === 0 ? peer : replica
    await writer.put(`k${below(20)}`, `${index}`.padEnd(below(600), 'x'))
    if (below(5) === 0) await writer.del(`k${below(20)}`)
    await writer.put(`once-${index}`, `${index}`)
    if (writer === replica) own.push(`once-${index}`)
    if (index % 10 !== 0 || index >= 100) continue
    replica.store.told.tell()
    await exchange(replica, peer)
  }
  for (const key of Object.keys(await peer.data())) if (key.startsWith('once')) shared.add(key)
  const values = await valuesOfDots(peer)
  const outcome: Outcome = { harmless: 0, holes: 0, lostTails: 0, rewritten: 0 }
  for (let run = 0; run < count; run++) {
    const damage = damages[run % damages.length]!
    try {
      const directory = newDirectory()
      cpSync(location, directory, { recursive: true })
      damageLog(directory, damage, () => random.random())
      await meetAgain(directory, replica, await copyOf(memory, peer), { shared, own, values, outcome, writesFirst: below(2) === 0 })
    } catch (error) {
      throw new Error(`${damage}, run ${run} of seed ${seed}: ${(error as Error).stack}`)
    }
  }
  await replica.engine.close()
  return outcome
}

interface Expectation {
  readonly shared: ReadonlySet<string>
  readonly own: readonly string[]
  readonly values: ReadonlyMap<string, string>
  readonly outcome: Outcome
  /** Whether the damaged one goes on writing before it meets anybody. */
  readonly writesFirst: boolean
}

async function meetAgain (directory: string, original: TestReplica, peer: TestReplica, { shared, own, values, outcome, writesFirst }: Expectation): Promise<void> {
  const identity = original.identity.clone()
  const level = levelAt(directory)
  const opened = await openReplica({ engine: level as unknown as Engine, identity })
  const hole = opened.errors.some(({ code }) => code === 'REPLICATION_HOLE')
  const whole = opened.store.vector.equals(original.store.vector)
  if (hole) outcome.holes++
  else if (whole) outcome.harmless++
  else outcome.lostTails++
  const before = await opened.data()
  const survived = own.filter((key) => key in before)
  if (writesFirst) for (let index = 0; index < 40; index++) await opened.put(`k${index % 20}`, `alone ${index}`)
  await pull(opened, peer)
  if (opened.store.repairing) {
    outcome.rewritten++
    await opened.store.endRepair()
  }
  await opened.put('afterwards', 'written')
  await exchange(opened, peer)
  await exchange(opened, peer)
  await checkInvariants(level as unknown as Engine, { vector: opened.store.vector as never })
  await checkEqual([opened.engine, peer.engine])
  const data = await opened.data()
  for (const key of [...shared, ...survived, 'afterwards']) assert.ok(key in data, `${key} is lost`)
  for (const [dot, value] of await valuesOfDots(opened)) {
    const other = values.get(dot)
    assert.ok(other === undefined || other === value, `${dot} was ${String(other)}, and is ${value}`)
  }
  await level.close()
}

/** Of keys with one version: what its dot wrote. */
async function valuesOfDots (replica: TestReplica): Promise<Map<string, string>> {
  const { versions, data } = await checkInvariants(replica.engine)
  const values = new Map<string, string>()
  for (const [key, [sibling, other]] of versions) {
    if (other === undefined) values.set(`${formatLogId(sibling!.log)}:${sibling!.sequence}`, `${key}=${String(data.get(key))}`)
  }
  return values
}
