/**
 * How a catch-up by the log reads what it sends: in few calls, and never much at once of what may be long.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReadonlyVersionVector } from '../../lib/core/version-vector.ts'
import { stampedValueMax } from '../../lib/limits.ts'
import { keyspace } from '../../lib/storage/keyspaces.ts'
import { checkEqual } from '../support/invariants.ts'
import { del, openReplica, pull, put, type TestReplica } from '../support/store.ts'

const count = 300
const long = 'x'.repeat(stampedValueMax + 1)
const keyOf = (index: number): string => `key ${String(index).padStart(4, '0')}`

/** A replica with enough behind a vector that what was written since is found by the log. */
async function openFilled (): Promise<{ replica: TestReplica, base: ReadonlyVersionVector }> {
  const replica = await openReplica()
  await replica.store.commit(Array.from({ length: 5000 }, (_, index) => put(keyOf(index), 'old')), false)
  return { replica, base: replica.store.vector.clone() }
}

/** How many keys, and how many of them of version records, each call looks up. */
async function lookUps (replica: TestReplica, base: ReadonlyVersionVector): Promise<Array<[keys: number, versions: number]>> {
  const source = await replica.store.openSource(base)
  assert.is(source.kind, 'catch-up')
  const calls: Array<[number, number]> = []
  const getMany = replica.engine.getMany.bind(replica.engine) as (keys: Buffer[], options: object) => Promise<Buffer[]>
  replica.engine.getMany = (async (keys: Buffer[], options: object) => {
    calls.push([keys.length, keys.filter((key) => key[0] === keyspace.version).length])
    return await getMany(keys, options)
  }) as never
  let entries = 0
  for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) entries += chunk.entries
  await source.close()
  Reflect.deleteProperty(replica.engine, 'getMany')
  assert.is(entries, count)
  return calls
}

test('keys that have no version records are looked up once, and many together', async () => {
  const { replica, base } = await openFilled()
  await replica.store.commit(Array.from({ length: count }, (_, index) => put(keyOf(index), 'new')), false)
  assert.equal(await lookUps(replica, base), [[256, 0], [44, 0]])
})

test('of keys that may have long values few are looked up at first, and version records only of these', async () => {
  const { replica, base } = await openFilled()
  await replica.store.commit(Array.from({ length: count }, (_, index) => put(keyOf(index), index % 2 === 0 ? 'new' : long)), false)
  assert.equal((await lookUps(replica, base))[0], [4 + 2, 2])
})

test('deletes, long values and conflicts come beside values with stamps', async () => {
  const { replica } = await openFilled()
  const peer = await openReplica()
  await pull(peer, replica)
  await peer.put(keyOf(7), 'theirs')
  await replica.store.commit([put(keyOf(5), long), del(keyOf(6)), put(keyOf(7), 'ours'), put(keyOf(8), 'new'), del('nothing')], false)
  await pull(replica, peer)
  assert.is((await pull(peer, replica)).kind, 'catch-up')
  await checkEqual([replica.engine, peer.engine])
  assert.is((await peer.values(keyOf(7))).length, 2)
})

test('what has no version where one has to be is not passed over', async () => {
  const { replica, base } = await openFilled()
  await replica.put(keyOf(1), 'new')
  await replica.engine.put(Buffer.concat([Buffer.of(keyspace.data), Buffer.from(keyOf(1))]), Buffer.from('damaged@'), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const source = await replica.store.openSource(base)
  await source.next().then(() => { assert.unreachable() }, (error) => { assert.match(error.message, 'The versions of key') })
  await source.close()
})

test.run()
