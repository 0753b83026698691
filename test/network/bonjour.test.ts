/**
 * What must not happen to Bonjour, or through it: each fault that was seen, over loopback on a port of its own.
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReplicationError } from '../../lib/errors.ts'
import { BonjourDiscovery } from '../../lib/network/bonjour.ts'
import type { ActiveDiscovery } from '../../lib/network/discovery.ts'
import { GroupToken, groupKey } from '../../lib/network/group-token.ts'
import type { MachineInterfaces } from '../../lib/network/interfaces.ts'
import { system } from '../../lib/system.ts'
import type { Address } from '../../lib/types.ts'
import { eventually } from '../support/eventually.ts'
import { LoopWatch } from '../support/loop-watch.ts'
import { bytesHeld } from '../support/memory-use.ts'
import { announcement, dns, freeUdpPort, multicastGroup, multicastSocket } from '../support/multicast.ts'

const test = suite('Bonjour')
const token = new GroupToken(groupKey('shop'), (size) => system.randomBytes(size))
const active = new Set<ActiveDiscovery>()
const sockets = new Set<Socket>()
const domain = '_replicatedlevel._tcp.local'
let port: number

test.before.each(async () => { port = await freeUdpPort() })
test.after.each(async () => {
  await Promise.all([...active].map(async (each) => { await each.close() }))
  active.clear()
  for (const socket of sockets) socket.close()
  sockets.clear()
})

function start ({ address = { host: '127.0.0.1', port: 9000 } as Address | undefined, interfaces = undefined as (() => MachineInterfaces) | undefined, clock = system } = {}) {
  const found: string[] = []
  const errors: ReplicationError[] = []
  let changes = 0
  const discovery = new BonjourDiscovery({ system: clock, ...(interfaces === undefined ? {} : { interfaces }) }).start({
    token,
    address,
    machineOnly: true,
    interfaces: undefined,
    port,
    onFound: ({ host, port }) => { found.push(`${host}:${port}`) },
    onNetworkChanged: () => { changes++ },
    onError: (error) => { errors.push(error) }
  })
  active.add(discovery)
  return { found, errors, discovery, get changes () { return changes } }
}

/** Somebody else on the network, and all that he hears. */
async function neighbour () {
  const socket = await multicastSocket(port)
  sockets.add(socket)
  const heard: any[] = []
  socket.on('message', (bytes) => { if (bytes.length > 12 && bytes.length < 4096) heard.push(dns.decode(bytes)) })
  return {
    heard,
    say: async (bytes: Buffer): Promise<void> => { await new Promise((resolve) => { socket.send(bytes, port, multicastGroup, resolve) }) },
    answers: () => heard.filter(({ type }) => type === 'response')
  }
}

const forged = (name: string): { name: string, port: number, text: string[] } => ({ name, port: 9001, text: ['v=1', 's=AAAAAAAAAAAAAAAAAAAAAA', 'd=AAAAAAAAAAAAAAAAAAAAAA'] })
function genuine (name: string, at = 9001): { name: string, port: number, text: string[] } {
  const { salt, digest } = token.make(at)
  return { name, port: at, text: ['v=1', `s=${salt}`, `d=${digest}`] }
}

test('an announcement names neither machine nor group, and is withdrawn at the end', async () => {
  const other = await neighbour()
  const { discovery } = start()
  const [first] = await eventually(() => other.answers().length > 0 ? other.answers() : undefined) as any[]
  const text = JSON.stringify(first)
  assert.not.match(text, /shop/)
  const { hostname } = await import('node:os')
  assert.not(text.includes(hostname()))
  assert.ok(first.answers.some(({ type, name }: { type: string, name: string }) => type === 'PTR' && name === domain))
  await discovery.close()
  await eventually(() => other.answers().some(({ answers }) => answers.every(({ ttl }: { ttl: number }) => ttl === 0)))
})

test('who asks is answered, and asking much does not make it talk much', async () => {
  const other = await neighbour()
  start()
  await eventually(() => other.answers().length > 0)
  other.heard.length = 0
  const question = dns.encode({ type: 'query', questions: Array.from({ length: 50 }, () => ({ name: domain, type: 'PTR' })) })
  const startMs = performance.now()
  for (let i = 0; i < 500; i++) await other.say(question)
  await eventually(() => other.answers().length > 0)
  const tookMs = performance.now() - startMs
  assert.ok(other.answers().length <= 2 + tookMs / 20 * 2, `${other.answers().length} answers in ${tookMs} ms`)
})

test('it asks again, less and less, and hears itself', async () => {
  const other = await neighbour()
  const { errors } = start()
  await eventually(() => other.heard.filter(({ type, questions }) => type === 'query' && questions[0].name === domain).length >= 2)
  assert.equal(errors, [])
})

test('the port held by somebody else: told once, tried again, nothing dies', async () => {
  const greedy = createSocket('udp4').bind(port, '0.0.0.0')
  sockets.add(greedy)
  await once(greedy, 'listening')
  let nowMs = 0
  const clock = { ...system, monotonicMs: () => system.monotonicMs() + nowMs }
  const { errors, found } = start({ clock })
  await eventually(() => errors.length > 0)
  assert.is(errors[0]!.code, 'REPLICATION_DISCOVERY')
  assert.match(errors[0]!.message, /EADDRINUSE/)
  nowMs += 60_000
  await new Promise((resolve) => { setTimeout(resolve, 2500) })
  assert.is(errors.length, 1)
  sockets.delete(greedy)
  greedy.close()
  nowMs += 120_000
  const other = await neighbour()
  await eventually(async () => { await other.say(announcement([genuine('late')])); return found.length > 0 })
})

test('interfaces that come, change and go are followed; a fault of the machine is told', async () => {
  const lo = (address: string): MachineInterfaces => ({ lo: [{ address, netmask: '255.0.0.0', family: 'IPv4', mac: '00:00:00:00:00:00', internal: true }] })
  let machine: MachineInterfaces | Error = lo('127.0.0.1')
  const context = start({ interfaces: () => { if (machine instanceof Error) throw machine; return machine } })
  const other = await neighbour()
  await eventually(() => other.answers().length > 0)
  machine = {}
  await eventually(() => other.answers().some(({ answers }) => answers[0]?.ttl === 0), { message: 'withdrawn' })
  await eventually(() => context.changes === 1)
  other.heard.length = 0
  machine = lo('127.0.0.1')
  await eventually(() => context.changes === 2)
  await eventually(() => other.answers().some(({ answers }) => answers[0]?.ttl > 0), { message: 'announced again' })
  machine = new Error('planted')
  await eventually(() => context.errors.length === 1)
  assert.is(context.errors[0]!.code, 'REPLICATION_DISCOVERY')
})

test('an interface that was made again between two looks has another index, and gets another instance', async () => {
  const with6 = (scopeid: number): MachineInterfaces => ({
    lo: [
      { address: '127.0.0.1', netmask: '255.0.0.0', family: 'IPv4', mac: '', internal: true },
      { address: 'fe80::1', netmask: '', family: 'IPv6', mac: '', internal: true, scopeid }
    ]
  })
  let machine = with6(0)
  start({ interfaces: () => machine })
  const other = await neighbour()
  await eventually(() => other.answers().length > 0)
  const name = (packet: any): string => [...packet.answers, ...packet.additionals].find(({ type }: { type: string }) => type === 'SRV').name
  const before = name(other.answers()[0])
  machine = with6(7)
  await new Promise((resolve) => { setTimeout(resolve, 2500) })
  assert.ok(other.answers().every((packet) => name(packet) === before), 'an index that becomes known is no change')
  machine = with6(8)
  await eventually(() => other.answers().some((packet) => name(packet) !== before))
})

test('garbage, giants, strangers and forged services: a hundred thousand of them leave no trace, and the genuine one is found', async () => {
  const { found, errors } = start()
  const other = await neighbour()
  await eventually(() => other.answers().length > 0)
  const before = await bytesHeld()
  const loop = new LoopWatch()
  await other.say(Buffer.alloc(3))
  await other.say(Buffer.alloc(5000, 0xff))
  await other.say(dns.encode({ type: 'response', answers: Array.from({ length: 1500 }, () => ({ name: domain, type: 'PTR', ttl: 120, data: domain })) }))
  for (let i = 0; i < 10_000; i++) {
    await other.say(announcement(Array.from({ length: 10 }, (_, part) => forged(`f${i}-${part}`))))
    await new Promise((resolve) => { setImmediate(resolve) }) // so that it is heard, before the next one
    other.heard.length = 0
  }
  const heldMs = loop.end()
  await eventually(async () => { await other.say(announcement([genuine('late')])); return found.includes('127.0.0.1:9001') }, { message: 'the genuine one is found' })
  assert.equal([...new Set(found)], ['127.0.0.1:9001'])
  assert.equal(errors, [])
  assert.ok(heldMs < 100, `the event loop was held for ${heldMs} ms`)
  const more = await bytesHeld() - before
  console.log(`  event loop held for ${heldMs.toFixed(0)} ms, ${(more / 2 ** 20).toFixed(1)} MiB more`)
  assert.ok(more < 16 * 1024 * 1024, `${more} bytes more`)
})

test.run()
