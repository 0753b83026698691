/**
 * What a replica takes on disk once history is over: for the sample and for the long run.
 *
 * LevelDB gives space back when it compacts, so everything is compacted before it is measured.
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { suite, type Test } from 'uvu'
import * as assert from 'uvu/assert'
import { housekeepingDelayMs } from '../../lib/limits.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import type { Operation } from '../../lib/storage/local.ts'
import { newDirectory } from '../support/directory.ts'
import { checkInvariants } from '../support/invariants.ts'
import { openReplica, put, type TestReplica } from '../support/store.ts'

const keys = 1000
/** About as many as a replica that does nothing else writes in two seconds, after which it looks whether to sweep. */
const transactionsBetweenSweeps = 50_000
const timesFreshMax = 3

/** A replica on a disk, whose housekeeping has its turn every now and then, as it has with time. */
class Site {
  readonly #directory: string
  readonly #level: ClassicLevel<Buffer, Buffer>
  readonly #replica: TestReplica
  #transactions = 0

  private constructor (directory: string, level: ClassicLevel<Buffer, Buffer>, replica: TestReplica) {
    this.#directory = directory
    this.#level = level
    this.#replica = replica
  }

  static async open (): Promise<Site> {
    const directory = newDirectory()
    const level = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
    return new Site(directory, level, await openReplica({ engine: level as unknown as Engine }))
  }

  async write (operations: readonly Operation[]): Promise<void> {
    await this.#replica.store.commit(operations, false)
    if (++this.#transactions % transactionsBetweenSweeps === 0) await this.#rest()
  }

  async #rest (): Promise<void> {
    await this.#replica.system.advance(2 * housekeepingDelayMs)
    await this.#replica.store.housekeeping.run()
  }

  /** Its bytes, when it is closed. */
  async closed (): Promise<number> {
    await this.#rest()
    await checkInvariants(this.#replica.engine, { vector: this.#replica.store.vector as never })
    await this.#replica.store.close()
    await this.#level.compactRange(Buffer.of(0), Buffer.of(0xff), { keyEncoding: 'buffer' })
    await this.#level.close()
    return readdirSync(this.#directory).reduce((bytes, name) => bytes + statSync(join(this.#directory, name)).size, 0)
  }
}

function valueOf (time: number, key: number): string {
  return `${time} `.padEnd(60, `${key} `)
}

async function freshBytes (count: number): Promise<number> {
  const site = await Site.open()
  for (let key = 0; key < count; key++) await site.write([put(`key ${key}`, valueOf(0, key))])
  return await site.closed()
}

function assertBounded (bytes: number, fresh: number): void {
  console.log(`${bytes} bytes, ${fresh} fresh`)
  assert.ok(bytes <= timesFreshMax * fresh, `${bytes} bytes are more than ${timesFreshMax} times ${fresh}`)
}

export function spaceSuite ({ overwrites, batches }: { overwrites: number, batches: number }): Test {
  const test = suite(`space, ${overwrites} overwrites`)

  test(`${overwrites} overwrites of ${keys} keys take no more than ${timesFreshMax} times the disk of the keys alone`, async () => {
    const site = await Site.open()
    for (let time = 0; time < overwrites / keys; time++) {
      for (let key = 0; key < keys; key++) await site.write([put(`key ${key}`, valueOf(time, key))])
    }
    assertBounded(await site.closed(), await freshBytes(keys))
  })

  test(`nor do ${batches} batches of one lasting and ${keys - 1} overwritten keys`, async () => {
    const site = await Site.open()
    for (let time = 0; time < batches; time++) {
      const overwritten = Array.from({ length: keys - 1 }, (_, key) => put(`key ${key}`, valueOf(time, key)))
      await site.write([put(`lasting ${time}`, valueOf(time, time)), ...overwritten])
    }
    assertBounded(await site.closed(), await freshBytes(batches + keys - 1))
  })

  return test
}
