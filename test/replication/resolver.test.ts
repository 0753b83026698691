/**
 * Conflicts are exact, and every replica decides them alike, whatever the resolver does.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Resolver } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { addressOf, closeAll, equal, linked, openDatabase, type Events } from '../support/replicas.ts'

const test = suite('resolvers')
test.after.each(closeAll)

const resolvers: Record<string, Resolver<any, any>> = {
  'is not symmetric': (a, b) => String(a.value) < String(b.value),
  'is not transitive': (a, b) => (String(a.value).charCodeAt(0) + 1) % 3 === String(b.value).charCodeAt(0) % 3,
  'always ties': () => false,
  merges: (a, b) => ({ value: `${String(a.value)}+${String(b.value)}` }),
  deletes: () => ({ type: 'del' }),
  throws: () => { throw new Error('planted') },
  'answers nonsense': () => undefined as never,
  'answers a promise': (async () => true) as never
}

for (const [name, resolver] of Object.entries(resolvers)) {
  test(`a resolver that ${name}: all replicas end equal`, async () => {
    const replicas = [await openDatabase({ resolver }), await openDatabase({ resolver }), await openDatabase({ resolver })] as const
    for (const [index, db] of replicas.entries()) {
      await db.put('key', 'abc'[index]!)
      await db.put(`own-${index}`, 'x')
    }
    const [a, b, c] = replicas
    b.replication.connect(addressOf(a))
    await linked(b, a)
    c.replication.connect(addressOf(b))
    await equal(...replicas)
    for (const db of replicas) {
      assert.is((await db.replication.versions('key')).length, 3)
      assert.equal((await db.replication.versions('key')).map(({ value }) => value).sort(), ['a', 'b', 'c'])
      const conflicts = []
      for await (const { key } of db.replication.conflicts()) conflicts.push(key)
      assert.equal(conflicts, ['key'])
    }
    if (['throws', 'answers nonsense', 'answers a promise'].includes(name)) {
      assert.ok(replicas.some(({ errors }) => errors.some(({ code }) => code === 'REPLICATION_RESOLVER')))
    } else {
      for (const { errors } of replicas) assert.equal(errors, [])
    }
    await b.put('key', 'settled')
    await equal(...replicas)
    for (const db of replicas) {
      assert.is(await db.get('key'), 'settled')
      assert.is((await db.replication.versions('key')).length, 1)
    }
  })
}

test('the event names the key and its versions, the visible one first; a write that had seen the other is no conflict', async () => {
  const a = await openDatabase()
  const b = await openDatabase()
  const conflicts: Array<{ key: string, versions: Array<{ value: string }> }> = []
  ;(b as Events).on('conflict', (conflict) => { conflicts.push(conflict) })
  await a.put('same', 'a')
  await b.put('same', 'b')
  await a.put('mine', 'a')
  a.replication.connect(addressOf(b))
  await equal(a, b)
  assert.equal(conflicts.map(({ key, versions }) => [key, versions.length, versions[0]!.value]), [['same', 2, await b.get('same')]])
  await b.put('mine', 'b')
  await equal(a, b)
  assert.is(await a.get('mine'), 'b')
  assert.is(conflicts.length, 1)
})

test('a delete that meets a concurrent put: the later wins by default, and both are kept', async () => {
  const a = await openDatabase()
  const b = await openDatabase()
  await a.put('key', 'old')
  a.replication.connect(addressOf(b))
  await equal(a, b)
  a.replication.disconnect(addressOf(b))
  await eventually(() => b.replication.peers().length === 0)
  await a.put('key', 'new')
  await b.del('key')
  a.replication.connect(addressOf(b))
  await equal(a, b)
  const versions = await a.replication.versions('key')
  for (const version of versions) assert.equal([{ ...version }.key, { ...version }.value], [version.key, version.value], 'a copy is whole')
  assert.equal(versions.map(({ type }) => type).sort(), ['del', 'put'])
  assert.is(await a.get('key'), versions[0]!.type === 'put' ? 'new' : undefined)
  await a.del('key')
  await equal(a, b)
  assert.is(await b.get('key'), undefined)
  assert.is((await b.replication.versions('key')).filter(({ type }) => type === 'put').length, 0)
})

test('what a resolver merges is taken in whatever form the value encoding has its bytes, as that of a put is', async () => {
  const resolver: Resolver<string, any> = (a, b) => ({ value: [...a.value, ...b.value] })
  const numbers = { name: 'numbers', format: 'buffer', encode: (list: number[]) => Uint16Array.from(list), decode: (bytes: Buffer) => [...new Uint16Array(Uint8Array.from(bytes).buffer)] }
  const text = { name: 'text', format: 'buffer', encode: (list: number[]) => list.join(), decode: (bytes: Buffer) => bytes.toString().split(',').map(Number) }
  for (const valueEncoding of [numbers, text]) {
    const a = await openDatabase<number[]>({ resolver, valueEncoding: valueEncoding as never })
    const b = await openDatabase<number[]>({ resolver, valueEncoding: valueEncoding as never })
    await a.put('key', [1, 2])
    await b.put('key', [300])
    a.replication.connect(addressOf(b))
    await equal(a, b)
    assert.equal((await a.get('key'))?.sort(), [1, 2, 300], valueEncoding.name)
    assert.is((await a.replication.versions('key')).length, 2)
    assert.equal([...a.errors, ...b.errors], [])
  }
})

test('a resolver that merges into one of the values it is given changes nothing but the outcome', async () => {
  const add: Resolver<string, Buffer> = (a, b) => {
    a.value![0]! += b.value![0]!
    return { value: a.value! }
  }
  const open = async (): ReturnType<typeof openDatabase<Buffer>> => await openDatabase<Buffer>({ resolver: add, valueEncoding: 'buffer' })
  const [a, b, c] = [await open(), await open(), await open()]
  c.replication.connect(addressOf(b))
  await linked(c, b)
  await a.put('key', Buffer.of(1))
  await b.put('key', Buffer.of(2))
  await equal(b, c)
  const told: number[][] = []
  b.on('conflict', ({ versions }) => { told.push(versions.map(({ value }) => value![0]!).sort()) })
  b.replication.connect(addressOf(a))
  await equal(a, b, c)
  for (const db of [a, b, c]) {
    assert.equal(await db.get('key'), Buffer.of(3))
    assert.equal((await db.replication.versions('key')).map(({ value }) => value![0]).sort(), [1, 2])
  }
  assert.equal(told, [[1, 2]])
})

test('two concurrent deletes agree: nobody is asked', async () => {
  const never: Resolver<string, string> = () => { throw new Error('asked') }
  const a = await openDatabase({ resolver: never })
  const b = await openDatabase({ resolver: never })
  await a.put('key', 'value')
  a.replication.connect(addressOf(b))
  await equal(a, b)
  a.replication.disconnect(addressOf(b))
  await eventually(() => b.replication.peers().length === 0)
  await a.del('key')
  await b.del('key')
  a.replication.connect(addressOf(b))
  await equal(a, b)
  assert.equal([...a.errors, ...b.errors], [])
  assert.is(await a.get('key'), undefined)
})

test('another resolverVersion is warned of, and folds the conflicts again at the next open', async () => {
  const directory = newDirectory()
  const first = await openDatabase({ resolver: () => false, resolverVersion: '1' }, directory)
  const other = await openDatabase({ resolver: () => true, resolverVersion: '2' })
  await first.put('key', 'first')
  await other.put('key', 'other')
  first.replication.connect(addressOf(other))
  await eventually(() => first.errors.some(({ code }) => code === 'REPLICATION_RESOLVER_MISMATCH'))
  await eventually(async () => (await first.replication.versions('key')).length === 2)
  const before = await first.get('key')
  await first.close()
  const again = await openDatabase({ resolver: () => true, resolverVersion: '2' }, directory)
  await eventually(async () => await again.get('key') !== before)
})

test.run()
