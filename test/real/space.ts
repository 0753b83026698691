/**
 * What a replica takes on disk once history is over: for the sample and for the long run.
 *
 * LevelDB gives space back when it compacts, so everything is compacted before it is measured.
 */
import { createHash } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { suite, type Test } from 'uvu'
import * as assert from 'uvu/assert'
import { housekeepingDelayMs } from '../../lib/limits.ts'
import { decodeLogRecord } from '../../lib/codec/log-record.ts'
import type { ReplicatedLevel } from '../../lib/index.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { keyspace, readSequence, wholeKeyspace } from '../../lib/storage/keyspaces.ts'
import type { Operation } from '../../lib/storage/local.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { checkInvariants } from '../support/invariants.ts'
import { addressOf, closeAll, equal, linked, openDatabase } from '../support/replicas.ts'
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
  return createHash('sha256').update(`${time} ${key}`).digest('base64url') + ' and some text that can be compressed'
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

async function putAndDelete (db: ReplicatedLevel, count: number, others: readonly ReplicatedLevel[] = []): Promise<void> {
  const at = 1000
  for (let from = 0; from < count; from += at) await db.batch(Array.from({ length: at }, (_, index) => ({ type: 'put', key: `key ${from + index}`, value: 'x' })))
  await equal(db, ...others)
  for (let from = 0; from < count; from += at) await db.batch(Array.from({ length: at }, (_, index) => ({ type: 'del', key: `key ${from + index}` })))
}

/** Waits until housekeeping has come to rest, and nothing of the deletes is left in memory. */
async function forgotten (...databases: ReplicatedLevel[]): Promise<void> {
  await eventually(() => databases.every((db) => {
    const { tombstones, operations } = db.replication.status()
    return tombstones.count === 0 && operations.forgotten === 0 && operations.live + operations.written < nearlyEmpty
  }), { timeoutMs: 120_000, message: 'all deletes are forgotten' })
}

/** How many keys have versions, and how many operations there are in the log. */
async function recordsIn (directory: string): Promise<{ versions: number, operations: number }> {
  const level = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const keys = [keyspace.version, keyspace.data].map(async (space) => await level.keys<Buffer>(wholeKeyspace(space)).all())
  const versions = new Set((await Promise.all(keys)).flat().map((key) => key.toString('latin1', 1))).size
  let operations = 0
  for await (const [key, value] of level.iterator(wholeKeyspace(keyspace.log))) operations += decodeLogRecord(readSequence(key, 9), value).operations.length
  await level.close()
  return { versions, operations }
}

/** What has been written since the last sweep may stay in the log until there is enough for another. */
const nearlyEmpty = 1100

export function spaceSuite ({ overwrites, batches, deletes }: { overwrites: number, batches: number, deletes: number }): Test {
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

  test(`${deletes} keys that are put and deleted leave nothing behind at any of three replicas`, async () => {
    const directories = [newDirectory(), newDirectory(), newDirectory()]
    const [a, b, c] = [await openDatabase({}, directories[0]), await openDatabase({}, directories[1]), await openDatabase({}, directories[2])]
    for (const db of [b, c]) {
      db.replication.connect(addressOf(a))
      await linked(a, db)
    }
    await a.put('stays', 'here')
    await putAndDelete(a, deletes, [b, c])
    await forgotten(a, b, c)
    await equal(a, b, c)
    await closeAll()
    for (const directory of directories) {
      const { versions, operations } = await recordsIn(directory)
      console.log(`${versions} versions, ${operations} operations in the log`)
      assert.is(versions, 1)
      assert.ok(operations < nearlyEmpty, `${operations} operations`)
    }
  })

  test(`${deletes} keys that were deleted while a member was away for too long stay deleted when it returns`, async () => {
    const memberTtlMs = 2000
    const directory = newDirectory()
    const [a, b] = [await openDatabase({ memberTtlMs }), await openDatabase({ memberTtlMs })]
    let c = await openDatabase({ memberTtlMs }, directory)
    for (const db of [b, c]) {
      db.replication.connect(addressOf(a))
      await linked(a, db)
    }
    const away = c.replication.id
    const at = 1000
    for (let from = 0; from < deletes; from += at) await a.batch(Array.from({ length: at }, (_, index) => ({ type: 'put', key: `key ${from + index}`, value: 'x' })))
    await equal(a, b, c)
    await c.put('of its own', 'before it left')
    await equal(a, b, c)
    await c.close()
    c = await openDatabase({ memberTtlMs }, directory)
    await c.put('written', 'alone')
    await c.close()
    for (let from = 0; from < deletes; from += at) await b.batch(Array.from({ length: at }, (_, index) => ({ type: 'del', key: `key ${from + index}` })))
    await eventually(() => a.replication.status().members.some(({ id, counted }) => id === away && !counted), { message: 'it counts no more' })
    await forgotten(a, b)
    c = await openDatabase({ memberTtlMs, peers: [addressOf(a)] }, directory)
    await equal(a, b, c)
    for (const db of [a, b, c]) assert.equal(await db.iterator().all(), [['of its own', 'before it left'], ['written', 'alone']])
    await closeAll()
  })

  test.after(closeAll)
  return test
}
