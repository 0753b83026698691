/**
 * Taking a plain database in, and copying an open one.
 */
import { cpSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, rmdir, symlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { ReplicatedLevel } from '../../lib/index.ts'
import { innerBatchBytesMax } from '../../lib/limits.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { damageLog } from '../support/log-mutator.ts'
import { rejection } from '../support/rejection.ts'
import { addressOf, closeAll, equal, openDatabase } from '../support/replicas.ts'

test.after.each(closeAll)

const onLinux = process.platform === 'linux' ? test : test.skip

const entryCount = 2500

/** A plain database, with keys that look like ours. */
async function plain (): Promise<{ location: string, entries: Array<[string, string]> }> {
  const location = newDirectory()
  const level = new ClassicLevel<string, string>(location)
  const entries = Array.from({ length: entryCount }, (_, index): [string, string] => [`${String.fromCharCode(index % 0x70)}key-${index}`, `value-${index}`])
  await level.batch(entries.map(([key, value]) => ({ type: 'put', key, value })))
  entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  await level.close()
  return { location, entries }
}

async function assertAdopted (location: string, entries: Array<[string, string]>): Promise<ReplicatedLevel> {
  const db = await openDatabase({}, location)
  assert.equal(await db.iterator().all(), entries)
  const peer = await openDatabase({ peers: [addressOf(db)] })
  await equal(db, peer)
  assert.equal((await readdir(join(location, '..'))).filter((name) => name.startsWith(location.split('/').at(-1)! + '.')), [])
  return db
}

test('a plain database becomes a replica in its place, whatever its keys begin with', async () => {
  const { location, entries } = await plain()
  const progress: number[] = []
  await ReplicatedLevel.adopt(location, { onProgress: ({ entries, total }) => { progress.push(entries / total) } })
  assert.is(progress.at(-1), 1)
  await assertAdopted(location, entries)
  assert.is((await rejection(ReplicatedLevel.adopt(location))).code, 'REPLICATION_INVALID_OPTION', 'it is one already')
})

test('an adoption that is stopped on the way is resumed, and until then the database is opened as neither', async () => {
  const { location, entries } = await plain()
  let steps = 0
  const stop = (): void => { if (++steps === 3) throw new Error('stopped') }
  assert.is((await rejection(ReplicatedLevel.adopt(location, { onProgress: stop }))).message, 'stopped')
  assert.is(((await rejection(new ReplicatedLevel(location, { port: false }).open())) as { cause?: { code?: string } }).cause?.code, 'REPLICATION_ADOPTION_UNFINISHED')
  await ReplicatedLevel.adopt(location)
  const db = await assertAdopted(location, entries)
  assert.equal(Object.values(db.replication.status().vector), [entryCount], 'each entry is written once')
})

for (const [when, steps] of [['on the way', 3], ['at its end', 4]] as const) {
  test(`what plain Level changes after an adoption was stopped ${when} is there when it is resumed`, async () => {
    const { location, entries } = await plain()
    let step = 0
    const stop = (): void => { if (++step === steps) throw new Error('stopped') }
    await rejection(ReplicatedLevel.adopt(location, { onProgress: stop }))
    if (when === 'at its end') await writeFile(join(`${location}.adopting`, 'ADOPTED'), '')
    const level = new ClassicLevel(location)
    await level.put(entries[0]![0], 'changed')
    await level.put(entries[10]![0] + '-', 'added')
    await level.del(entries[20]![0])
    await level.put('\xff', 'behind all others')
    const now = await level.iterator().all()
    await level.close()
    await ReplicatedLevel.adopt(location)
    await assertAdopted(location, now)
  })
}

test('an adoption that has lost what it took in, while the machine was without power, begins anew', async () => {
  const { location, entries } = await plain()
  const building = `${location}.adopting`
  const copy = newDirectory()
  let steps = 0
  const stop = (): void => {
    if (++steps < 3) return
    cpSync(building, copy, { recursive: true })
    throw new Error('stopped')
  }
  await rejection(ReplicatedLevel.adopt(location, { onProgress: stop }))
  await rm(building, { recursive: true })
  await rename(copy, building)
  damageLog(building, 'zeroed page', () => 0.25)
  await ReplicatedLevel.adopt(location)
  await assertAdopted(location, entries)
})

test('an adoption that is stopped between its renames is finished by the next call', async () => {
  const { location, entries } = await plain()
  await ReplicatedLevel.adopt(location)
  const moved = newDirectory()
  await cp(location, `${moved}.adopting`, { recursive: true })
  await writeFile(join(`${moved}.adopting`, 'ADOPTED'), '')
  await mkdir(`${moved}.adopted`)
  assert.is(((await rejection(new ReplicatedLevel(moved, { port: false }).open())) as { cause?: { code?: string } }).cause?.code, 'REPLICATION_ADOPTION_UNFINISHED')
  await ReplicatedLevel.adopt(moved)
  await assertAdopted(moved, entries)
})

test('an adoption that is stopped before the original is gone removes it at the next call, and nothing else ever does', async () => {
  const { location, entries } = await plain()
  const copy = newDirectory()
  await cp(location, copy, { recursive: true })
  await ReplicatedLevel.adopt(location + '/')
  await rename(copy, `${location}.adopted`)
  assert.is((await rejection(ReplicatedLevel.adopt(location))).code, 'REPLICATION_INVALID_OPTION')
  assert.ok((await readdir(`${location}.adopted`)).length > 0, 'what somebody has put there is not ours')
  await writeFile(join(location, 'ADOPTED'), '')
  await ReplicatedLevel.adopt(location)
  await assertAdopted(location, entries)
  assert.not((await readdir(location)).includes('ADOPTED'))
})

test('files that are no part of the database stay in its directory', async () => {
  const { location, entries } = await plain()
  await mkdir(join(location, 'photos'))
  await writeFile(join(location, 'photos', 'cat'), 'meow')
  await writeFile(join(location, 'notes'), 'mine')
  await ReplicatedLevel.adopt(location)
  assert.is(await readFile(join(location, 'photos', 'cat'), 'utf8'), 'meow')
  assert.is(await readFile(join(location, 'notes'), 'utf8'), 'mine')
  await assertAdopted(location, entries)
})

test('a database that is reached by a link is adopted where it is, and the link stays', async () => {
  const { location, entries } = await plain()
  const link = newDirectory()
  await symlink(relative(dirname(link), location), link)
  await writeFile(join(location, 'notes'), 'mine')
  let steps = 0
  await rejection(ReplicatedLevel.adopt(link, { onProgress: () => { if (++steps === 4) throw new Error('stopped') } }))
  assert.not((await readdir(dirname(link))).includes(`${basename(link)}.adopting`), 'nothing is built beside the link')
  // As a process leaves it that ends between the renames.
  await writeFile(join(`${location}.adopting`, 'ADOPTED'), '')
  await rename(location, `${location}.adopted`)
  assert.is(((await rejection(new ReplicatedLevel(link, { port: false }).open())) as { cause?: { code?: string } }).cause?.code, 'REPLICATION_ADOPTION_UNFINISHED')
  await ReplicatedLevel.adopt(link + '/')
  assert.ok((await lstat(link)).isSymbolicLink())
  assert.is(await readFile(join(link, 'notes'), 'utf8'), 'mine')
  await assertAdopted(location, entries)
})

test('whom the directory is closed to has no access afterwards, nor meanwhile', async () => {
  const { location } = await plain()
  await chmod(location, 0o700)
  const modes = new Set<number>()
  await ReplicatedLevel.adopt(location, { onProgress: () => { modes.add(statSync(`${location}.adopting`).mode & 0o777) } })
  assert.equal([...modes, statSync(location).mode & 0o777], [0o700, 0o700])
})

test('an adoption does not begin where something is in its way', async () => {
  const { location } = await plain()
  await mkdir(`${location}.adopted`)
  assert.is((await rejection(ReplicatedLevel.adopt(location))).code, 'REPLICATION_PATH_NOT_EMPTY')
  const level = new ClassicLevel(location)
  await level.open({ createIfMissing: false })
  await level.close()
  await rmdir(`${location}.adopted`)
  await ReplicatedLevel.adopt(location)
})

test('where there is no database nothing is adopted, and nothing is left behind', async () => {
  const empty = newDirectory()
  await mkdir(empty)
  for (const location of [empty, newDirectory()]) {
    const before = await readdir(location).catch(() => undefined)
    assert.is((await rejection(ReplicatedLevel.adopt(location))).code, 'LEVEL_DATABASE_NOT_OPEN')
    assert.equal(await readdir(location).catch(() => undefined), before)
  }
  for (const location of ['', undefined]) assert.is((await rejection(ReplicatedLevel.adopt(location as never))).code, 'REPLICATION_INVALID_OPTION')
})

test('a backup that cannot begin leaves nothing behind, and does not say that the database is not open', async () => {
  const db = new ReplicatedLevel(newDirectory(), { port: false })
  await db.put('key', 'value')
  const prototype = ClassicLevel.prototype as unknown as { _open: unknown }
  const { _open: open } = prototype
  const directory = newDirectory()
  prototype._open = async function (this: ClassicLevel) {
    await writeFile(join(this.location, 'LOG'), '')
    throw Object.assign(new Error('IO error: no space left'), { code: 'LEVEL_IO_ERROR' })
  }
  try {
    assert.is((await rejection(db.replication.backup(directory))).code, 'LEVEL_IO_ERROR')
  } finally {
    prototype._open = open
  }
  assert.not(await readdir(directory).catch(() => undefined))
  await db.replication.backup(directory)
  for (const place of ['', undefined, new URL('file:///nowhere')]) assert.is((await rejection(db.replication.backup(place as never))).code, 'REPLICATION_INVALID_OPTION')
  await db.close()
})

test('a backup that cannot be made says why with a code of ours, whatever is in its way', async () => {
  const db = await openDatabase()
  await db.put('key', 'value')
  const [file, link] = [newDirectory(), newDirectory()]
  await writeFile(file, 'mine')
  await symlink(join(newDirectory(), 'nowhere'), link)
  for (const [place, code] of [
    [file, 'REPLICATION_PATH_NOT_EMPTY'],
    [join(file, 'below'), 'REPLICATION_PATH_NOT_EMPTY'],
    [db.location, 'REPLICATION_PATH_NOT_EMPTY'],
    [link, 'LEVEL_IO_ERROR'],
    [join(newDirectory(), 'x'.repeat(1000)), 'LEVEL_IO_ERROR']
  ] as const) assert.is((await rejection(db.replication.backup(place))).code, code, place)
  assert.is(await readFile(file, 'utf8'), 'mine')
  await db.close()
})

test('a backup says that its database was closed under it, before it copies and while it does', async () => {
  const prototype = ClassicLevel.prototype as unknown as Record<string, (this: ClassicLevel, ...options: unknown[]) => Promise<void>>
  for (const method of ['_open', '_batch']) {
    const db = await openDatabase()
    for (const key of ['a', 'b']) await db.put(key, 'x'.repeat(innerBatchBytesMax))
    const directory = newDirectory()
    const before = prototype[method]!
    let closing: Promise<void> | undefined
    prototype[method] = async function (...options) {
      if (this.location === directory) await (closing ??= db.close())
      await before.apply(this, options)
    }
    try {
      assert.is((await rejection(db.replication.backup(directory))).code, 'LEVEL_DATABASE_NOT_OPEN')
    } finally {
      prototype[method] = before
    }
    assert.ok(closing)
  }
})

test('a backup is of one moment, holds conflicts too, and is another replica when it is opened', async () => {
  const db = await openDatabase()
  const peer = await openDatabase()
  await db.put('conflict', 'a')
  await peer.put('conflict', 'b')
  db.replication.connect(addressOf(peer))
  await equal(db, peer)
  for (let index = 0; index < 500; index++) await db.put(`key-${index}`, 'x'.repeat(1000))
  const location = newDirectory()
  const copying = db.replication.backup(location)
  await db.put('later', '1')
  await copying
  const copy = await openDatabase({}, location)
  assert.not(await copy.has('later'))
  assert.is((await copy.replication.versions('conflict')).length, 2)
  assert.is((await copy.keys().all()).length, 501)
  assert.is.not(copy.replication.id, db.replication.id)
  assert.is.not(copy.replication.status().log, db.replication.status().log)
  await copy.put('from-copy', '1')
  copy.replication.connect(addressOf(db))
  await equal(db, copy, peer)
  assert.is((await rejection(db.replication.backup(location))).code, 'REPLICATION_PATH_NOT_EMPTY')
})

/** A newcomer that is connected with both at once, and hears of one by the other. */
async function meetNewcomer (original: ReplicatedLevel, copy: ReplicatedLevel): Promise<void> {
  const newcomer = await openDatabase()
  for (const db of [copy, original]) newcomer.replication.connect(addressOf(db))
  await equal(original, copy, newcomer)
  for await (const { key } of newcomer.replication.conflicts()) assert.unreachable(key)
}

test('what a copy brings to a peer of the log of the original, which has not sent it to anybody, is no reason to give that log up', async () => {
  const location = newDirectory()
  const before = await openDatabase({}, location)
  for (let index = 0; index < 50; index++) await before.put(`key-${index}`, 'value')
  const { log } = before.replication.status()
  await before.close()
  const copied = newDirectory()
  cpSync(location, copied, { recursive: true })
  const original = await openDatabase({}, location)
  await original.put('later', 'value')
  await meetNewcomer(original, await openDatabase({}, copied))
  assert.equal([original.replication.status().log, original.errors], [log, []])
})

for (const what of ['a backup', 'a copy of the closed directory']) {
  test(`nor what ${what} brings, though the log records that tell have been swept`, async () => {
    const [location, copied] = [newDirectory(), newDirectory()]
    let original = await openDatabase({}, location)
    const write = async (): Promise<void> => { await Promise.all(Array.from({ length: 1200 }, async (_, index) => { await original.put('key', String(index)) })) }
    const { log } = original.replication.status()
    await write()
    if (what === 'a backup') {
      await original.replication.backup(copied)
    } else {
      await original.close()
      cpSync(location, copied, { recursive: true })
      for (let open = 0; open < 2; open++) {
        original = await openDatabase({}, location)
        await original.put('key', 'value')
        if (open === 0) await original.close()
      }
    }
    await write()
    await eventually(() => original.replication.status().operations.written < 1000, { message: 'the log is swept' })
    await meetNewcomer(original, await openDatabase({}, copied))
    assert.equal([original.replication.status().log, original.errors], [log, []])
  })
}

test('of two backups at once into one directory one is made', async () => {
  const db = new ReplicatedLevel(newDirectory(), { port: false })
  await db.put('key', 'value')
  for (let round = 0; round < 10; round++) {
    const directory = newDirectory()
    const results = await Promise.allSettled([db.replication.backup(directory), db.replication.backup(directory)])
    assert.equal(results.map((result) => result.status === 'rejected' ? result.reason.code : 'made').sort(), ['REPLICATION_PATH_NOT_EMPTY', 'made'])
    const copy = new ReplicatedLevel(directory, { port: false })
    assert.is(await copy.get('key'), 'value')
    await copy.close()
  }
  await db.close()
})

onLinux('a backup that goes on while the database is closed leaves no file of that open', async () => {
  const location = newDirectory()
  const db = new ReplicatedLevel(location, { port: false })
  for (let round = 0; round < 10; round++) {
    await db.open()
    await db.put('key', String(round))
    const copying = Promise.allSettled([db.replication.backup(newDirectory())])
    await setTimeout(round)
    await db.close()
    await copying
    const open = readdirSync('/proc/self/fd').map((name) => { try { return readlinkSync(join('/proc/self/fd', name)) } catch { return '' } })
    assert.equal(open.filter((path) => path.startsWith(location)), [])
  }
})

test('no write-ahead log of a backup holds anything: one that was not synced could lose it unnoticed', async () => {
  const db = await openDatabase()
  await db.batch(Array.from({ length: 100 }, (_, index) => ({ type: 'put', key: `key-${index}`, value: 'x'.repeat(60_000) })))
  const directory = newDirectory()
  await db.replication.backup(directory)
  const logs = readdirSync(directory).filter((name) => name.endsWith('.log'))
  assert.equal(logs.map((name) => statSync(join(directory, name)).size), logs.map(() => 0))
})

test.run()
