/**
 * Opening and closing a store: format, vector, identity.
 */
import { existsSync } from 'node:fs'
import { chmod, copyFile, cp, mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import type { Advance } from '../../lib/core/version-vector.ts'
import { ReplicatedLevel } from '../../lib/index.ts'
import { checkpointInterval, journalSlots } from '../../lib/limits.ts'
import { decodeIdentity, encodeIdentity, IdentityFile, judge, readBootId, type Followed, type Identity } from '../../lib/storage/identity.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { meta } from '../../lib/storage/keyspaces.ts'
import { newDirectory } from '../support/directory.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { exchange, MemoryIdentity, newMemory, openReplica, pull, type TestReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

function openLevel (location: string): ClassicLevel<Buffer, Buffer> {
  return new ClassicLevel<Buffer, Buffer>(location, buffers)
}

/** A store over a directory, with its identity file. */
async function openDirectory (location: string): Promise<TestReplica> {
  const identity = new IdentityFile(location, new VirtualSystem())
  await identity.prepare(true)
  const level = openLevel(location)
  return await openReplica({ engine: level as unknown as Engine, identity })
}

async function closeCleanly (replica: TestReplica): Promise<void> {
  await replica.store.close()
  await replica.engine.close()
}

test('after an unclean end the vector is the one before it', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  let replica = a
  for (let round = 0; round < 5; round++) {
    for (let index = 0; index < 10; index++) await replica.put(`k${index}`, String(round))
    await b.put('b', String(round))
    await pull(replica, b)
    const again = await replica.reopened()
    assert.ok(again.store.vector.equals(replica.store.vector))
    assert.is(again.store.ownLog, replica.store.ownLog)
    assert.is(again.store.replica, replica.store.replica)
    await checkInvariants(again.engine, { vector: again.store.vector as never })
    replica = again
  }
})

test('after thousands of batches, over several checkpoints, too', async () => {
  const [replica, other] = [await openReplica(), await openReplica()]
  await other.put('x', '1')
  await pull(replica, other)
  for (const count of [1000, 30, 1500]) {
    for (let index = 0; index < count; index++) await replica.put(`k${index % 10}`, String(index))
    await checkInvariants(replica.engine, { vector: replica.store.vector as never })
    const again = await replica.reopened()
    assert.ok(again.store.vector.equals(replica.store.vector))
  }
})

test('a checkpoint on the way claims what was there when it was taken, and nothing is lost between it and the journal', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  while (replica.memory.written.length < checkpointInterval) await replica.store.flush()
  for (let index = 0; index < 5; index++) await replica.put('b', String(index))
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  const checkpoint = await replica.engine.get(meta.vector(replica.store.ownLog), buffers) as Buffer
  assert.ok(checkpoint.at(-1)! < replica.store.vector.sequenceOf(replica.store.ownLog))
  const again = await replica.reopened()
  assert.ok(again.store.vector.equals(replica.store.vector))
})

test('running numbers go round the slots of the journal', async () => {
  const replica = await openReplica()
  // As after very many batches: the checkpoint just before the last slot.
  const near = journalSlots - 20
  await replica.store.close()
  await replica.engine.put(meta.checkpoint, new ByteWriter().varint(near).take(), buffers)
  await replica.engine.put(meta.journal(near), new ByteWriter().varint(near).varint(0).take(), buffers)
  const second = await replica.reopened()
  for (let index = 0; index < 50; index++) await second.put(`k${index % 10}`, String(index))
  const third = await second.reopened()
  assert.ok(third.store.vector.equals(second.store.vector))
  await checkInvariants(third.engine, { vector: third.store.vector as never })
})

test('a store that is opened again goes on in its log, above all it has written', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  await replica.store.close()
  const again = await replica.reopened()
  assert.is(again.store.ownLog, replica.store.ownLog)
  await again.put('a', '2')
  assert.is(again.store.vector.sequenceOf(again.store.ownLog), 2)
  const [version] = await again.versions('a')
  assert.is(version!.value, '2')
})

test('a log without writes is in no vector', async () => {
  const replica = await openReplica()
  await replica.store.close()
  const again = await replica.reopened()
  assert.is(again.store.vector.size, 0)
})

test('another replica, with a log of its own, leaves what was written, and later writes are in the new one', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  const { ownLog: old, replica: id } = replica.store
  replica.store.told.tell()
  await replica.store.leaveLog()
  await replica.put('a', '2')
  assert.is.not(replica.store.ownLog, old)
  assert.equal([replica.store.vector.sequenceOf(old), replica.store.vector.sequenceOf(replica.store.ownLog)], [1, 1])
  const again = await replica.reopened()
  assert.is(again.store.ownLog, replica.store.ownLog)
  assert.is(again.store.replica, replica.store.replica)
  assert.is.not(again.store.replica, id)
  await again.store.flush()
  assert.equal([...again.store.members].map(({ replica }) => replica).sort(), [id, again.store.replica].sort())
  await checkInvariants(again.engine, { vector: again.store.vector as never })
})

test('an unknown format is refused, and nothing is changed', async () => {
  const memory = newMemory()
  await memory.open()
  await memory.put(meta.format, Buffer.of(99))
  const before = await memory.iterator().all()
  const error = await rejection(openReplica({ engine: memory as unknown as Engine }))
  assert.is(error.code, 'REPLICATION_FORMAT_UNKNOWN')
  assert.match(error.message, '99')
  assert.equal(await memory.iterator().all(), before)
})

test('what is not empty and no replica is refused', async () => {
  const memory = newMemory()
  await memory.open()
  await memory.put(Buffer.from('a'), Buffer.from('1'))
  assert.is((await rejection(openReplica({ engine: memory as unknown as Engine }))).code, 'REPLICATION_NOT_A_REPLICA')
  assert.is((await memory.keys().all()).length, 1)
})

test('a plain LevelDB is refused, and every file of it stays as it is', async () => {
  const location = newDirectory()
  const plain = new ClassicLevel(location)
  await plain.put('a', '1')
  await plain.close()
  const files = async (): Promise<object> => Object.fromEntries(await Promise.all((await readdir(location)).sort().map(async (name) => {
    const path = join(location, name)
    const { mtimeMs, ctimeMs, ino } = await stat(path)
    return [name, { bytes: (await readFile(path)).toString('hex'), mtimeMs, ctimeMs, ino }]
  })))
  const before = await files()
  const db = new ReplicatedLevel(location, { port: false })
  const error = await rejection(db.open())
  assert.is((error.cause as { code?: string }).code, 'REPLICATION_NOT_A_REPLICA')
  assert.equal(await files(), before)
  await db.close()
  assert.equal(await files(), before)
  assert.is(await plain.open().then(async () => await plain.get('a')), '1')
  await plain.close()
})

test('an unknown format in a directory is refused with its code', async () => {
  const location = newDirectory()
  const db = new ReplicatedLevel(location, { port: false })
  await db.put('a', '1')
  await db.close()
  const level = openLevel(location)
  await level.put(meta.format, Buffer.of(2))
  await level.close()
  assert.is(((await rejection(new ReplicatedLevel(location, { port: false }).open())).cause as { code?: string }).code, 'REPLICATION_FORMAT_UNKNOWN')
  await level.open()
  await level.put(meta.format, Buffer.of(1))
  await level.close()
  const again = new ReplicatedLevel(location, { port: false })
  assert.is(await again.get('a'), '1')
  await again.close()
})

test('a directory keeps its log after a clean close, and after an unclean one in the same run of the machine', async () => {
  const location = newDirectory()
  const first = await openDirectory(location)
  await first.put('a', '1')
  await closeCleanly(first)
  const second = await openDirectory(location)
  assert.equal([second.store.ownLog, second.store.replica], [first.store.ownLog, first.store.replica])
  await second.put('a', '2')
  await second.engine.close()
  const third = await openDirectory(location)
  assert.equal([third.store.ownLog, third.store.replica], [first.store.ownLog, first.store.replica])
  await closeCleanly(third)
})

test('after an unclean end in another run of the machine: new log, same replica', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  replica.identity.bootId = 'another'
  const again = await replica.reopened()
  assert.is(again.store.replica, replica.store.replica)
  assert.is.not(again.store.ownLog, replica.store.ownLog)
  await again.store.close()
  again.identity.bootId = 'a third'
  assert.is((await again.reopened()).store.ownLog, again.store.ownLog, 'a clean close needs no proof')
})

test('an open that ends before it has written anything leaves the replica what it was', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  const { identity } = replica
  identity.told = async () => { throw new Error('too many open files') }
  assert.is((await rejection(replica.reopened())).message, 'too many open files')
  identity.told = MemoryIdentity.prototype.told
  const again = await replica.reopened()
  assert.equal([again.store.replica, again.store.ownLog], [replica.store.replica, replica.store.ownLog])
})

test('a directory that was copied is a new replica with a new log, and both merge', async () => {
  const location = newDirectory()
  const first = await openDirectory(location)
  await first.put('a', '1')
  await closeCleanly(first)
  const copied = newDirectory()
  await cp(location, copied, { recursive: true, preserveTimestamps: true })
  const [original, copy] = [await openDirectory(location), await openDirectory(copied)]
  assert.is(original.store.replica, first.store.replica)
  assert.is.not(copy.store.replica, first.store.replica)
  assert.is.not(copy.store.ownLog, first.store.ownLog)
  await original.put('b', 'original')
  await copy.put('b', 'copy')
  await exchange(original, copy)
  assert.equal(await copy.values('b'), ['copy', 'original'])
  await checkEqual([original.engine, copy.engine])
  await closeCleanly(original)
  await closeCleanly(copy)
})

test('a directory that was moved is the same replica', async () => {
  const [location, moved] = [newDirectory(), newDirectory()]
  const first = await openDirectory(location)
  await first.put('a', '1')
  await closeCleanly(first)
  await rename(location, moved)
  const second = await openDirectory(moved)
  assert.equal([second.store.ownLog, second.store.replica], [first.store.ownLog, first.store.replica])
  await closeCleanly(second)
})

test('a change of owner, mode or times means a new log of the same replica', async () => {
  const location = newDirectory()
  const first = await openDirectory(location)
  await first.put('a', '1')
  await closeCleanly(first)
  await chmod(join(location, 'REPLICA'), 0o600)
  await utimes(join(location, 'REPLICA'), 1, 1)
  const second = await openDirectory(location)
  assert.is(second.store.replica, first.store.replica)
  assert.is.not(second.store.ownLog, first.store.ownLog)
  await closeCleanly(second)
})

test('an older state of a directory that was put back is a new replica', async () => {
  const [location, backup] = [newDirectory(), newDirectory()]
  const first = await openDirectory(location)
  await first.put('a', '1')
  await closeCleanly(first)
  await cp(location, backup, { recursive: true })
  const second = await openDirectory(location)
  await second.put('a', '2')
  await closeCleanly(second)
  for (const name of await readdir(location)) if (name !== 'REPLICA') await rm(join(location, name))
  for (const name of await readdir(backup)) if (name !== 'REPLICA') await copyFile(join(backup, name), join(location, name))
  const restored = await openDirectory(location)
  assert.is.not(restored.store.replica, first.store.replica)
  assert.is.not(restored.store.ownLog, first.store.ownLog)
  await closeCleanly(restored)
})

test('a directory that has lost its identity file is not taken for a plain LevelDB that may be written to', async () => {
  const location = newDirectory()
  await mkdir(location)
  await writeFile(join(location, 'CURRENT'), '')
  assert.is((await rejection(new IdentityFile(location, new VirtualSystem()).prepare(true))).code, 'REPLICATION_NOT_A_REPLICA')
})

const identity: Identity = { nonce: 'n', inode: '1', birthTime: '2', changeTime: '3', bootId: 'b' }

test('every part of an identity is judged', () => {
  assert.is(judge(undefined, identity, true), 'new-replica')
  assert.is(judge(identity, undefined, true), 'new-replica')
  assert.is(judge(identity, identity, true), 'same')
  assert.is(judge(identity, identity, false), 'same')
  for (const changed of [{ nonce: 'x' }, { inode: 'x' }, { birthTime: 'x' }]) assert.is(judge(identity, { ...identity, ...changed }, true), 'new-replica')
  assert.is(judge(identity, { ...identity, changeTime: 'x' }, true), 'new-log')
  assert.is(judge(identity, { ...identity, bootId: 'x' }, true), 'same')
  assert.is(judge(identity, { ...identity, bootId: 'x' }, false), 'new-log')
  assert.is(judge({ ...identity, bootId: '' }, { ...identity, bootId: '' }, false), 'new-log')
  assert.equal(decodeIdentity(encodeIdentity(identity)), identity)
})

test('what takes the place of an identity is judged by what was found there', () => {
  const next = { nonce: 'm', inode: '4', birthTime: '5', changeTime: '6', bootId: 'b' }
  const after = (follows: Followed): Identity => ({ ...next, follows })
  assert.is(judge(identity, after({ nonce: 'n', changeTime: '3' }), false), 'same')
  assert.is(judge(identity, after({ nonce: 'n', changeTime: 'x' }), true), 'new-log')
  assert.is(judge(identity, after({ nonce: 'x', changeTime: '3' }), true), 'new-replica')
  assert.is(judge(identity, { ...after({ nonce: 'n', changeTime: '3' }), bootId: 'x' }, false), 'new-log')
  assert.is(judge(next, after({ nonce: 'n', changeTime: '3' }), true), 'same')
})

test('where there is no boot id, a run of the machine is known by its beginning, though the clock is set by some seconds', async () => {
  const nowMs = Date.now()
  const started = await readBootId(nowMs, join(newDirectory(), 'none'))
  const reading = (later: number): Identity => ({ ...identity, bootId: started.replace(/\d+/, (seconds) => String(Number(seconds) + later)) })
  assert.ok(Math.abs(Number(started.slice(1)) - (nowMs / 1000 - uptime())) < 2, started)
  for (const later of [-10, 0, 10]) assert.is(judge(reading(0), reading(later), false), 'same')
  for (const later of [-11, 11]) assert.is(judge(reading(0), reading(later), false), 'new-log')
  assert.is(judge(reading(0), identity, false), 'new-log')
})

test('an identity file gives what it renewed, and a new one at each open', async () => {
  const location = newDirectory()
  const file = new IdentityFile(location, new VirtualSystem())
  await file.prepare(true)
  const renew = async (nonce: string, follows?: Followed): Promise<Identity> => {
    await file.draft(nonce)
    return await file.renew(nonce, follows)
  }
  const first = await renew('one')
  assert.equal(await file.read(), first)
  assert.equal([first.nonce, first.follows], ['one', undefined])
  const second = await renew('two', first)
  assert.equal([second.nonce, second.follows], ['two', { nonce: 'one', changeTime: first.changeTime }])
  await file.remembered()
  assert.is((await file.read())!.follows, undefined)
  assert.is.not(second.inode + second.birthTime + second.changeTime, first.inode + first.birthTime + first.changeTime)
  assert.equal((await readdir(location)), ['REPLICA'])
})

/** A process that ends when it has renewed the identity of a directory, and its first batch is not written. */
async function endInOpen (engine: Engine, location: string): Promise<void> {
  const memory = engine as unknown as ReturnType<typeof newMemory>
  memory.dieAfter(0)
  await rejection(openReplica({ engine, identity: new IdentityFile(location, new VirtualSystem()) }))
  memory.revive()
}

test('whoever ends between the renewal of the identity and the first batch, once or twice, goes on in the same log', async () => {
  const location = newDirectory()
  const identity = new IdentityFile(location, new VirtualSystem())
  await identity.prepare(true)
  const replica = await openReplica({ identity: identity as never })
  await replica.put('a', '1')
  for (const times of [1, 2]) {
    for (let time = 0; time < times; time++) await endInOpen(replica.engine, location)
    const again = await openReplica({ engine: replica.engine, identity: new IdentityFile(location, new VirtualSystem()) })
    assert.equal([again.store.replica, again.store.ownLog], [replica.store.replica, replica.store.ownLog])
  }
})

test('who finds the directory changed, and ends then, once or twice, begins a new log all the same', async () => {
  const location = newDirectory()
  const identity = new IdentityFile(location, new VirtualSystem())
  await identity.prepare(true)
  const replica = await openReplica({ identity: identity as never })
  await replica.put('a', '1')
  let log = replica.store.ownLog
  for (const times of [1, 2]) {
    const { changeTime } = (await identity.read())!
    const path = join(location, 'REPLICA')
    do { await chmod(path, 0o600) } while ((await identity.read())!.changeTime === changeTime)
    for (let time = 0; time < times; time++) await endInOpen(replica.engine, location)
    const again = await openReplica({ engine: replica.engine, identity: new IdentityFile(location, new VirtualSystem()) })
    assert.is(again.store.replica, replica.store.replica)
    assert.is.not(again.store.ownLog, log)
    log = again.store.ownLog
  }
})

test('a copy of what such a process has left is another replica, and so is one that was a copy when it was opened', async () => {
  const [location, copied] = [newDirectory(), newDirectory()]
  const identity = new IdentityFile(location, new VirtualSystem())
  await identity.prepare(true)
  const replica = await openReplica({ identity: identity as never })
  await endInOpen(replica.engine, location)
  await cp(location, copied, { recursive: true })
  await endInOpen(replica.engine, copied)
  const copy = await openReplica({ engine: replica.engine, identity: new IdentityFile(copied, new VirtualSystem()) })
  assert.is.not(copy.store.replica, replica.store.replica)
})

test('a file beside LevelDB says up to where peers have been told, and a log of which less is left is not written on', async () => {
  const location = newDirectory()
  let replica = await openDirectory(location)
  await replica.put('a', '1')
  const log = replica.store.ownLog
  assert.equal(await new IdentityFile(location, new VirtualSystem()).told(), { log, sequence: 0, hlc: 0 })
  replica.store.told.tell()
  const first = replica.store.vector.get(log)!
  await replica.put('a', '2')
  assert.equal(await new IdentityFile(location, new VirtualSystem()).told(), first)
  const bytes = new ByteWriter().logId(log)
  assert.is((await readFile(join(location, 'REPLICA.told'))).toString('hex'), bytes.view().toString('hex') + '0000000000000001' + first.hlc.toString(16).padStart(14, '0'))
  replica.store.told.tell()
  assert.equal(await new IdentityFile(location, new VirtualSystem()).told(), replica.store.vector.get(log))
  await closeCleanly(replica)

  replica = await openDirectory(location)
  assert.is(replica.store.ownLog, log)
  await closeCleanly(replica)

  new IdentityFile(location, new VirtualSystem()).tell({ log, sequence: 3, hlc: first.hlc })
  replica = await openDirectory(location)
  assert.is.not(replica.store.ownLog, log)
  assert.is(replica.errors[0]?.code, 'REPLICATION_LOG_REPLACED')
  await closeCleanly(replica)

  for (const nonsense of [Buffer.alloc(23, 0xff), Buffer.alloc(23, 1), Buffer.alloc(7), Buffer.alloc(0)]) {
    const before = replica.store.ownLog
    await writeFile(join(location, 'REPLICA.told'), nonsense)
    replica = await openDirectory(location)
    assert.is.not(replica.store.ownLog, before, 'as if it were not there')
    await closeCleanly(replica)
  }
  await ReplicatedLevel.destroy(location)
  assert.not.ok(existsSync(location))
})

test('an entry for our own log that names a write of another time contradicts it', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  const [first] = [...replica.store.vector]
  await replica.store.commit([{ type: 'put', key: 'b', value: '1' }, { type: 'put', key: 'c', value: '1' }], false)
  const [third] = [...replica.store.vector]
  await replica.put('d', '1')
  replica.store.told.tell()
  const contradicts = async (sequence: number, hlc: number): Promise<boolean> => await replica.store.told.contradiction([{ log: replica.store.ownLog, sequence, hlc }]) !== undefined
  assert.is(third!.sequence, 3)
  for (const { sequence, hlc } of [first!, third!]) {
    assert.not.ok(await contradicts(sequence, hlc))
    assert.ok(await contradicts(sequence, hlc + 1))
  }
  assert.ok(await contradicts(2, third!.hlc), 'no transaction ends there')
  const [fourth] = [...replica.store.vector]
  await replica.put('e', '1')
  replica.engine.iterator = () => { throw new Error('looked up') }
  assert.not.ok(await contradicts(4, fourth!.hlc), 'what was told last is known')
  Reflect.deleteProperty(replica.engine, 'iterator')
  assert.ok(await contradicts(4, fourth!.hlc + 1))
  await replica.put('a', '2')
  await replica.store.housekeeping.sweep()
  assert.not.ok(await contradicts(1, first!.hlc + 1), 'the log does not tell any more')
})

test('where a peer lacks the ends of several logs, these are looked up at once', async () => {
  const replica = await openReplica()
  const entries: Advance[] = []
  for (const key of ['a', 'b', 'c']) {
    const other = await openReplica()
    await other.put(key, '1')
    entries.push(...other.store.vector)
    await other.put(key + key, '1')
    await pull(replica, other)
  }
  let [open, most] = [0, 0]
  const iterator = replica.engine.iterator.bind(replica.engine) as (options: object) => { all (): Promise<unknown> }
  replica.engine.iterator = ((options: object) => {
    most = Math.max(most, ++open)
    return { all: async () => await iterator(options).all().finally(() => { open-- }) }
  }) as never
  assert.is(await replica.store.told.contradiction(entries), undefined)
  assert.is(most, 3)
  const changed = { ...entries[1]!, hlc: entries[1]!.hlc + 1 }
  assert.is(await replica.store.told.contradiction([entries[0]!, changed, entries[2]!]), changed.log)
})

test('what members hold durably only grows, and is there after reopen', async () => {
  const [a, b] = [await openReplica(), await openReplica()]
  await b.put('x', '1')
  a.store.members.acknowledge(b.store.replica, b.store.vector)
  a.store.members.acknowledge(b.store.replica, [])
  assert.ok(a.store.members.acknowledged(b.store.replica).equals(b.store.vector))
  await a.store.flush()
  const again = await a.reopened()
  assert.ok(again.store.members.has(b.store.replica))
  assert.ok(again.store.members.acknowledged(b.store.replica).equals(b.store.vector))
  assert.ok(again.store.members.has(again.store.replica))
  assert.not.ok(again.store.members.has('nobody'))
  assert.is(again.store.members.acknowledged('nobody').size, 0)
})

test('nothing counts as durable before the full write-ahead logs are synced, too', async () => {
  let sync: () => void = () => {}
  const replica = await openReplica({ syncFullLogs: async () => { await new Promise<void>((resolve) => { sync = resolve }) } })
  await replica.put('a', '1')
  const flushing = replica.store.flush()
  await replica.system.settle()
  assert.not(replica.store.durable.dominates(replica.store.vector))
  sync()
  await flushing
  assert.ok(replica.store.durable.dominates(replica.store.vector))
})

test('a clear() that is to be on disk syncs the full write-ahead logs, too', async () => {
  let synced = 0
  const { store } = await openReplica({ syncFullLogs: async () => { synced++ } })
  await store.clear({}, false)
  assert.is(synced, 0)
  await store.clear({}, true)
  assert.is(synced, 1)
})

test('flush() makes durable what was committed, and says so', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  assert.is(replica.store.durable.size, 0)
  const vector = await replica.store.flush()
  assert.is(replica.memory.written.at(-1)!.sync, true)
  assert.ok(vector.equals(replica.store.vector))
  assert.ok(replica.store.durable.equals(replica.store.vector))
  await replica.put('a', '2')
  assert.not.ok(replica.store.durable.equals(replica.store.vector))
})

test('the mark of a clean close is gone, synced, before the first write is taken', async () => {
  const replica = await openReplica()
  await replica.store.close()
  assert.ok(await replica.engine.get(meta.cleanClose, buffers))
  const before = replica.memory.written.length
  const again = await replica.reopened()
  assert.is(await again.engine.get(meta.cleanClose, buffers), undefined)
  assert.is(replica.memory.written[before]!.sync, true)
})

test('an open that fails leaves nothing behind that goes on', async () => {
  const replica = await openReplica()
  await replica.put('a', '1')
  await replica.store.close()
  const { timers } = replica.system
  replica.memory.failNext()
  assert.is((await rejection(replica.reopened())).message, 'disk full')
  assert.is(replica.system.timers, timers)
  assert.equal(await (await replica.reopened()).data(), { a: '1' })
})

test.run()
