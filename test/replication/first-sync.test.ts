/**
 * The first sync of a new replica, in processes of their own: fast enough in memory, exact, and never half visible.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { closeGates, openGate } from '../support/gate.ts'
import { converged, killAll, ReplicaProcess } from '../support/replica-process.ts'

const entries = 100_000
const memoryMaxMb = 250

test(`${entries} entries come while the new replica writes too, within ${memoryMaxMb} MB, without a false conflict`, async () => {
  const source = await ReplicaProcess.open(newDirectory())
  await source.do('fill', { prefix: 'a', count: entries })
  const target = await ReplicaProcess.open(newDirectory(), { peers: [source.address], initialSyncMs: 0 })
  const written: Array<{ key: string, seen: boolean }> = await target.do('writeDuringSync', { prefix: 'a', count: entries })
  const { count } = await converged([source, target])
  assert.is(count, entries + written.length)
  const seen = written.filter(({ seen }) => seen).map(({ key }) => key)
  console.log(`${written.length} written meanwhile, ${seen.length} of them after what they replace had come`)
  assert.ok(seen.length > 0 && seen.length < written.length, `${seen.length} of ${written.length}`)
  const conflicts = new Set<string>(await target.do('conflictingKeys'))
  assert.ok(conflicts.size > 0 && conflicts.size <= written.length - seen.length, `${conflicts.size} conflicts, ${written.length - seen.length} keys may be some`)
  assert.equal(seen.filter((key) => conflicts.has(key)), [])
  for (const { key } of written) assert.is(await source.do('get', { key }), 'own', key)
  for (const replica of [source, target]) {
    const peak = await replica.do('peakMemory')
    if (peak === undefined) console.log('No /proc here: memory was not measured')
    else console.log(`peak memory ${Math.round(peak)} MB`)
    if (peak !== undefined) assert.ok(peak < memoryMaxMb, `${peak} MB`)
  }
  await source.close()
  await target.close()
})

test('nothing is half visible when the source is killed in the middle, and another one takes over', async () => {
  const source = await ReplicaProcess.open(newDirectory())
  await source.do('fill', { prefix: 'a', count: entries })
  const other = await ReplicaProcess.open(newDirectory(), { peers: [source.address], initialSyncMs: 60_000 })
  await converged([source, other])
  // So that it is in the middle for as long as it takes to see it: all of it is about 12 MB.
  const { address } = await openGate(Number(source.address.split(':')[1]), 6_000_000)
  const target = await ReplicaProcess.open(newDirectory(), { peers: [address], initialSyncMs: 0 })
  await eventually(async () => {
    const [peer] = await target.do('peers')
    return peer.progress > 0.2 && peer.state === 'syncing'
  }, { message: 'the sync has begun' })
  await source.kill()
  assert.is(await target.do('count'), 0)
  await target.do('connect', { address: other.address })
  const { count } = await converged([other, target])
  assert.is(count, entries)
  await other.close()
  await target.close()
})

test('an equal pair reconnects with the same few bytes whatever the number of keys', async () => {
  const bytes: number[] = []
  for (const count of [100, 20_000]) {
    const a = await ReplicaProcess.open(newDirectory())
    await a.do('fill', { prefix: 'a', count })
    const b = await ReplicaProcess.open(newDirectory(), { peers: [a.address], initialSyncMs: 60_000 })
    await converged([a, b])
    await b.do('synced')
    await b.do('disconnect', { address: a.address })
    await b.do('connect', { address: a.address })
    const peer = await eventually(async () => (await b.do('peers')).find(({ state }: { state: string }) => state === 'live'))
    bytes.push(peer.bytes.received)
    await a.close()
    await b.close()
  }
  assert.ok(Math.abs(bytes[0]! - bytes[1]!) < 64 && bytes[1]! < 1024, bytes.join(', '))
})

test.after(() => {
  killAll()
  closeGates()
})
test.run()
