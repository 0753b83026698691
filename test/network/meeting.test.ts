/**
 * Ten replicas that meet, for the first time and again: one link for each two, and how many dials that takes. In virtual
 * time, on a network and a discovery in memory, with latency by chance.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { backOffMaxMs } from '../../lib/limits.ts'
import type { Replicator } from '../../lib/network/replicator.ts'
import type { Transport } from '../../lib/network/transport.ts'
import { MemoryDiscovery } from '../support/memory-discovery.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { makeReplicator } from '../support/replicator.ts'
import { seed } from '../support/seed.ts'
import { openReplica } from '../support/store.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const count = 10
const pairs = count * (count - 1) / 2

async function setUp ({ bonjour = true, exchange = true, peers = (_index: number): string[] => [] } = {}) {
  const system = new VirtualSystem({ seed })
  const network = new MemoryNetwork({ system, schedule: (deliver) => { system.setTimer(deliver, 1 + system.random() * 9) } })
  const finder = new MemoryDiscovery((act) => { system.setTimer(act, system.random() * 100) })
  const context = { system, network, dials: 0, dialsUnderWay: 0, dialsUnderWayMax: 0, replicators: [] as Replicator[] }
  for (let index = 0; index < count; index++) {
    const inner = network.transport(`h${index}`)
    const transport: Transport = {
      listen: inner.listen,
      dial: async (address, options) => {
        context.dials++
        context.dialsUnderWayMax = Math.max(context.dialsUnderWayMax, ++context.dialsUnderWay)
        try {
          return await inner.dial(address, options)
        } finally {
          context.dialsUnderWay--
        }
      }
    }
    const { store } = await openReplica({ system })
    context.replicators.push(makeReplicator({
      system,
      store,
      transport,
      finder,
      discovery: { bonjour, exchange, interfaces: undefined, port: 5353, machineOnly: false },
      host: `h${index}`,
      peers: peers(index),
      onError: (error) => { if (error.code !== 'REPLICATION_PEER_SILENT') throw error }
    }))
  }
  return context
}

type Context = Awaited<ReturnType<typeof setUp>>

const isMeshed = ({ replicators }: Context): boolean => replicators.every(({ mesh }) => {
  const ids = [...mesh.links].map((link) => link.session.peer?.replica)
  return ids.length === count - 1 && !ids.includes(undefined) && new Set(ids).size === ids.length
})

/** Lets time pass until all are linked; how long it took, and how many dials. */
async function meet (context: Context, limitMs: number): Promise<{ tookMs: number, dials: number }> {
  const dialsBefore = context.dials
  for (let tookMs = 0; tookMs <= limitMs; tookMs += 50) {
    if (isMeshed(context)) return { tookMs, dials: context.dials - dialsBefore }
    await context.system.advance(50)
  }
  throw new Error(`not each two are linked after ${limitMs} ms`)
}

function everybody ({ network }: Context, partitioned: boolean): void {
  for (let a = 0; a < count; a++) for (let b = 0; b < a; b++) network.partition(`h${a}`, `h${b}`, partitioned)
}

async function endAll ({ replicators, system }: Context): Promise<void> {
  const closed = Promise.all(replicators.map(async (replicator) => { await replicator.close() }))
  await system.advance(2000)
  await closed
}

test('ten that open at the same moment meet at once, with little more than one dial for each two', async () => {
  const context = await setUp()
  for (const replicator of context.replicators) await replicator.open()
  const { tookMs, dials } = await meet(context, 2000)
  console.log(`${dials} dials for ${pairs} links, ${tookMs} ms`)
  assert.ok(dials <= 2 * pairs, `${dials} dials`)
  const { dials: before } = context
  await context.system.advance(120_000)
  assert.ok(isMeshed(context))
  assert.is(context.dials, before, 'nobody dials any more')
  await endAll(context)
})

test('ten that all list each other dial all at once, and end with one link for each two', async () => {
  const context = await setUp({ bonjour: false, exchange: false, peers: (index) => Array.from({ length: count }, (_, other) => `h${other}:9000`).filter((_, other) => other !== index) })
  for (const replicator of context.replicators) await replicator.open()
  const { dials } = await meet(context, 5000)
  assert.ok(dials <= 3 * pairs, `${dials} dials`)
  await endAll(context)
})

for (const [what, lastsMs] of [['a minute', 60_000], ['an hour', 3_600_000]] as const) {
  test(`ten that were all cut off from each other for ${what} meet again soon, without a storm`, async () => {
    const context = await setUp()
    for (const replicator of context.replicators) await replicator.open()
    await meet(context, 2000)
    everybody(context, true)
    await context.system.advance(30_000)
    assert.ok(context.replicators.every(({ mesh }) => mesh.links.size === 0))
    assert.ok(context.replicators.every((replicator) => replicator.peers().length >= count - 1), 'each is shown')
    const apart = context.dials
    await context.system.advance(lastsMs - 30_000)
    const perMinute = (context.dials - apart) / ((lastsMs - 30_000) / 60_000)
    assert.ok(perMinute <= count * (count - 1) * 60_000 / (backOffMaxMs / 2), `${perMinute} dials a minute`)
    everybody(context, false)
    const { tookMs, dials } = await meet(context, 10_000)
    console.log(`after ${what}: ${dials} dials for ${pairs} links, ${tookMs} ms; apart ${perMinute.toFixed(0)} dials a minute`)
    assert.ok(dials <= 4 * pairs, `${dials} dials`)
    await endAll(context)
  })
}

test.run()
