/**
 * What has resolved and LevelDB does not have, with a real file and a process that is gone.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ClassicLevel } from 'classic-level'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel } from '../../lib/index.ts'
import { dataKey } from '../../lib/storage/keyspaces.ts'
import { newDirectory } from '../support/directory.ts'

const child = fileURLToPath(new URL('../support/redo-child.ts', import.meta.url))

/** A process writes so often, and is killed when the last write has resolved. Returns what it leaves if LevelDB lacks that one, which it may have at times. */
async function killed (count: number): Promise<string> {
  const location = newDirectory()
  const [, signal] = await once(spawn(process.execPath, ['--import', 'tsx', child, location, String(count)], { stdio: 'inherit' }), 'exit')
  assert.is(signal, 'SIGKILL')
  const plain = new ClassicLevel(await copyOf(location))
  const isLacking = !await plain.has(String(dataKey(`key-${count - 1}`)))
  await plain.close()
  return isLacking ? location : await killed(count)
}

async function copyOf (location: string): Promise<string> {
  const copy = newDirectory()
  await cp(location, copy, { recursive: true })
  return copy
}

test('a process is killed when its last write has resolved, and LevelDB lacks it: the next open has it, and so has that of a copy', async () => {
  for (const count of [1, 50, 3000]) {
    const location = await killed(count)
    for (const directory of [await copyOf(location), location]) {
      const db = new ReplicatedLevel(directory, { port: false })
      assert.equal(await db.getMany(Array.from({ length: count }, (_, index) => `key-${index}`)), Array.from({ length: count }, (_, index) => `value-${index}`))
      await db.close()
      assert.not(existsSync(join(directory, 'REPLICA.redo')))
    }
  }
})

test('what a process that is gone has left: repair() keeps it, and destroy() leaves nothing of it', async () => {
  const location = await killed(50)
  const repaired = await copyOf(location)
  await ReplicatedLevel.repair(repaired)
  const db = new ReplicatedLevel(repaired, { port: false })
  assert.is((await db.keys().all()).length, 50)
  await db.close()
  await ReplicatedLevel.destroy(location)
  assert.not(existsSync(location))
})

test('what nobody waits for when the database is closed is there at the next open, whatever its length and whether it is synced', async () => {
  const db = new ReplicatedLevel(newDirectory(), { port: false })
  await db.open()
  const values = Array.from({ length: 100 }, (_, index) => String(index).repeat([1, 1, 1, 20_000, 300_000][index % 5]!))
  const puts = values.map(async (value, index) => { await db.put(`key-${index}`, value, { sync: index % 10 === 0 }) })
  await db.close()
  await Promise.all(puts)
  await db.open()
  assert.equal(await db.getMany(values.map((_, index) => `key-${index}`)), values)
  await db.close()
})

test('whoever writes again and again lets others have their turn', async () => {
  const db = new ReplicatedLevel(newDirectory(), { port: false })
  const turns = { of: 0 }
  const timer = setInterval(() => { turns.of++ }, 1)
  for (let index = 0; turns.of < 10; index++) await db.put('key', String(index))
  clearInterval(timer)
  await db.close()
})

test.run()
