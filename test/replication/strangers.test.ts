/**
 * Who is let in: every kind of replica dials every kind, and attackers that speak TLS themselves try.
 */
import { constants } from 'node:crypto'
import { connect as connectTcp, type AddressInfo, type Socket } from 'node:net'
import { connect, createServer, type ConnectionOptions, type Server, type TlsOptions } from 'node:tls'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReplicatedLevel, ReplicatedLevelOptions, ReplicationError } from '../../lib/index.ts'
import { handshakeTimeoutMs } from '../../lib/limits.ts'
import { deriveGroupKeys } from '../../lib/network/secret.ts'
import { makeCertificate } from '../support/certificates.ts'
import { eventually } from '../support/eventually.ts'
import { closeAll, equal, openDatabase, type Events } from '../support/replicas.ts'
import { recordTypes, tcpProxy } from '../support/tcp-proxy.ts'

type Database = ReplicatedLevel<string, string> & { errors: ReplicationError[] }

const secret = 'a secret of some length'
const key = (await deriveGroupKeys(secret, 'default')).connection
const authority = makeCertificate('authority', { authority: true })
const others = makeCertificate('authority', { authority: true })
const good = makeCertificate('replica', { issuer: authority })

/** A replica that trusts the group's authority, with a certificate of any kind. */
function presenting ({ key, cert }: { key: string, cert: string }): ReplicatedLevelOptions {
  return { tls: { key, cert, ca: authority.cert } }
}

const kinds: Record<string, ReplicatedLevelOptions> = {
  bare: {},
  'bare, another group': { group: 'others' },
  secret: { secret },
  'another secret': { secret: secret + '!' },
  'secret, another group': { secret, group: 'others' },
  certificate: presenting(good),
  'certificate of another authority': presenting(makeCertificate('replica', { issuer: others })),
  'self-signed certificate': presenting(makeCertificate('replica')),
  'expired certificate': presenting(makeCertificate('replica', { issuer: authority, notAfter: new Date(Date.now() - 60_000) })),
  'certificate signed by a member': presenting(makeCertificate('replica', { issuer: good }))
}

const isBare = (kind: string): boolean => kind.startsWith('bare')
const hasCertificate = (kind: string): boolean => kind.includes('certificate')

/** Whether they may talk, and if not, what each side is to say; a side that cannot know says nothing. */
function expected (dialler: string, listener: string): { dialler?: string, listener?: string } | 'greeted' {
  const refused = 'REPLICATION_AUTHENTICATION_FAILED'
  if (hasCertificate(dialler) && hasCertificate(listener)) {
    if (listener !== 'certificate') return { dialler: refused }
    return dialler === 'certificate' ? 'greeted' : { listener: refused }
  }
  if (dialler === listener) return 'greeted'
  if (isBare(dialler) && isBare(listener)) return { dialler: 'REPLICATION_GROUP_MISMATCH', listener: 'REPLICATION_GROUP_MISMATCH' }
  return isBare(dialler) ? { listener: refused } : { dialler: refused, listener: refused }
}

const pairs = suite('strangers: every pair')
const diallers = new Map<string, Database>()

pairs.before(async () => {
  for (const [kind, options] of Object.entries(kinds)) diallers.set(kind, await openDatabase({ ...options, port: false }))
})
pairs.after(closeAll)

for (const from of Object.keys(kinds)) {
  for (const to of Object.keys(kinds)) {
    pairs(`${from} dials ${to}`, async () => {
      // A new one each time: strangers of one host are told of once.
      const [dialler, listener] = [diallers.get(from)!, await openDatabase({ ...kinds[to], host: '127.0.0.1' })]
      await listener.put(to, 'a value')
      const greetings: string[] = []
      for (const db of [dialler, listener]) for (const event of ['connect', 'connection']) (db as Events).once(event, () => { greetings.push(event) })
      dialler.errors.length = 0
      const proxy = await tcpProxy(listener.replication.address!.port)
      const address = `127.0.0.1:${proxy.port}`
      dialler.replication.connect(address)
      const outcome = expected(from, to)
      if (outcome === 'greeted') {
        await eventually(() => greetings.length === 2)
        await eventually(async () => await dialler.get(to) === 'a value')
      } else {
        for (const [db, code] of [[dialler, outcome.dialler], [listener, outcome.listener]] as const) {
          if (code === undefined) continue
          const error = await eventually(() => db.errors.find((error) => error.code === code), { message: `${code} from ${db === dialler ? from : to}; has ${db.errors.map(({ code }) => code).join()}` })
          assert.match(error!.message, db === dialler ? address : /127\.0\.0\.1:\d+/)
        }
        assert.equal(greetings, [])
        assert.is(await dialler.get(to), undefined)
        // In TLS 1.2 the types of records are in the clear; in 1.3 see below.
        if (!isBare(from) && !hasCertificate(from)) assert.not(recordTypes(Buffer.concat(proxy.fromDialler)).includes(23), 'data of the dialler')
        if (!isBare(to) && !hasCertificate(to)) assert.not(recordTypes(Buffer.concat(proxy.fromListener)).includes(23), 'data of the listener')
        for (const [kind, said] of [[from, proxy.fromDialler], [to, proxy.fromListener]] as const) {
          if (!isBare(kind)) assert.not(Buffer.concat(said).includes(kinds[kind]!.group ?? 'default'), `${kind} names its group`)
        }
      }
      dialler.replication.disconnect(address)
      await eventually(() => dialler.replication.peers().length + listener.replication.peers().length === 0)
      proxy.close()
      for (const event of ['connect', 'connection']) (dialler as Events).removeAllListeners(event)
      await listener.close()
    })
  }
}

pairs.run()

const attacks = suite('strangers: attackers')
const open: Array<{ close (): void } | { destroy (): void }> = []
attacks.after.each(async () => {
  for (const each of open.splice(0)) 'destroy' in each ? each.destroy() : each.close()
  await closeAll()
})

/** A server of TLS that would tell us whatever a replica says to it. */
async function rogueServer (options: TlsOptions): Promise<{ address: string, heard: Buffer[], outcomes: string[] }> {
  const heard: Buffer[] = []
  const outcomes: string[] = []
  const server: Server = createServer(options, (socket) => {
    outcomes.push('secure')
    socket.on('data', (bytes) => { heard.push(bytes) }).on('error', () => {})
    socket.write('\x07\x01welcome')
  })
  server.on('tlsClientError', (error: Error & { code?: string }) => { outcomes.push(error.code ?? error.message) })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  open.push(server)
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, heard, outcomes }
}

/** A client of TLS that says a frame as soon as it may, and tells what it hears until it is shut out. */
async function rogueClient (db: Database, options: ConnectionOptions, words = '\x01\x07'): Promise<Buffer> {
  const heard: Buffer[] = []
  const socket = connect({ port: db.replication.address!.port, host: '127.0.0.1', checkServerIdentity: () => undefined, rejectUnauthorized: false, ...options })
  open.push(socket)
  socket.on('data', (bytes) => { heard.push(bytes) })
  socket.on('secureConnect', () => { socket.write(words) })
  socket.on('error', () => {})
  await new Promise((resolve) => { socket.once('close', resolve) })
  return Buffer.concat(heard)
}

const psk = (ciphers: string, key: Buffer, versions: object = { maxVersion: 'TLSv1.2' }): ConnectionOptions & TlsOptions => ({
  ciphers,
  ...versions,
  pskCallback: ((...args: unknown[]) => args.length === 2 ? key : { psk: key, identity: 'replicated-level' }) as never
})
const trusted = { key: good.key, cert: good.cert, ca: authority.cert }
const weak = 'PSK-AES256-GCM-SHA384:PSK-AES128-CBC-SHA:DHE-PSK-AES256-GCM-SHA384:@SECLEVEL=0'
const right = 'ECDHE-PSK-CHACHA20-POLY1305'

const rogueServers: Record<string, [ReplicatedLevelOptions, TlsOptions]> = {
  'TLS 1.3 with a certificate, where a secret is wanted': [{ secret }, { ...trusted, minVersion: 'TLSv1.3' }],
  'TLS 1.2 with a certificate, where a secret is wanted': [{ secret }, { ...trusted, maxVersion: 'TLSv1.2' }],
  'TLS of any version, with a certificate and the wrong key': [{ secret }, { ...trusted, ...psk(`${right}:HIGH`, Buffer.alloc(32), {}) }],
  'the wrong key': [{ secret }, psk(right, Buffer.alloc(32))],
  'the right key, and weak ciphers only': [{ secret }, psk(weak, key)],
  'no certificate at all, where one is wanted': [presenting(good), { ciphers: 'ADH-AES256-GCM-SHA384:@SECLEVEL=0', maxVersion: 'TLSv1.2' }],
  'a certificate of another authority': [presenting(good), makeCertificate('replica', { issuer: others })],
  'a good certificate in TLS 1.2': [presenting(good), { ...trusted, maxVersion: 'TLSv1.2' }]
}

for (const [name, [options, server]] of Object.entries(rogueServers)) {
  attacks(`a replica says nothing to a server with ${name}`, async () => {
    const rogue = await rogueServer(server)
    const db = await openDatabase({ ...options, port: false, peers: [rogue.address] })
    const error = await eventually(() => db.errors.find(({ code }) => code === 'REPLICATION_AUTHENTICATION_FAILED'))
    assert.match(error!.message, rogue.address)
    await eventually(() => rogue.outcomes.length > 0)
    assert.is(Buffer.concat(rogue.heard).length, 0)
    assert.is(db.replication.peers()[0]!.id, undefined)
  })
}

const rogueClients: Record<string, [ReplicatedLevelOptions, ConnectionOptions]> = {
  'a certificate, where a secret is wanted': [{ secret }, trusted],
  'the wrong key': [{ secret }, psk(right, Buffer.alloc(32))],
  'the right key under another name': [{ secret }, { ...psk(right, key), pskCallback: () => ({ psk: key, identity: 'somebody' }) }],
  'the right key, and weak ciphers only': [{ secret }, psk(weak, key)],
  'no certificate': [presenting(good), { ca: authority.cert }],
  'a certificate of another authority': [presenting(good), makeCertificate('replica', { issuer: others })],
  'a certificate that it signed itself': [presenting(good), makeCertificate('replica')],
  'an expired certificate': [presenting(good), makeCertificate('replica', { issuer: authority, notAfter: new Date(Date.now() - 60_000) })],
  'a good certificate in TLS 1.2': [presenting(good), { ...trusted, maxVersion: 'TLSv1.2' }],
  'a secret, where a certificate is wanted': [presenting(good), psk(right, key)]
}

for (const [name, [options, client]] of Object.entries(rogueClients)) {
  attacks(`a client with ${name} hears nothing`, async () => {
    const db = await openDatabase(options)
    assert.is((await rogueClient(db, client)).length, 0)
    const error = await eventually(() => db.errors[0])
    assert.is(error!.code, 'REPLICATION_AUTHENTICATION_FAILED')
    assert.match(error!.message, /127\.0\.0\.1:\d+/)
  })
}

attacks('the rogues are as able as they have to be: with the right key, and with the right certificate, they hear the hello', async () => {
  const [bySecret, byCertificate] = [await openDatabase({ secret }), await openDatabase(presenting(good))]
  for (const [db, options] of [[bySecret, psk(right, key)], [byCertificate, trusted]] as const) {
    assert.ok((await rogueClient(db, options, '')).includes('default'), 'it heard the hello')
  }
})

for (const [name, options] of [['a secret', { secret }], ['certificates', presenting(good)]] as const) {
  attacks(`${name}: what was recorded opens nothing when it is said again`, async () => {
    const listener = await openDatabase(options)
    const proxy = await tcpProxy(listener.replication.address!.port)
    open.push(proxy)
    const dialler = await openDatabase({ ...options, port: false, peers: [`127.0.0.1:${proxy.port}`] })
    await dialler.put('key', 'value')
    await equal(dialler, listener)
    await dialler.close()
    const recorded = Buffer.concat(proxy.fromDialler)
    const before = JSON.stringify([listener.replication.status().vector, listener.replication.status().members.map(({ id }) => id)])
    const heard = await new Promise<Buffer>((resolve) => {
      const chunks: Buffer[] = []
      const socket: Socket = connectTcp(listener.replication.address!.port, '127.0.0.1')
      open.push(socket)
      socket.on('data', (bytes) => { chunks.push(bytes) }).on('error', () => {}).once('close', () => { resolve(Buffer.concat(chunks)) })
      socket.write(recorded)
    })
    const error = await eventually(() => listener.errors.find(({ code }) => code === 'REPLICATION_AUTHENTICATION_FAILED'))
    assert.match(error!.message, /127\.0\.0\.1:\d+/)
    if (name === 'a secret') assert.not(recordTypes(heard).includes(23), 'no data came back')
    assert.is(JSON.stringify([listener.replication.status().vector, listener.replication.status().members.map(({ id }) => id)]), before)
    // The other way round: a server that says again what the listener said.
    const echo = await tcpProxy(listener.replication.address!.port, (bytes, direction) => direction === 'fromListener' ? proxy.fromListener[0]! : bytes)
    open.push(echo)
    const victim = await openDatabase({ ...options, port: false, peers: [`127.0.0.1:${echo.port}`] })
    await eventually(() => victim.errors.some(({ code }) => code === 'REPLICATION_AUTHENTICATION_FAILED'))
  })

  attacks(`${name}: a byte that was changed on its way ends the link, and nothing of it is taken in`, async () => {
    const listener = await openDatabase(options)
    let meddling = false
    let meddled = false
    const proxy = await tcpProxy(listener.replication.address!.port, (bytes, direction) => {
      // Nor is the dialler told: the listener has to notice by itself.
      if (meddled && direction === 'fromListener') return Buffer.alloc(0)
      if (!meddling || bytes.length < 1000) return bytes
      meddling = false
      meddled = true
      const changed = Buffer.from(bytes)
      changed[500]! ^= 1
      return changed
    })
    open.push(proxy)
    const dialler = await openDatabase({ ...options, port: false, peers: [`127.0.0.1:${proxy.port}`] })
    await eventually(() => listener.replication.peers()[0]?.state === 'live')
    const ended = new Promise((resolve) => { (listener as Events).once('disconnect', (_host, _port, error) => { resolve(error) }) })
    meddling = true
    await dialler.put('key', 'x'.repeat(100_000))
    const { code, cause } = await ended as ReplicationError
    assert.is(code, 'REPLICATION_DISCONNECTED')
    assert.match((cause as NodeJS.ErrnoException).code!, /^(ERR_SSL_|EPROTO$)/, 'not by its silence')
    meddled = false
    await equal(dialler, listener)
    assert.is((await listener.get('key'))!.length, 100_000)
  })
}

for (const [name, wrong] of [['another secret', { secret: secret + '!' }], ['an expired certificate', kinds['expired certificate']!]] as const) {
  attacks(`who comes again and again with ${name} is told of once, at each end`, async () => {
    const listener = await openDatabase('secret' in wrong ? { secret } : presenting(good))
    const proxy = await tcpProxy(listener.replication.address!.port)
    open.push(proxy)
    const dialler = await openDatabase({ ...wrong, port: false, peers: [`127.0.0.1:${proxy.port}`] })
    await eventually(() => proxy.connections >= 4)
    assert.equal(listener.errors.map(({ code }) => code), ['REPLICATION_AUTHENTICATION_FAILED'])
    // The listener alone looks at a certificate, and hangs up.
    assert.equal(dialler.errors.map(({ code }) => code), 'secret' in wrong ? ['REPLICATION_AUTHENTICATION_FAILED'] : [])
  })
}

attacks('a session of the past is not taken up again', async () => {
  const db = await openDatabase(presenting(good))
  let session: Buffer | undefined
  const first = connect({ port: db.replication.address!.port, host: '127.0.0.1', checkServerIdentity: () => undefined, ...trusted })
  open.push(first)
  first.on('session', (each) => { session = each }).on('error', () => {})
  await eventually(() => session)
  first.destroy()
  const heard = await rogueClient(db, { ca: authority.cert, session: session! })
  assert.is(heard.length, 0)
  await eventually(() => db.errors.some(({ code }) => code === 'REPLICATION_AUTHENTICATION_FAILED'))
})

attacks('renegotiation is refused', async () => {
  const db = await openDatabase({ secret })
  const socket = connect({ port: db.replication.address!.port, host: '127.0.0.1', checkServerIdentity: () => undefined, ...psk(right, key), secureOptions: constants.SSL_OP_LEGACY_SERVER_CONNECT })
  open.push(socket)
  socket.resume().on('error', () => {})
  await new Promise((resolve) => { socket.once('secureConnect', resolve) })
  const outcome = await new Promise<Error | null | 'closed'>((resolve) => {
    socket.once('close', () => { resolve('closed') })
    socket.renegotiate({}, resolve)
  })
  assert.ok(outcome !== null, 'it did not succeed')
})

attacks('a handshake that is never finished ends at its time limit, and its socket with it', async () => {
  const dbs = [await openDatabase({ secret }), await openDatabase(presenting(good))] as Database[]
  const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
  const before = sockets()
  await Promise.all(dbs.map(async (db) => {
    const socket = connectTcp(db.replication.address!.port, '127.0.0.1')
    open.push(socket)
    const startMs = performance.now()
    socket.on('error', () => {}).resume().write(Buffer.from('1603010200010001fc0303', 'hex'))
    const timer = setInterval(() => { socket.write('x') }, 500)
    await new Promise((resolve) => { socket.once('close', resolve) })
    clearInterval(timer)
    const tookMs = performance.now() - startMs
    assert.ok(tookMs > handshakeTimeoutMs - 100, `${tookMs} ms`)
    assert.equal(db.errors.map(({ code }) => code), ['REPLICATION_TIMEOUT'])
    assert.match(db.errors[0]!.message, /127\.0\.0\.1:\d+/)
  }))
  await eventually(() => sockets() <= before)
})

attacks('whoever leaves in the middle of the handshake has left, and is no trouble', async () => {
  for (const kind of ['secret', 'certificate']) {
    const db = await openDatabase(kinds[kind]!) as Database
    const left = async (say: (socket: Socket) => void): Promise<void> => {
      await new Promise<void>((resolve) => {
        const socket = connectTcp({ port: db.replication.address!.port, host: '127.0.0.1', allowHalfOpen: true }, () => { say(socket) })
        socket.on('error', () => {}).on('end', resolve).on('close', resolve).resume()
      })
    }
    for (const say of [(socket: Socket) => socket.end(), (socket: Socket) => socket.end(Buffer.from('1603010200010001fc0303', 'hex'))]) await left(say)
    assert.equal(db.errors, [], 'none was kept until the time limit, which would be told')
  }
})

attacks.run()
