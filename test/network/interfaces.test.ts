import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isIpv6Only, isOnLink, isReachableOver, usableInterfaces, type MachineInterfaces } from '../../lib/network/interfaces.ts'

const one = (address: string, internal = false, family = 'IPv4', scopeid = 0) => ({ address, netmask: '255.255.255.0', family, mac: '02:00:00:00:00:01', internal, scopeid })
const machine: MachineInterfaces = {
  lo: [one('127.0.0.1', true), one('::1', true, 'IPv6')],
  eth0: [one('10.0.0.1'), one('fe80::1', false, 'IPv6', 7)],
  wlan0: [one('192.168.1.1')],
  gone: undefined
}
const all = { machineOnly: false, interfaces: undefined, address: { host: '0.0.0.0', port: 1 } }
const addresses = (choice: object, of = machine): string[] => usableInterfaces(of, { ...all, ...choice }).map(({ address }) => address)

test('every network, and loopback where it is the only way', () => {
  assert.equal(addresses({}), ['10.0.0.1', '192.168.1.1'])
  assert.equal(addresses({ machineOnly: true }), ['127.0.0.1'])
  assert.equal(addresses({ address: { host: '127.0.0.1', port: 1 } }), ['10.0.0.1', '192.168.1.1', '127.0.0.1'])
  assert.equal(addresses({}, { lo: machine.lo }), ['127.0.0.1'])
  assert.equal(addresses({}, {}), [])
})

test('or those that are named, by name or address', () => {
  assert.equal(addresses({ interfaces: ['wlan0', 'eth9'] }), ['192.168.1.1'])
  assert.equal(addresses({ interfaces: ['10.0.0.1'] }), ['10.0.0.1'])
})

test('only IPv6 is noticed, once it is a network', () => {
  assert.not(isIpv6Only(machine))
  assert.not(isIpv6Only({ lo: machine.lo }))
  assert.not(isIpv6Only({ eth0: [one('fe80::1', false, 'IPv6', 7)] }))
  assert.ok(isIpv6Only({ lo: machine.lo, eth0: [one('2001:db8::1', false, 'IPv6')] }))
})

test('an interface that was made again has another index', () => {
  assert.equal(usableInterfaces(machine, all).map(({ index }) => index), [7, undefined])
})

test('neighbours are told from those far away', () => {
  const network = { address: '10.1.2.3', netmask: '255.255.0.0' }
  assert.ok(isOnLink(network, '10.1.200.1'))
  assert.not(isOnLink(network, '10.2.2.3'))
  assert.not(isOnLink(network, '127.0.0.1'))
  assert.ok(isOnLink({ address: '10.1.2.3', netmask: '255.255.255.255' }, '10.9.9.9'))
  assert.ok(isOnLink({ address: '200.1.2.3', netmask: '255.0.0.0' }, '200.200.1.1'))
})

test('a replica is announced where it can be dialled', () => {
  const [network] = usableInterfaces(machine, all)
  for (const host of ['0.0.0.0', '::', '10.0.0.1']) assert.ok(isReachableOver(network!, { host, port: 1 }))
  for (const host of ['127.0.0.1', '192.168.1.1']) assert.not(isReachableOver(network!, { host, port: 1 }))
})

test.run()
