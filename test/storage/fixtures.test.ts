/**
 * Databases of every format that was ever released, in bytes, are read by this version.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatVersion, meta } from '../../lib/storage/keyspaces.ts'
import { checkInvariants } from '../support/invariants.ts'
import { rejection } from '../support/rejection.ts'
import { exchange, newMemory, openReplica, type TestReplica } from '../support/store.ts'

const fixtures = new URL('../fixtures/', import.meta.url)
const names = readdirSync(fixtures).filter((name) => name.endsWith('.hex'))
const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

async function load (name: string): Promise<ReturnType<typeof newMemory>> {
  const engine = newMemory()
  await engine.open()
  for (const line of readFileSync(new URL(name, fixtures), 'utf8').trim().split('\n')) {
    const [key, value] = line.split(' ')
    await engine.put(Buffer.from(key!, 'hex'), Buffer.from(value ?? '', 'hex'))
  }
  return engine
}

async function open (engine: ReturnType<typeof newMemory>): Promise<TestReplica> {
  return await openReplica({ engine: engine as never })
}

test('there is a fixture of the current format', () => {
  assert.ok(names.includes(`format-${formatVersion}.hex`))
})

for (const name of names) {
  test(`${name} is read: its data, its conflict, its tombstone and its vector`, async () => {
    const replica = await open(await load(name))
    await checkInvariants(replica.engine, { vector: replica.store.vector as never })
    assert.equal(await replica.data(), { k2: 'zwei', k3: 'three' })
    assert.equal(await replica.values('k2'), ['two', 'zwei'])
    assert.equal(await replica.values('k1'), [undefined])
    assert.equal([...replica.store.vector].map(({ sequence }) => sequence).sort(), [1, 4])
    const peer = await openReplica()
    await replica.put('k4', 'four')
    await exchange(replica, peer)
    assert.equal(await peer.data(), await replica.data())
  })
}

test('an unknown format is refused with a code, and nothing is changed', async () => {
  const engine = await load(names[0]!)
  await engine.put(meta.format, Buffer.of(formatVersion + 1))
  const before = await engine.iterator(buffers).all()
  assert.is((await rejection(open(engine))).code, 'REPLICATION_FORMAT_UNKNOWN')
  assert.equal(await engine.iterator(buffers).all(), before)
})

test.run()
