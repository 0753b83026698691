/**
 * Disks that are full, read-only or gone, and processes without file descriptors: no crash, no acknowledged write is
 * lost, reads go on, and all goes on by itself when the cause is gone.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel, type ReplicationError } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { DiskImage } from '../support/disk-image.ts'
import { eventually } from '../support/eventually.ts'
import { rejection } from '../support/rejection.ts'
import { addressOf, closeAll, equal, openDatabase } from '../support/replicas.ts'
import { SmallDisk } from '../support/small-disk.ts'

test.after.each(closeAll)

/** How the first write fails while a peer is linked: it is refused if what replication writes has failed before. */
const firstCodes = new Set<string | undefined>(['REPLICATION_WRITE_INDETERMINATE', 'LEVEL_IO_ERROR'])

function codeOf (error: unknown): string | undefined {
  return (error as ReplicationError).code
}

/** Writes until the disk is full; returns the keys that were acknowledged, and how the first failure was called. */
async function writeUntilFull (db: ReplicatedLevel, prefix: string, bytes = 20_000): Promise<{ keys: string[], code: string | undefined }> {
  const keys: string[] = []
  for (let index = 0; index < 10_000; index++) {
    try {
      await db.put(`${prefix}-${index}`, 'x'.repeat(bytes))
    } catch (error) {
      return { keys, code: codeOf(error) }
    }
    keys.push(`${prefix}-${index}`)
  }
  throw new Error('the disk is never full')
}

/** The write may be there, or it is refused since one before it, which is kept in the redo log, did not get further. */
function isDiskFailure (code: string | undefined): boolean {
  return code === 'REPLICATION_WRITE_INDETERMINATE' || code === 'LEVEL_IO_ERROR'
}

test('a full disk: one write is indeterminate, others are refused, reads go on, and all goes on when there is room', async () => {
  const disk = SmallDisk.mount(24)
  if (disk === undefined) return
  const location = join(disk.directory, 'db')
  const peer = await openDatabase()
  const db = await openDatabase({ peers: [addressOf(peer)] }, location)
  const acknowledged: string[] = []
  for (let round = 0; round < 3; round++) {
    disk.fill(1_500_000 + 700_000 * round)
    const { keys, code } = await writeUntilFull(db, `round-${round}`)
    acknowledged.push(...keys)
    assert.ok(isDiskFailure(code), code)
    assert.is(codeOf(await rejection(db.put('refused', String(round)))), 'LEVEL_IO_ERROR')
    assert.is((await db.get(keys[0]!))!.length, 20_000)
    let count = 0
    for await (const key of db.keys()) if (key !== '') count++
    assert.ok(count >= acknowledged.length)
    await peer.put(`from-peer-${round}`, 'y')
    disk.free()
    await eventually(async () => await db.put(`after-${round}`, 'z').then(() => true, () => false))
    acknowledged.push(`after-${round}`)
    await eventually(async () => await db.get(`from-peer-${round}`) === 'y')
    await equal(db, peer)
  }
  await db.close()
  const again = await openDatabase({}, location)
  for (const key of acknowledged) assert.ok(await again.get(key) !== undefined, key)
  assert.not(await again.has('refused'))
})

test('a snapshot and an iterator that are open when the database is opened again are gone, and harm nothing', async () => {
  const disk = SmallDisk.mount(24)
  if (disk === undefined) return
  const db = await openDatabase({}, join(disk.directory, 'db'))
  await db.put('key', 'before')
  const snapshot = db.snapshot()
  const part = db.sublevel('part')
  await part.open()
  part.snapshot() // closed with the sublevel
  const iterator = db.iterator({ snapshot })
  await db.put('key', 'after')
  assert.is(await db.get('key', { snapshot }), 'before')
  assert.is(db.getSync('key', { snapshot }), 'before')
  assert.equal(await db.getMany(['key'], { snapshot }), ['before'])
  disk.fill(500_000)
  await writeUntilFull(db, 'key')
  disk.free()
  await eventually(async () => await db.put('room', '1').then(() => true, () => false))
  for (const read of [
    async () => await db.get('key', { snapshot }), async () => db.getSync('key', { snapshot }), async () => await db.getMany(['key'], { snapshot }),
    async () => await db.has('key', { snapshot }), async () => await db.hasMany(['key'], { snapshot }), async () => await db.keys({ snapshot }).all(),
    async () => { await db.clear({ snapshot }) }
  ]) assert.is(codeOf(await rejection(read())), 'LEVEL_SNAPSHOT_NOT_OPEN', String(read))
  assert.is(codeOf(await rejection(iterator.next())), 'LEVEL_ITERATOR_NOT_OPEN')
  await Promise.all([iterator.close(), snapshot.close()])
  const later = db.snapshot()
  await db.put('key', 'last')
  assert.is(await db.get('key', { snapshot: later }), 'after')
})

test('a disk that is full when a catch-up comes: it goes on by itself when there is room', async () => {
  const disk = SmallDisk.mount(48)
  if (disk === undefined) return
  const source = await openDatabase()
  for (let index = 0; index < 12; index++) await source.batch(Array.from({ length: 20 }, (_, part) => ({ type: 'put' as const, key: `key-${index}-${part}`, value: String(Math.random()).repeat(2500) })))
  const db = await openDatabase({}, join(disk.directory, 'db'))
  await db.put('own', 'here')
  disk.fill(5_000_000)
  db.replication.connect(addressOf(source))
  await eventually(async () => await db.put('probe', '1').then(() => false, () => true), { message: 'the disk is full' })
  assert.is(await db.get('own'), 'here')
  disk.free()
  await equal(db, source)
})

test('closing a database whose disk is full ends, and what was acknowledged is there at the next open', async () => {
  const disk = SmallDisk.mount(16)
  if (disk === undefined) return
  const location = join(disk.directory, 'db')
  const db = await openDatabase({}, location)
  disk.fill(500_000)
  const { keys } = await writeUntilFull(db, 'key')
  await db.close()
  disk.free()
  const again = await openDatabase({}, location)
  for (const key of keys) assert.ok(await again.get(key) !== undefined, key)
})

test('a file system that becomes read-only: writes are refused, and go on when it is writable', async () => {
  const disk = SmallDisk.mount(64)
  if (disk === undefined) return
  const location = join(disk.directory, 'db')
  const first = await openDatabase({}, location)
  await first.put('key', 'value')
  await first.close()
  disk.readOnly(true)
  const refused = await rejection(new ReplicatedLevel(location, { port: false }).open()) as Error
  assert.is(codeOf(refused), 'LEVEL_DATABASE_NOT_OPEN')
  disk.readOnly(false)
  const db = await openDatabase({}, location)
  assert.is(await db.get('key'), 'value')
})

/** Lets a directory take no new files, or takes that back; root is not held up by its mode. */
function readOnly (directory: string, value: boolean): void {
  if (process.getuid?.() === 0) execFileSync('chattr', [value ? '+i' : '-i', directory], { stdio: 'pipe' })
  else chmodSync(directory, value ? 0o500 : 0o700)
}

function canBeReadOnly (): boolean {
  const probe = newDirectory()
  mkdirSync(probe)
  try {
    readOnly(probe, true)
    readOnly(probe, false)
    return true
  } catch {
    console.log('SKIPPED: no directory can be made read-only here')
    return false
  }
}

/** What takes the disk away from an open database, and gives it back. */
async function goesOn (location: string, away: () => void, back: () => void): Promise<void> {
  const peer = await openDatabase()
  const db = await openDatabase({ peers: [addressOf(peer)] }, location)
  await db.put('before', 'x')
  await equal(db, peer)
  const acknowledged = ['before']
  for (let round = 0; round < 2; round++) {
    away()
    try {
      const { keys, code } = await writeUntilFull(db, `round-${round}`, 400_000)
      acknowledged.push(...keys)
      assert.ok(firstCodes.has(code), code)
      assert.is(codeOf(await rejection(db.put('refused', '1'))), 'LEVEL_IO_ERROR')
      assert.is(await db.get('before'), 'x')
      await peer.put(`from-peer-${round}`, 'y')
    } finally {
      back()
    }
    await eventually(async () => await db.put(`after-${round}`, 'z').then(() => true, () => false))
    await eventually(async () => await db.get(`from-peer-${round}`) === 'y')
    acknowledged.push(`after-${round}`)
    await equal(db, peer)
  }
  await db.close()
  const again = await openDatabase({}, location)
  for (const key of acknowledged) assert.ok(await again.get(key) !== undefined, key)
  assert.not(await again.has('refused'))
}

test('a directory that becomes read-only under an open database: writes are refused, and go on when it is writable', async () => {
  const location = newDirectory()
  if (canBeReadOnly()) await goesOn(location, () => { readOnly(location, true) }, () => { readOnly(location, false) })
})

test('a directory that is moved away under an open database, and back', async () => {
  const [location, elsewhere] = [newDirectory(), newDirectory()]
  await goesOn(location, () => { renameSync(location, elsewhere) }, () => { renameSync(elsewhere, location) })
})

test('a file system that becomes read-only under an open database: it cannot be made so while files are open, but does so itself; mended and mounted again, all goes on', async () => {
  const disk = DiskImage.make(64)
  if (disk === undefined) return
  const location = join(disk.directory, 'db')
  const peer = await openDatabase()
  const db = await openDatabase({ peers: [addressOf(peer)] }, location)
  const acknowledged: string[] = []
  for (let round = 0; round < 2; round++) {
    await equal(db, peer)
    await db.put(`synced-${round}`, 'x', { sync: true })
    disk.abort()
    acknowledged.push(`synced-${round}`)
    const code = codeOf(await rejection(db.put('indeterminate', 'x')))
    assert.ok(firstCodes.has(code), code)
    assert.is(codeOf(await rejection(db.put('refused', 'x'))), 'LEVEL_IO_ERROR')
    assert.is(await db.get(`synced-${round}`), 'x')
    await peer.put(`from-peer-${round}`, 'y')
    disk.mend()
    await eventually(async () => await db.put(`after-${round}`, 'z').then(() => true, () => false))
    await eventually(async () => await db.get(`from-peer-${round}`) === 'y')
    acknowledged.push(`after-${round}`)
  }
  await equal(db, peer)
  await db.close()
  const again = await openDatabase({}, location)
  for (const key of acknowledged) assert.ok(await again.get(key) !== undefined, key)
})

test('a directory that is removed under an open database: no crash, writes end in a code, and closing ends', async () => {
  const location = newDirectory()
  const db = await openDatabase({}, location)
  await db.put('key', 'value')
  rmSync(location, { recursive: true })
  const { code } = await writeUntilFull(db, 'gone', 400_000)
  assert.ok(isDiskFailure(code), code)
  assert.is(codeOf(await rejection(db.put('refused', '1'))), 'LEVEL_IO_ERROR')
  await db.close()
})

test('no file descriptors left: writes fail with a code, no crash, and all goes on when there are some', async () => {
  const child = spawn('sh', ['-c', `ulimit -n 80; exec "${process.execPath}" --import tsx "${fileURLToPath(new URL('../support/descriptor-child.ts', import.meta.url))}" "${newDirectory()}"`], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (data) => { output += String(data) })
  const [code] = await once(child, 'close') as [number]
  assert.is(code, 0, output)
  assert.match(output, 'REPLICATION_WRITE_INDETERMINATE')
  assert.match(output, 'all there')
})

test.run()
