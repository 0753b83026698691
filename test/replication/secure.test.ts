/**
 * Groups with a secret or with certificates, as users meet them.
 */
import { pipe } from 'it-pipe'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReplicatedLevel, ReplicatedLevelOptions } from '../../lib/index.ts'
import { makeCertificate } from '../support/certificates.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { rejection } from '../support/rejection.ts'
import { addressOf, closeAll, equal, openDatabase } from '../support/replicas.ts'

const test = suite('secret and tls')
test.after.each(closeAll)

const secret = 'a secret of some length'
const authority = makeCertificate('authority', { authority: true })

function member (name: string): ReplicatedLevelOptions {
  const { key, cert } = makeCertificate(name, { issuer: authority })
  return { tls: { key, cert, ca: authority.cert } }
}

const protections: Record<string, [ReplicatedLevelOptions, ReplicatedLevelOptions]> = {
  secret: [{ secret }, { secret }],
  tls: [member('a'), member('b')]
}

for (const [name, [first, second]] of Object.entries(protections)) {
  test(`${name}: replicas find each other's writes, both ways, and large ones`, async () => {
    const a = await openDatabase(first)
    const b = await openDatabase({ ...second, peers: [addressOf(a)] })
    await a.put('a', 'x'.repeat(5_000_000))
    await b.put('b', '2')
    await b.replication.synced()
    await equal(a, b)
    const [peer] = b.replication.peers()
    assert.ok(peer!.bytes.received > 5_000_000, `${peer!.bytes.received} bytes received`)
  })

  test(`${name}: whoever has none is not let in; the one side is told, and the other finds out what is known there`, async () => {
    const a = await openDatabase(first)
    const stranger = await openDatabase({ peers: [addressOf(a)] })
    await eventually(() => a.errors.length > 0)
    assert.is(a.errors[0]!.code, 'REPLICATION_AUTHENTICATION_FAILED')
    const lastError = await eventually(() => stranger.replication.peers()[0]?.lastError)
    assert.match(lastError!.message, /closed by the peer before it greeted: it may want another secret or certificate$/)
    assert.equal(stranger.errors, [])
    const unprotected = await openDatabase()
    const other = await openDatabase({ ...second, peers: [addressOf(unprotected)] })
    await eventually(() => other.errors.length > 0)
    assert.is(other.errors[0]!.code, 'REPLICATION_AUTHENTICATION_FAILED')
  })

  test(`${name}: a stream is protected too, and nothing else passes it`, async () => {
    const [a, b] = [await openDatabase({ ...first, port: false }), await openDatabase({ ...second, port: false })]
    const stranger = await openDatabase({ port: false })
    await a.put('a', 'not for everybody')
    await b.put('b', '2')
    const seen: Buffer[] = []
    async function * watch (source: AsyncIterable<{ subarray (): Uint8Array }>): AsyncGenerator<Uint8Array> {
      for await (const bytes of source) {
        seen.push(Buffer.from(bytes.subarray()))
        yield bytes.subarray()
      }
    }
    const [left, right] = [a.replication.stream(), b.replication.stream()]
    const piped = pipe(left, watch, right, watch, left)
    await equal(a, b)
    assert.equal(await b.keys().all(), ['a', 'b'])
    assert.not(Buffer.concat(seen).includes('not for everybody'))
    const [in1, in2] = [a.replication.stream(), stranger.replication.stream()]
    pipe(in1, in2, in1).catch(() => {})
    await eventually(() => a.errors.some(({ code }) => code === 'REPLICATION_AUTHENTICATION_FAILED'))
    assert.is(await stranger.get('a'), undefined)
    await closeAll()
    await piped.catch(() => {})
  })

  test(`${name}: with it all interfaces are the default`, async () => {
    const { address } = (await openDatabase(first)).replication
    assert.ok(['::', '0.0.0.0'].includes(address!.host), address!.host)
  })
}

test('without it nothing but loopback is the default, and more is refused with the ways to mend it', async () => {
  assert.is((await openDatabase()).replication.address!.host, '127.0.0.1')
  const error = await rejection(openDatabase({ host: '0.0.0.0' }))
  assert.is(error.code, 'REPLICATION_INVALID_OPTION')
  for (const way of ['secret', 'tls', 'insecure']) assert.match(error.message, way)
  assert.is((await openDatabase({ host: '0.0.0.0', insecure: true })).replication.address!.host, '0.0.0.0')
})

test('a secret that is refused is not told', async () => {
  const error = await rejection(openDatabase({ secret: 'hunter2' }))
  assert.is(error.code, 'REPLICATION_INVALID_OPTION')
  assert.not.match(error.message, 'hunter2')
  assert.match(error.message, 'received one of 7')
})

const { key, cert } = makeCertificate('c', { issuer: authority })
const badCertificates: Record<string, { key: string, cert: string, ca: string }> = {
  'a key that is none': { key: 'x', cert, ca: authority.cert },
  'a certificate that is none': { key, cert: 'x', ca: authority.cert },
  'an authority that is none': { key, cert, ca: 'x' },
  'the key of another certificate': { key: authority.key, cert, ca: authority.cert }
}

for (const [name, tls] of Object.entries(badCertificates)) {
  test(`tls with ${name}: open() fails with a code, and the directory is free again`, async () => {
    const directory = newDirectory()
    const error = await rejection(openDatabase({ tls }, directory))
    assert.is((error.cause as { code: string }).code, 'REPLICATION_INVALID_OPTION')
    assert.match((error.cause as Error).message, 'key, cert and ca')
    assert.not.match((error.cause as Error).message, 'PRIVATE')
    const db: ReplicatedLevel<string, string> = await openDatabase({}, directory)
    await db.put('a', '1')
  })
}

test.run()
