/**
 * What is large comes in slices: the event loop of whoever takes it in, or sends what others lack, has other work between.
 * Each replica is a process of its own. (A transaction holds the loop of its author: its bytes are copied before `batch` returns.)
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { converged, ReplicaProcess } from '../support/replica-process.ts'

const test = suite('event loop')
const heldMaxMs = 50
const replicas: ReplicaProcess[] = []
test.after.each(async () => { await Promise.all(replicas.splice(0).map(async (replica) => { await replica.kill() })) })

async function open (peers: string[] = []): Promise<ReplicaProcess> {
  const replica = await ReplicaProcess.open(newDirectory(), { peers, initialSyncMs: 0 })
  replicas.push(replica)
  return replica
}

/** Watches some until all know the same, and says for how long each loop was held. */
async function watched (what: string, some: ReplicaProcess[], act: () => Promise<void>): Promise<void> {
  await Promise.all(some.map(async (replica) => { await replica.do('watchLoop') }))
  await act()
  await known()
  const heldMs: number[] = await Promise.all(some.map(async (replica) => await replica.do('loopHeld')))
  console.log(`  ${what}: event loops held for ${heldMs.map((ms) => ms.toFixed(0)).join(' and ')} ms`)
  for (const ms of heldMs) assert.ok(ms <= heldMaxMs, `${what}: held for ${heldMs.join(' and ')} ms`)
}

/** Waits until all know the same, and asks for nothing that would hold a loop itself. */
async function known (): Promise<void> {
  for (;;) {
    const vectors = await Promise.all(replicas.map(async (replica) => JSON.stringify(await replica.do('vector'))))
    if (vectors.every((vector) => vector === vectors[0])) return
    await new Promise((resolve) => { setTimeout(resolve, 20) })
  }
}

test('a transaction of 60,000 tiny operations, live, and then what it makes those lack who come later', async () => {
  const a = await open()
  const b = await open([a.address])
  await b.do('put', { key: 'first', value: '' })
  await converged([a, b])
  await b.do('transaction', { prefix: 'warm', count: 1000 })
  await converged([a, b])

  await watched('a transaction, live', [b], async () => { await a.do('transaction', { prefix: 't', count: 60_000 }) })
  const { count } = await converged([a, b])
  assert.is(count, 61_001)

  const c = await open()
  await watched('a first sync', [a, c], async () => { await c.do('connect', { address: a.address }) })
  await converged([a, b, c])

  await c.do('disconnect', { address: a.address })
  await a.do('transaction', { prefix: 't', count: 20_000 })
  await watched('a catch-up', [a, c], async () => { await c.do('connect', { address: a.address }) })
  await converged([a, b, c])
})

test.run()
