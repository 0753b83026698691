import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import { addressesOf, loopbackText, serviceDomain, servicesIn, serviceType, type DnsRecord } from '../../lib/network/service-records.ts'
import { runs } from '../support/seed.ts'

const text = (...parts: string[]): Buffer[] => parts.map((part) => Buffer.from(part))
const records = (name: string, port = 9000, host = 'h.local'): DnsRecord[] => [
  { name: serviceDomain, type: 'PTR', ttl: 120, data: `${name}.${serviceDomain}` },
  { name: `${name}.${serviceDomain}`, type: 'SRV', ttl: 120, data: { port, target: host } },
  { name: `${name}.${serviceDomain}`, type: 'TXT', ttl: 120, data: text('v=1', 's=salt', 'd=digest') },
  { name: host, type: 'A', ttl: 120, data: '10.0.0.2' }
]

test('the type has the 15 characters that RFC 6335 allows', () => { assert.ok(serviceType.length <= 15) })

test('a service is read whole, in any order and case', () => {
  const [service] = servicesIn(records('AbC', 9001, 'Host.Local').reverse())
  assert.is(service?.name, 'abc')
  assert.is(service?.port, 9001)
  assert.equal([...service!.text], [['v', '1'], ['s', 'salt'], ['d', 'digest']])
  assert.equal(service?.addresses, ['10.0.0.2'])
})

test('a goodbye is none, nor what lacks a record or is of another type', () => {
  assert.equal(servicesIn(records('a').map((record) => ({ ...record, ttl: 0 }))), [])
  assert.equal(servicesIn(records('a').filter(({ type }) => type !== 'TXT')), [])
  assert.equal(servicesIn(records('a').map((record) => ({ ...record, name: String(record.name).replace(serviceType, 'http') }))), [])
})

test('it is dialled at its sender, and elsewhere only if the sender is not one of its addresses', () => {
  const [service] = servicesIn(records('a'))
  assert.equal(addressesOf(service!, '10.0.0.2'), [{ host: '10.0.0.2', port: 9000 }])
  assert.equal(addressesOf(service!, '10.0.0.9'), [{ host: '10.0.0.9', port: 9000 }, { host: '10.0.0.2', port: 9000 }])
  assert.equal(addressesOf(service!, '127.0.0.1'), [{ host: '127.0.0.1', port: 9000 }])
  assert.equal(addressesOf({ ...service!, addresses: ['__proto__:1', ''] }, 'x y'), [])
})

test('one of this machine is dialled at the address of its own that it names; nobody else is sent to our own addresses, nor this one elsewhere', () => {
  const [service] = servicesIn(records('a'))
  const naming = (host: string): typeof service & {} => ({ ...service!, text: new Map([...service!.text, [loopbackText, host]]) })
  assert.equal(addressesOf(naming('::1'), '127.0.0.1'), [{ host: '::1', port: 9000 }])
  assert.equal(addressesOf(naming('127.0.0.2'), '127.0.0.1'), [{ host: '127.0.0.2', port: 9000 }])
  assert.equal(addressesOf(naming('192.0.2.1'), '127.0.0.1'), [{ host: '127.0.0.1', port: 9000 }])
  assert.equal(addressesOf(naming('::1'), '10.0.0.2'), [{ host: '10.0.0.2', port: 9000 }])
})

test('many services in one packet: a few are taken', () => {
  const many = Array.from({ length: 1000 }, (_, index) => records(`s${index}`, 1 + index)).flat()
  assert.is(servicesIn(many).length, 32)
})

test('of a service only so much is taken, and nothing of what makes no sense', () => {
  const [, server, , address] = records('a') as [DnsRecord, DnsRecord, DnsRecord, DnsRecord]
  const nameOfText = `a.${serviceDomain}`
  const read = (data: unknown): Array<[string, string]> => [...servicesIn([server, { name: nameOfText, type: 'TXT', ttl: 120, data }])[0]!.text]
  assert.equal(read(text('k=first', 'k=second', `l=${'x'.repeat(62)}`, `m=${'x'.repeat(63)}`, 'n')), [['k', 'first'], ['l', 'x'.repeat(62)]])
  assert.is(read(text(...Array.from({ length: 100 }, (_, index) => `${index}=`))).length, 8)
  const addresses = Array.from({ length: 100 }, (_, index) => ({ ...address, data: index === 0 ? 7 : `10.0.0.${index}` }))
  assert.equal(servicesIn([...records('a').slice(0, 3), ...addresses])[0]!.addresses, ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4'])
  assert.equal(servicesIn(records('a', 0)), [])
})

test('whatever a packet holds, nothing throws', () => {
  const anything = fc.oneof(fc.anything(), fc.constantFrom('A', 'SRV', 'TXT', `x.${serviceDomain}`, '__proto__'))
  const record = fc.record({ name: anything, type: anything, ttl: anything, data: fc.oneof(anything, fc.record({ port: anything, target: anything }), fc.array(fc.uint8Array())) }, { requiredKeys: [] })
  fc.assert(fc.property(fc.array(record), (packet) => {
    for (const service of servicesIn(packet)) addressesOf(service, '10.0.0.1')
  }), runs(2000))
})

test.run()
