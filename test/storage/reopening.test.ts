/**
 * After a write that failed: whether it is there or not, the store and its disk say the same, and go on.
 */
import { mkdir, open, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { MemoryLevel } from 'memory-level'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { VersionVector } from '../../lib/core/version-vector.ts'
import { ReplicatedLevel } from '../../lib/index.ts'
import { Reopener, syncFullLogs } from '../../lib/storage/disk.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { keyspace, wholeKeyspace } from '../../lib/storage/keyspaces.ts'
import { system } from '../../lib/system.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { exchange, LiveStream, openReplica, type FaultyMemory, type TestReplica } from '../support/store.ts'

interface Doubtful {
  readonly replica: TestReplica
  /** Lets the next batch fail, after or before it has been written. */
  failNext: (written: boolean) => void
  /** Lets the engine be opened again. */
  mend: () => void
}

async function openDoubtful (): Promise<Doubtful> {
  let mend = (): void => {}
  const mended = new Promise<void>((resolve) => { mend = resolve })
  const replica = await openReplica({ reopen: async (look) => { await mended; while (await look().then(() => false, () => true)); } })
  const memory = replica.engine as unknown as FaultyMemory
  const write = memory._batch.bind(memory)
  let fails: boolean | undefined
  memory._batch = async (operations, options) => {
    const written = fails
    fails = undefined
    if (written !== false) await write(operations, options)
    if (written !== undefined) throw new Error('no space left')
  }
  return { replica, mend, failNext: (written) => { fails = written } }
}

test('whoever stops it while it opens the database again waits for that, and closes what is open then', async () => {
  const directory = newDirectory()
  await mkdir(directory)
  const level = new MemoryLevel<Buffer, Buffer>()
  await level.open()
  const close = level.close.bind(level)
  let goOn = (): void => {}
  const gone = new Promise<void>((resolve) => { goOn = resolve })
  const closing = new Promise<void>((resolve) => {
    level.close = async () => {
      resolve()
      await close()
      await gone
    }
  })
  const reopener = new Reopener({ level: level as unknown as Engine, directory, options: {}, system: { ...system, setTimer: (callback, delayMs) => system.setTimer(callback, delayMs, true) } })
  const reopened = reopener.reopen(async () => {})
  await closing
  const stopped = reopener.stop().then(close)
  await eventually(() => level.status === 'closed')
  goOn()
  await Promise.allSettled([reopened, stopped])
  assert.is(level.status, 'closed')
})

test('a disk that takes no writes is tried again each second at least, so that all goes on soon after it takes some', async () => {
  const directory = newDirectory()
  await mkdir(directory)
  const level = new MemoryLevel<Buffer, Buffer>()
  const waitsMs: number[] = []
  const reopener = new Reopener({
    level: level as unknown as Engine,
    directory,
    options: {},
    system: { ...system, setTimer: (callback, delayMs) => { waitsMs.push(delayMs); return system.setTimer(callback, 0, true) } }
  })
  await reopener.reopen(async () => { if (waitsMs.length < 20) throw new Error('no space left') })
  assert.is(waitsMs.length, 20)
  assert.ok(Math.max(...waitsMs) <= 1000, waitsMs.join())
  await level.close()
})

for (const written of [true, false]) {
  test(`a write that fails and ${written ? 'is' : 'is not'} there is rejected as indeterminate, and the vector says what is on disk`, async () => {
    const { replica, mend, failNext } = await openDoubtful()
    const peer = await openReplica()
    await replica.put('a', '1')
    const live = await LiveStream.open(replica, peer)
    failNext(written)
    const failed = replica.put('a', '2')
    assert.is((await rejection(failed)).code, 'REPLICATION_WRITE_INDETERMINATE')
    assert.is((await rejection(replica.put('a', '3'))).code, 'LEVEL_IO_ERROR')
    const flushed = replica.store.flush()
    mend()
    await flushed
    assert.is(await replica.get('a'), written ? '2' : '1')
    await checkInvariants(replica.engine, { vector: replica.store.vector as never })
    await replica.put('b', '4')
    await live.send()
    await checkEqual([replica.engine, peer.engine])
    const again = await replica.reopened()
    assert.ok(again.store.vector.equals(replica.store.vector))
  })
}

test('a clear() is refused as any write is, also one that waited for its turn when the disk took no more', async () => {
  const { replica, mend, failNext } = await openDoubtful()
  await replica.put('a', '1')
  failNext(false)
  const failed = rejection(replica.store.flush())
  const waiting = rejection(replica.store.clear({}))
  assert.is((await failed).code, 'REPLICATION_WRITE_INDETERMINATE')
  assert.is((await waiting).code, 'LEVEL_IO_ERROR')
  assert.is((await rejection(replica.store.clear({}))).code, 'LEVEL_IO_ERROR')
  mend()
  await replica.store.flush()
  assert.equal(await replica.data(), { a: '1' })
  await replica.store.clear({})
  assert.equal(await replica.data(), {})
})

test('a database that cannot be read when it is open again is opened once more', async () => {
  const { replica, mend, failNext } = await openDoubtful()
  await replica.put('a', '1')
  failNext(true)
  await rejection(replica.put('a', '2'))
  const memory = replica.engine as unknown as { _get: (...args: unknown[]) => Promise<unknown> }
  const get = memory._get.bind(memory)
  let failures = 1
  memory._get = async (...args) => {
    if (failures-- > 0) throw new Error('too many open files')
    return await get(...args)
  }
  mend()
  await replica.store.flush()
  assert.is(failures < 0, true)
  assert.is(await replica.get('a'), '2')
  await replica.put('b', '3')
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('a merge that fails and is there leaves its conflict known, so that the next write settles it', async () => {
  const { replica, mend, failNext } = await openDoubtful()
  const peer = await openReplica()
  await replica.put('a', 'ours')
  await peer.put('a', 'theirs')
  failNext(true)
  assert.is((await rejection(exchange(replica, peer))).code, 'REPLICATION_WRITE_INDETERMINATE')
  replica.identity.tell = () => { throw new Error('no file descriptor left') }
  mend()
  await replica.store.flush()
  assert.is((await replica.versions('a')).length, 2)
  await replica.put('a', 'settled')
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  await exchange(replica, peer)
  await checkEqual([replica.engine, peer.engine])
})

test('what a write has brought that fails, and is there, is told as any other', async () => {
  const { replica, mend, failNext } = await openDoubtful()
  const peer = await openReplica()
  await replica.put('a', 'ours')
  await peer.system.advance(2000) // more than a clock skips at an open
  await peer.put('a', 'theirs')
  await peer.put('b', 'theirs')
  failNext(true)
  await rejection(exchange(replica, peer))
  assert.is(replica.reports.length, 0)
  mend()
  await replica.store.flush()
  await exchange(replica, peer)
  const changed = replica.reports.flatMap(({ changed }) => changed.map(({ key, value }) => `${String(key)} ${String(value)}`))
  assert.equal(changed.sort(), ['a theirs', 'b theirs'], 'once')
  assert.equal(replica.reports.flatMap(({ conflicts }) => conflicts.map(({ key }) => Buffer.from(key).toString())), ['a'])
})

test('what a new resolver is to decide is decided though a write of that fails', async () => {
  const [first, peer] = [await openReplica(), await openReplica()]
  for (const key of ['a', 'b', 'c']) {
    await first.put(key, 'first')
    peer.system.jumpWallClock(1)
    await peer.put(key, 'second')
  }
  await exchange(first, peer)
  await first.store.close()
  const write = first.memory._batch.bind(first.memory)
  let isFull = false
  first.memory._batch = async (operations, options) => {
    isFull ||= (operations as Array<{ type: string, key: Buffer }>).some(({ type, key }) => type === 'put' && key.toString() === '`b')
    if (isFull) throw new Error('no space left')
    await write(operations, options)
  }
  let mend = (): void => {}
  const mended = new Promise<void>((resolve) => { mend = resolve })
  const again = await first.reopened({ resolver: () => false, resolverVersion: '2', reopen: async (look) => { await mended; await look() } })
  await eventually(() => isFull)
  first.memory._batch = write
  mend()
  await eventually(async () => await again.get('c') === 'first')
  assert.equal(await again.data(), { a: 'first', b: 'first', c: 'first' })
})

test('a disk that has lost what was acknowledged when it takes writes again: nothing is written or sent before the next open, which peers make up for', async () => {
  const { replica, mend, failNext } = await openDoubtful()
  const peer = await openReplica()
  await replica.put('a', '1')
  const before = await replica.engine.iterator({ keyEncoding: 'buffer', valueEncoding: 'buffer' }).all()
  await replica.put('a', 'lost')
  replica.store.told.tell()
  await exchange(replica, peer)
  failNext(false)
  const failed = rejection(replica.put('a', '2'))
  assert.is((await failed).code, 'REPLICATION_WRITE_INDETERMINATE')
  await replica.engine.clear()
  await replica.engine.batch(before.map(([key, value]) => ({ type: 'put', key, value })), { keyEncoding: 'buffer', valueEncoding: 'buffer' } as object)
  mend()
  for (const refused of [() => replica.store.flush(), () => replica.put('b', '3'), () => replica.store.openSource(new VersionVector())]) {
    assert.is((await rejection(refused())).code, 'REPLICATION_CORRUPT')
  }
  assert.is(replica.errors.filter(({ code }) => code === 'REPLICATION_CORRUPT').length, 1)
  assert.is(await replica.get('a'), '1')
  await replica.store.close()
  const again = await replica.reopened()
  assert.is.not(again.store.ownLog, replica.store.ownLog)
  assert.equal(again.errors.map(({ code }) => code), ['REPLICATION_LOG_REPLACED'])
  await again.put('b', '3')
  await exchange(again, peer)
  assert.equal(await again.data(), { a: 'lost', b: '3' })
  await checkEqual([again.engine, peer.engine])
})

test('what came of a delivery, and whose write to the stage fails and is there, is not left behind', async () => {
  const { replica, mend, failNext } = await openDoubtful()
  const peer = await openReplica()
  for (let index = 0; index < 10; index++) await peer.put(`key-${index}`, 'x'.repeat(200_000))
  const source = await peer.store.openSource(replica.store.vector)
  const delivery = replica.store.intake.begin(source.kind, [...source.vector], [], source.entries)
  await delivery.add((await source.next())!.bytes)
  await source.close()
  const stage = async (): Promise<number> => (await replica.engine.keys({ ...wholeKeyspace(keyspace.stage), keyEncoding: 'buffer' }).all()).length
  const write = replica.memory._batch
  replica.memory._batch = async (operations, options) => {
    if ((operations as Array<{ type: string, key: Buffer }>).some(({ type, key }) => type === 'put' && key[0] === keyspace.stage)) failNext(true)
    await write(operations, options)
  }
  const abandoned = delivery.abandon()
  await eventually(async () => await stage() > 0)
  replica.memory._batch = write
  mend()
  await abandoned
  assert.is(await stage(), 0)
  assert.is(replica.store.intake.resumePoint, undefined)
  await exchange(replica, peer)
  await checkEqual([replica.engine, peer.engine])
})

test('iterators that are being read while the database is opened again end with a code, and the process does not', async () => {
  const [location, other] = [newDirectory(), newDirectory()]
  const plain = new ClassicLevel(other)
  await plain.open()
  const engineBatch = Object.getPrototypeOf(plain.batch()) as { _write: (options: object) => Promise<void> }
  await plain.close()
  const db = new ReplicatedLevel(location, { port: false })
  await db.batch(Array.from({ length: 5000 }, (_, index) => ({ type: 'put', key: `key-${index}`, value: 'x'.repeat(100) })))
  const codes = new Set<string>()
  const read = async (): Promise<void> => {
    const iterator = db.iterator({ highWaterMarkBytes: 1e6 })
    try {
      while (true) {
        for (let page = await iterator.nextv(1000); page.length > 0; page = await iterator.nextv(1000));
        iterator.seek('key-0')
      }
    } catch (error) {
      codes.add((error as { code: string }).code)
    }
    await iterator.close()
  }
  const { _write } = engineBatch
  for (let round = 0; round < 3; round++) {
    engineBatch._write = async () => {
      engineBatch._write = _write
      throw new Error('no space left')
    }
    const reading = Promise.all(Array.from({ length: 8 }, read))
    assert.is((await rejection(db.put('a', '1', { sync: true }))).code, 'REPLICATION_WRITE_INDETERMINATE')
    await eventually(async () => await db.put('a', '2').then(() => true, () => false))
    await reading
    assert.is((await db.keys().all()).length, 5001)
  }
  assert.equal([...codes], ['LEVEL_ITERATOR_NOT_OPEN'])
  await db.close()
})

test('a close leaves nothing in the write-ahead log, which the next open would have to make a table of', async () => {
  const location = newDirectory()
  const db = new ReplicatedLevel(location, { port: false })
  for (const _ of [1, 2]) {
    await db.open()
    await db.put('a', '1')
    await db.close()
    const logs = (await readdir(location)).filter((name) => name.endsWith('.log'))
    assert.ok(logs.length > 0)
    for (const name of logs) assert.is((await stat(join(location, name))).size, 0)
  }
})

test('of the write-ahead logs the full ones are synced, and that one has gone meanwhile is no fault', async () => {
  const directory = newDirectory()
  await mkdir(directory)
  for (const name of ['000009.log', '000010.log', '000011.log', '000012.ldb', 'LOG', 'notes.log']) await writeFile(join(directory, name), name)
  const file = await open(join(directory, 'LOG'))
  const handles = Object.getPrototypeOf(file) as { datasync: typeof file.datasync }
  await file.close()
  const { datasync } = handles
  const synced: string[] = []
  handles.datasync = async function (this: typeof file) {
    synced.push((await this.readFile()).toString())
    await datasync.call(this)
    await rm(join(directory, '000010.log'), { force: true })
  }
  try {
    await syncFullLogs(directory)
  } finally {
    handles.datasync = datasync
  }
  assert.equal(synced, ['000009.log'])
})

test.run()
