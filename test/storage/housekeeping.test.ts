/**
 * What nobody asked for, and fails all the same.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel, type ReplicationError } from '../../lib/index.ts'
import { runningTimeSaveMs } from '../../lib/limits.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { openReplica } from '../support/store.ts'

test('a disk that takes no writes is told of as such, whatever became of the write', async () => {
  const replica = await openReplica({ reopen: async (look) => { await look() } })
  replica.memory.failNext()
  await replica.system.advance(runningTimeSaveMs)
  assert.equal(replica.errors.map(({ code }) => code), ['LEVEL_IO_ERROR'])
  await replica.system.advance(runningTimeSaveMs)
  assert.is(replica.errors.length, 1)
})

test('a damaged table is told of as such, and not as a bug', async () => {
  const directory = newDirectory()
  const db = new ReplicatedLevel(directory, { port: false })
  await db.batch(Array.from({ length: 3000 }, (_, index) => ({ type: 'put', key: `key-${index}`, value: `${index}`.repeat(400) })))
  await db.compactRange('', '~')
  await db.close()
  for (const name of readdirSync(directory).filter((name) => name.endsWith('.ldb'))) {
    const bytes = readFileSync(join(directory, name))
    if (bytes.length > 100_000) writeFileSync(join(directory, name), bytes.fill(0x55, 40_000, 90_000))
  }
  const errors: ReplicationError[] = []
  const damaged = new ReplicatedLevel(directory, { port: false })
  damaged.on('error', (error) => { errors.push(error) })
  await damaged.open()
  await eventually(() => errors.length > 0)
  assert.equal([...new Set(errors.map(({ code }) => code))], ['REPLICATION_CORRUPT'])
  assert.is((errors[0]!.cause as { code: string }).code, 'LEVEL_CORRUPTION')
  await damaged.close()
})

test.run()
