/**
 * Values and their stamps: what a user reads ends where his value ends, and one key has its version in one place.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ClassicLevel } from 'classic-level'
import fc from 'fast-check'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { hlcMax } from '../../lib/core/hlc.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { ReplicatedLevel } from '../../lib/index.ts'
import { groupBytes, stampedValueMax, versionKeyBytesMax } from '../../lib/limits.ts'
import { unstamped, valueOf } from '../../lib/storage/data-record.ts'
import { inKeyspace, keyspace } from '../../lib/storage/keyspaces.ts'
import { storedSet } from '../../lib/storage/stored-sets.ts'
import { VersionKeys } from '../../lib/storage/version-keys.ts'
import { newDirectory } from '../support/directory.ts'
import { checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { runs } from '../support/seed.ts'
import { LiveStream, newMemory, openReplica } from '../support/store.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const
const whole = { sequence: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })), hlc: fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 0, max: hlcMax })) }
const version = fc.record({ log: fc.uint8Array({ minLength: 8, maxLength: 8 }).map(newLogId), ...whole })

test('a value and its stamp are told apart, as bytes and as text, whatever the value is', () => {
  const value = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.string({ unit: 'grapheme' }).map((text) => Buffer.from(text)))
  fc.assert(fc.property(value, version, (bytes, sibling) => {
    const stamped = Buffer.concat([bytes, new ByteWriter().stamp(sibling).take()])
    const text = Buffer.from(bytes).toString()
    assert.equal(Buffer.from(valueOf(stamped)), Buffer.from(bytes))
    assert.is(valueOf(stamped.toString()), text)
    assert.equal(storedSet(undefined, stamped), [{ ...sibling, type: 'put' }])
    const plain = Buffer.from(unstamped(bytes))
    assert.equal(Buffer.from(valueOf(plain)), Buffer.from(bytes))
    assert.is(valueOf(unstamped(text)), text)
    assert.equal(storedSet(undefined, plain), [])
  }), runs(2000))
})

const values: Record<string, string | Uint8Array> = {
  'an empty one': '',
  'one that ends as a value with a version record does': 'mail@',
  'one that ends as a stamp does': Buffer.concat([Buffer.from('x'), new ByteWriter().stamp({ log: newLogId(Buffer.alloc(8)), hlc: 1024, sequence: 70 }).take()]),
  'the longest with a stamp': 'x'.repeat(stampedValueMax),
  'the shortest with a version record': 'x'.repeat(stampedValueMax + 1),
  'text of more bytes than units': '\u{20ac}'.repeat(stampedValueMax),
  'bytes that end in the middle of a letter': Buffer.of(0x78, 0xe2, 0x82),
  'a view of numbers': new Uint8Array(new Uint16Array([0x4040, 0x3f3f]).buffer),
  'a long one': Buffer.alloc(200_000, '@')
}

for (const [name, value] of Object.entries(values)) {
  test(`a value is read in every way as it was written: ${name}`, async () => {
    const db = new ReplicatedLevel<string, Uint8Array | string>(newDirectory(), { port: false, valueEncoding: typeof value === 'string' ? 'utf8' : 'view' } as never)
    await db.put('k', value)
    await db.batch([{ type: 'put', key: 'l', value }])
    const bytes = Buffer.from(value as string)
    for (const valueEncoding of ['buffer', 'view', 'utf8'] as const) {
      const expected = valueEncoding === 'utf8' ? bytes.toString() : bytes
      const same = (read: unknown): void => {
        assert.equal(typeof read === 'string' ? read : Buffer.from(read as Uint8Array), expected)
      }
      same(await db.get('k', { valueEncoding } as object))
      same(db.getSync('k', { valueEncoding } as object))
      for (const read of await db.getMany(['k', 'l'], { valueEncoding } as object)) same(read)
      assert.equal(await db.getMany(['m'], { valueEncoding } as object), [undefined])
      for (const [, read] of await db.iterator({ valueEncoding } as object).all()) same(read)
      for await (const read of db.values({ valueEncoding } as object)) same(read)
      const snapshot = db.snapshot()
      same(await db.get('l', { valueEncoding, snapshot } as object))
      await snapshot.close()
    }
    assert.equal(await db.keys().all(), ['k', 'l'])
    const [written] = await db.replication.versions('k')
    assert.equal(Buffer.from(written!.valueBytes!), bytes)
    await db.close()
  })
}

test('one put is one record in data, and a version record is there only for what else a key may hold', async () => {
  const location = newDirectory()
  const db = new ReplicatedLevel<string, string>(location, { port: false })
  await db.batch(['a', 'b', 'c', 'd'].map((key) => ({ type: 'put', key, value: '1' })))
  await db.put('b', 'long'.padEnd(stampedValueMax + 1))
  await db.del('c')
  await db.del('d')
  await db.put('d', '2')
  await db.close()
  const inner = new ClassicLevel<Buffer, Buffer>(location, buffers)
  const keysIn = async (space: number): Promise<string[]> => (await inner.keys({ gte: Buffer.of(space), lt: Buffer.of(space + 1) }).all()).map((key) => key.toString('latin1', 1))
  assert.equal(await keysIn(keyspace.data), ['a', 'b', 'd'])
  assert.equal(await keysIn(keyspace.version), ['b', 'c'])
  await inner.close()
})

test('a value takes the place of a version record also while the batch that writes that is in flight', async () => {
  const { store, engine } = await openReplica()
  const key = Buffer.from('k')
  await Promise.all(['x'.repeat(groupBytes + 1), 'short', 'y'.repeat(groupBytes + 1), 'last'].map(async (value) => { await store.commit([{ type: 'put', key, value }], false) }))
  assert.is(valueOf(await engine.get(inKeyspace(keyspace.data, key), buffers))?.toString(), 'last')
  await checkInvariants(engine)
})

test('a value stays when the batch is lost that removed the version record of the delete before it', async () => {
  const memory = await LossyMemory.open()
  const replica = await openReplica({ engine: memory.asEngine })
  await replica.put('k', '1')
  await replica.del('k')
  await replica.put('other', '1')
  await replica.store.housekeeping.collect()
  const lost = memory.logLength - 1
  await replica.put('k', '2')
  assert.is(await memory.engine.get(inKeyspace(keyspace.version, Buffer.from('k')), buffers), undefined)
  const engine = (await memory.reopenedWithout(new Set([lost]))).asEngine
  assert.ok(await engine.get(inKeyspace(keyspace.version, Buffer.from('k')), buffers), 'it is there again')
  const again = await openReplica({ engine, identity: replica.identity })
  await again.store.endRepair()
  await checkInvariants(engine)
  assert.equal(await again.values('k'), ['2'])
})

test('of the keys with a version record none is missed: neither while they are loaded, nor when there are too many', async () => {
  const engine = newMemory()
  await engine.open()
  for (const key of ['a', 'b']) await engine.put(inKeyspace(keyspace.version, Buffer.from(key)), Buffer.alloc(1), buffers)
  const writer = { run: async (job: () => unknown) => { job() } } as never
  const keys = new VersionKeys(4)
  assert.ok(keys.mayHold('z') && !keys.none, 'nothing is known yet')
  const loading = keys.load(engine as never, writer)
  keys.add('c')
  await loading
  assert.equal(['a', 'b', 'c', 'd'].map((key) => keys.mayHold(key)), [true, true, true, false])
  assert.not(keys.none)
  keys.add('d')
  assert.ok(keys.mayHold('z'), 'too many')
  await engine.del(inKeyspace(keyspace.version, Buffer.from('a')), buffers)
  await engine.del(inKeyspace(keyspace.version, Buffer.from('b')), buffers)
  keys.removed(2)
  assert.not(keys.isOutdated)
  keys.removed(1)
  assert.ok(keys.isOutdated)
  await keys.load(engine as never, { run: async () => { throw new Error('closed') } }).then(() => { assert.unreachable() }, () => {})
  assert.ok(keys.isOutdated && keys.mayHold('z'), 'it is loaded another time')
  await keys.load(engine as never, writer)
  assert.ok(keys.none && !keys.isOutdated)
})

test('of two loads of the keys with a version record that overlap the later one counts, with all that was written meanwhile', async () => {
  const writer = { run: async (job: () => unknown) => { job() } } as never
  const gates: Array<() => void> = []
  const engine = {
    async * keys () {
      await new Promise<void>((resolve) => { gates.push(resolve) })
      yield Buffer.from('@a')
    }
  } as never
  const keys = new VersionKeys()
  const first = keys.load(engine, writer)
  await new Promise((resolve) => { setImmediate(resolve) })
  const second = keys.load(engine, writer)
  await new Promise((resolve) => { setImmediate(resolve) })
  keys.add('b')
  gates[0]!()
  await first
  assert.ok(keys.mayHold('z'), 'the first one does not know what was written since the second began')
  keys.add('c')
  keys.removed(2)
  gates[1]!()
  await second
  assert.equal(['a', 'b', 'c', 'z'].map((key) => keys.mayHold(key)), [true, true, true, false])
  assert.ok(keys.isOutdated, 'what has gone meanwhile may have been read')
})

test('of keys with a version record that are too many no more are read than are remembered, and those are too many that come meanwhile, too', async () => {
  const engine = newMemory()
  await engine.open()
  for (const key of ['a', 'b', 'c']) await engine.put(inKeyspace(keyspace.version, Buffer.from(key)), Buffer.alloc(1), buffers)
  const writer = { run: async (job: () => unknown) => { job() } } as never
  let read = 0
  const counting = {
    async * keys (range: object) {
      for await (const key of engine.keys(range)) {
        read++
        yield key
      }
    }
  } as never
  const few = new VersionKeys(2)
  await few.load(counting, writer)
  assert.ok(few.mayHold('z'))
  assert.is(read, 2)
  const more = new VersionKeys(4)
  const loading = more.load(counting, writer)
  for (const key of ['d', 'e']) more.add(key)
  await loading
  assert.ok(more.mayHold('z'))
})

test('a reader at a snapshot finds the version records that were there, whatever is loaded meanwhile', async () => {
  const engine = newMemory()
  await engine.open()
  const stored = inKeyspace(keyspace.version, Buffer.from('a'))
  await engine.put(stored, Buffer.alloc(1), buffers)
  const writer = { run: async (job: () => unknown) => { job() } } as never
  const keys = new VersionKeys()
  const atFirst = keys.atSnapshot()
  await keys.load(engine as never, writer)
  const atSnapshot = keys.atSnapshot()
  await engine.del(stored, buffers)
  await keys.load(engine as never, writer)
  assert.equal([atFirst('z'), atSnapshot('a'), atSnapshot('b'), keys.mayHold('a')], [true, true, false, false])
})

test('of a long key with a version record only the beginning is remembered', async () => {
  const engine = newMemory()
  await engine.open()
  const long = 'x'.repeat(versionKeyBytesMax)
  await engine.put(inKeyspace(keyspace.version, Buffer.from(long + 1)), Buffer.alloc(1), buffers)
  const writer = { run: async (job: () => unknown) => { job() } } as never
  const keys = new VersionKeys()
  await keys.load(engine as never, writer)
  keys.add('y' + long)
  assert.equal([long + 1, long + 2, 'y' + long, 'z' + long, long.slice(1)].map((key) => keys.mayHold(key)), [true, true, true, false, false])
  for (const key of [long + 2, 'z']) await engine.put(inKeyspace(keyspace.version, Buffer.from(key)), Buffer.alloc(1), buffers)
  const few = new VersionKeys(2)
  await few.load(engine as never, writer)
  assert.ok(few.mayHold('z'), 'not all have been read')
})

test('a replica that takes over what another one has collected forgets which keys had version records', async () => {
  const [replica, peer] = [await openReplica(), await openReplica()]
  for (const [one, other] of [[replica, peer], [peer, replica]] as const) one.store.members.met(other.store.replica)
  const [toPeer, toReplica] = [await LiveStream.open(replica, peer), await LiveStream.open(peer, replica)]
  await replica.put('k', '1')
  await replica.del('k')
  for (const stream of [toPeer, toReplica]) await stream.send()
  await replica.store.flush()
  peer.store.members.acknowledge(replica.store.replica, [...replica.store.durable])
  await peer.store.flush()
  await peer.store.housekeeping.collect()
  await toReplica.send()
  assert.ok(replica.store.collected.size > 0)
  await replica.store.housekeeping.run()
  const batch = replica.memory._batch.bind(replica.memory)
  const spaces = new Set<number>()
  replica.memory._batch = async (operations, options) => {
    for (const { key } of operations as Array<{ key: Buffer }>) spaces.add(key[0]!)
    await batch(operations, options)
  }
  await replica.put('k', '2')
  assert.ok(spaces.has(keyspace.data))
  assert.not(spaces.has(keyspace.version))
})

test.run()
