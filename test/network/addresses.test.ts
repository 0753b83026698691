import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import { ReplicationError } from '../../lib/errors.ts'
import { formatAddress, parseAddress } from '../../lib/network/addresses.ts'
import { runs } from '../support/seed.ts'

const understood: Array<[text: string, host: string, port: number]> = [
  ['10.0.0.2:9000', '10.0.0.2', 9000],
  ['10.0.0.2', '10.0.0.2', 9000],
  ['db.example.com:1', 'db.example.com', 1],
  ['Db.Example.COM:65535', 'db.example.com', 65_535],
  ['my_service-1', 'my_service-1', 9000],
  ['bücher.example:80', 'bücher.example', 80],
  ['[::1]:9001', '::1', 9001],
  ['[::1]', '::1', 9000],
  ['[2001:DB8:0:0:0:0:0:1]:9000', '2001:db8::1', 9000],
  ['[::ffff:10.0.0.2]:9000', '10.0.0.2', 9000],
  ['[fe80::1%eth0]:9000', 'fe80::1%eth0', 9000]
]

for (const [text, host, port] of understood) {
  test(`'${text}' is host ${host}, port ${port}`, () => {
    assert.equal(parseAddress(text), { host, port })
  })
}

const garbage: unknown[] = [
  '', ':9000', 'host:', 'host:0', 'host:65536', 'host:-1', 'host:1e3', 'host:9000x', 'host: 9000', ' host:9000', 'host:9000\n', '::1',
  '::1:9000', '[::1', '[::1]9000', '[]:9000', '[host]:9000', '[10.0.0.2]:9000', '[::1%]:9000', 'http://host:9000', 'host/path',
  'a b', 'a..b', '-a', '9000', '10.0.0:9000', '10.0.0.256:9000', 'x'.repeat(254), undefined, null, 9000, {}, ['host:9000'], Symbol('host')
]

for (const value of garbage) {
  test(`${String(JSON.stringify(value) ?? String(value)).slice(0, 40)} is refused, with what was received`, () => {
    try {
      parseAddress(value)
    } catch (error) {
      assert.instance(error, ReplicationError)
      assert.is((error as ReplicationError).code, 'REPLICATION_INVALID_OPTION')
      assert.match((error as ReplicationError).message, typeof value === 'string' ? `'${value}'` : value === null ? 'null' : typeof value)
      return
    }
    assert.unreachable('it was accepted')
  })
}

test('addresses that mean the same have one text', () => {
  const texts = ['[::1]', '[::1]:9000', '[0:0:0:0:0:0:0:1]:9000', '[0::0001]:09000']
  assert.equal(new Set(texts.map((text) => formatAddress(parseAddress(text)))), new Set(['[::1]:9000']))
  assert.is(formatAddress({ host: 'LocalHost', port: 9000 }), 'localhost:9000')
  assert.is(formatAddress({ host: '::FFFF:127.0.0.1', port: 9000 }), '127.0.0.1:9000')
  assert.is(formatAddress({ host: '::FFFF:127.0.0.1', port: 0 }), '127.0.0.1:0')
})

test('an address survives its text, whatever it is', () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain())
  fc.assert(fc.property(host, fc.integer({ min: 1, max: 65_535 }), (host, port) => {
    const text = formatAddress({ host, port })
    assert.is(formatAddress(parseAddress(text)), text)
    assert.is(parseAddress(text).port, port)
  }), runs(2000))
})

test('any text either is an address or is refused with the code', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'[]:.%0a1-') })), (text) => {
    try {
      const formatted = formatAddress(parseAddress(text))
      assert.is(formatAddress(parseAddress(formatted)), formatted)
    } catch (error) {
      assert.is((error as ReplicationError).code, 'REPLICATION_INVALID_OPTION', (error as Error).message)
    }
  }), runs(5000))
})

test.run()
