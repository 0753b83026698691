import type { LookupAddress } from 'node:dns'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { nameFreshMs, nameKeptMs } from '../../lib/limits.ts'
import { Names, type NameResolver } from '../../lib/network/names.ts'
import { TcpTransport } from '../../lib/network/tcp.ts'
import { system } from '../../lib/system.ts'
import { eventually } from '../support/eventually.ts'
import { rejection } from '../support/rejection.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const ipv4 = (...addresses: string[]): LookupAddress[] => addresses.map((address) => ({ address, family: 4 }))

/** A resolver that answers when it is told to. */
function setUp () {
  const asked: Array<{ host: string, answer: Parameters<NameResolver>[2] }> = []
  const resolver: NameResolver = (host, _options, answer) => { asked.push({ host, answer }) }
  return { asked, resolver }
}

/** Whom a dial would try, in this order. */
async function addressesOf (names: Names, host: string): Promise<string[]> {
  return await new Promise((resolve, reject) => {
    names.lookup(host, { all: true }, (error, addresses) => {
      if (error === null) resolve((addresses as LookupAddress[]).map(({ address }) => address))
      else reject(error)
    })
  })
}

test('a name that nobody answers for is asked for once, however often it is dialled, and a late answer serves the next dial', async () => {
  const { asked, resolver } = setUp()
  const transport = new TcpTransport({ system, resolver })
  const listener = await transport.listen({ host: '127.0.0.1', port: 0 }, (connection) => { connection.close() }, assert.unreachable)
  const address = { host: 'late.test', port: listener.address.port }
  const { signal } = new AbortController()
  for (let dials = 0; dials < 3; dials++) assert.is((await rejection(transport.dial(address, { signal, timeoutMs: 10 }))).code, 'REPLICATION_DIAL_FAILED')
  assert.equal(asked.map(({ host }) => host), ['late.test'])
  asked[0]!.answer(null, ipv4('127.0.0.1'))
  const connection = await transport.dial(address, { signal, timeoutMs: 5000 })
  assert.is(asked.length, 1)
  connection.close()
  await listener.close()
})

test('several who ask for a name at once share the answer, and the failure; after it the name is asked for again', async () => {
  const { asked, resolver } = setUp()
  const names = new Names(system, resolver)
  const failures = [addressesOf(names, 'a.test'), addressesOf(names, 'a.test')]
  const other = addressesOf(names, 'b.test')
  assert.is(asked.length, 2)
  asked[0]!.answer(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }), [])
  for (const failure of failures) assert.is((await rejection(failure)).code, 'ENOTFOUND')
  asked[1]!.answer(null, ipv4('192.0.2.1'))
  assert.equal(await other, ['192.0.2.1'])
  const again = addressesOf(names, 'a.test')
  await eventually(() => asked.length === 3)
  asked[2]!.answer(null, ipv4('192.0.2.2'))
  assert.equal(await again, ['192.0.2.2'])
})

test('of several addresses each dial begins with another one, also after a new answer', async () => {
  const virtual = new VirtualSystem()
  const names = new Names(virtual, (_host, _options, answer) => { answer(null, ipv4('192.0.2.1', '192.0.2.2')) })
  assert.equal(await addressesOf(names, 'two.test'), ['192.0.2.1', '192.0.2.2'])
  assert.equal(await addressesOf(names, 'two.test'), ['192.0.2.2', '192.0.2.1'])
  await virtual.advance(nameFreshMs)
  assert.equal(await addressesOf(names, 'two.test'), ['192.0.2.1', '192.0.2.2'])
  await virtual.advance(nameFreshMs)
  assert.equal(await addressesOf(names, 'two.test'), ['192.0.2.2', '192.0.2.1'])
  await virtual.advance(nameKeptMs + 1)
  assert.equal(await addressesOf(names, 'two.test'), ['192.0.2.1', '192.0.2.2'])
})

test.run()
