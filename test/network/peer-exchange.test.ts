import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Peer } from '../../lib/codec/message.ts'
import { exchangeIntervalMs, peersPerMessageMax } from '../../lib/limits.ts'
import type { Link } from '../../lib/network/link.ts'
import { dialableAddress, PeerExchange } from '../../lib/network/peer-exchange.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

/** A link to a replica, that notes what it is told. */
function link (name: string, host = '10.0.0.1') {
  const told: Array<{ atMs: number, peers: readonly Peer[] }> = []
  const fake = {
    direction: 'outbound' as const,
    address: { host, port: 9000 },
    session: { peer: { replica: name, host, port: 9000 } },
    handle: ({ peers }: { peers: readonly Peer[] }) => { told.push({ atMs: system.monotonicMs(), peers }) }
  }
  return { link: fake as unknown as Link, told }
}

let system: VirtualSystem

function setUp (links: Array<{ link: Link }>, machineOnly = false) {
  system = new VirtualSystem()
  const found: string[] = []
  return {
    found,
    exchange: new PeerExchange({
      system,
      machineOnly,
      links: () => links.map(({ link }) => link),
      self: () => 'self',
      isLinked: (replica) => links.some(({ link }) => link.session.peer!.replica === replica),
      onFound: ({ host, port }) => { found.push(`${host}:${port}`) }
    })
  }
}

test('who says that it takes part is answered once; every 20 s or so one of them, by chance, is told of the others again', async () => {
  const links = ['a', 'b', 'c', 'hermit'].map((name, index) => link(name, `10.0.0.${index + 1}`))
  const [a, b, c, hermit] = links as [typeof links[0], typeof links[0], typeof links[0], typeof links[0]]
  const { exchange } = setUp(links)
  exchange.start()
  for (const each of [a, b, c]) exchange.told(each.link, [])
  for (const each of [a, b, c]) exchange.told(each.link, [])
  assert.equal([a, b, c].map(({ told }) => told.length), [0, 1, 1], 'there was nobody yet to be told of to the first')
  for (const { told } of links) told.length = 0

  await system.advance(exchangeIntervalMs * 1.5)
  assert.ok(links.flatMap(({ told }) => told).length >= 1)
  await system.advance(exchangeIntervalMs * 58.5)
  const times = links.flatMap(({ told }) => told).map(({ atMs }) => atMs).sort((x, y) => x - y)
  assert.ok(times.length > 45 && times.length < 80, `${times.length} times in 20 minutes`)
  for (let index = 1; index < times.length; index++) {
    const apartMs = times[index]! - times[index - 1]!
    assert.ok(apartMs >= exchangeIntervalMs / 2 && apartMs <= exchangeIntervalMs * 1.5, `${apartMs} ms apart`)
  }
  for (const each of [a, b, c]) {
    assert.ok(each.told.length > 5, 'each has its turn')
    assert.equal(each.told[0]!.peers.map(({ replica }) => replica).sort(), ['a', 'b', 'c'].filter((name) => name !== each.link.session.peer!.replica))
  }
  assert.equal(hermit.told, [])

  exchange.stop()
  await system.advance(exchangeIntervalMs * 10)
  assert.is(links.flatMap(({ told }) => told).length, times.length)
})

test('of many, others are named each time', async () => {
  const links = Array.from({ length: peersPerMessageMax + 40 }, (_, index) => link(`r${index}`, `10.0.1.${index}`))
  const { exchange } = setUp(links)
  for (const each of links) exchange.told(each.link, [])
  const last = links.at(-1)!
  assert.is(last.told[0]!.peers.length, peersPerMessageMax)
  exchange.start()
  await system.advance(exchangeIntervalMs * 2000)
  const named = new Set(last.told.flatMap(({ peers }) => peers.map(({ replica }) => replica)))
  assert.is(named.size, links.length - 1)
  exchange.stop()
})

test('who is linked already, oneself, and what is no address, is not found', () => {
  const links = [link('a'), link('b', '10.0.0.2')]
  const { exchange, found } = setUp(links)
  exchange.told(links[0]!.link, [
    { replica: 'b', host: '10.0.0.2', port: 9000 },
    { replica: 'self', host: '10.0.0.3', port: 9000 },
    { replica: 'c', host: 'no address', port: 9000 },
    { replica: 'd', host: '127.0.0.1', port: 9000 },
    { replica: 'e', host: '10.0.0.5', port: 9001 }
  ])
  assert.equal(found, ['10.0.0.5:9001'])
})

test('an address of this machine is told within it, and one of another is not believed by who only listens to it', () => {
  const links = [link('near', '127.0.0.1'), link('near too', '127.0.0.2'), link('far', '10.0.0.3')]
  const { exchange, found } = setUp(links, true)
  for (const { link } of links) exchange.told(link, [])
  assert.equal(links.map(({ told }) => told.flatMap(({ peers }) => peers.map(({ replica }) => replica))), [[], ['near'], []])
  const peers = [{ replica: 'c', host: '127.0.0.3', port: 9000 }, { replica: 'd', host: '10.0.0.4', port: 9000 }]
  for (const { link } of links) exchange.told(link, peers)
  assert.equal(found, ['127.0.0.3:9000', '127.0.0.3:9000'])
})

test('where a replica can be dialled: at what it was dialled at, or where it says, or where it comes from', () => {
  for (const [direction, from, said, expected] of [
    ['outbound', ['10.0.0.1', 9000], ['10.0.0.2', 9001], ['10.0.0.1', 9000]],
    ['inbound', ['10.0.0.1', 50_000], ['', 0], undefined],
    ['inbound', ['10.0.0.1', 50_000], ['10.0.0.2', 0], undefined],
    ['inbound', ['10.0.0.1', 50_000], ['10.0.0.2', 9001], ['10.0.0.2', 9001]],
    ['inbound', ['10.0.0.1', 50_000], ['0.0.0.0', 9001], ['10.0.0.1', 9001]],
    ['inbound', ['10.0.0.1', 50_000], ['::', 9001], ['10.0.0.1', 9001]],
    ['inbound', ['10.0.0.1', 50_000], ['127.0.0.1', 9001], undefined],
    ['inbound', ['127.0.0.1', 50_000], ['127.0.0.1', 9001], ['127.0.0.1', 9001]],
    ['stream', ['stream', 0], ['0.0.0.0', 9001], undefined],
    ['stream', ['stream', 0], ['10.0.0.2', 9001], ['10.0.0.2', 9001]]
  ] as const) {
    const fake = { direction, address: { host: from[0], port: from[1] }, session: { peer: { host: said[0], port: said[1] } } }
    assert.equal(dialableAddress(fake as unknown as Link), expected === undefined ? undefined : { host: expected[0], port: expected[1] }, `${direction} ${from.join()} ${said.join()}`)
  }
})

test.run()
