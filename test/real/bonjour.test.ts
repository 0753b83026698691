/**
 * Bonjour where it does not work: a firewall, the port held by somebody else, a deaf socket. Replicas live on, say so
 * once, and find each other when the cause is gone.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { filter, NetworkLab, noLab, type LabHost } from '../support/network-lab.ts'
import { converged, ReplicaProcess } from '../support/replica-process.ts'

const test = suite('Bonjour in trouble')
const why = noLab ?? (filter === undefined ? 'to filter packets takes nft (nftables) or iptables' : undefined)
if (why !== undefined) console.log(`SKIPPED, all of it: ${why}`)
const onNetwork = why === undefined ? test : test.skip

const replicas: ReplicaProcess[] = []
let lab: NetworkLab | undefined
let a: LabHost
let b: LabHost
const options = { group: 'shop', secret: randomBytes(24).toString('base64url'), host: undefined, discovery: true }

test.before.each(() => {
  if (why !== undefined) return
  lab = new NetworkLab()
  a = lab.host('a')
  b = lab.host('b')
  a.plug('eth0', 'br0', '10.7.0.1')
  b.plug('eth0', 'br0', '10.7.0.2')
})
test.after.each(async () => {
  await Promise.all(replicas.splice(0).map(async (replica) => { await replica.kill() }))
  lab?.close()
})

onNetwork('a firewall that refuses multicast: told once, peers work, and so does Bonjour when it is open', async () => {
  a.block(['224.0.0.251'], ['to'])
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9001 }, a))
  const errors = await eventually(async () => {
    const all = await replicas[0]!.do('errors')
    return all.length > 0 ? all : undefined
  })
  assert.ok(errors.every((error: string) => error.startsWith('REPLICATION_DISCOVERY')), errors.join('\n'))
  a.unblock()
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9002 }, b))
  await replicas[0]!.do('put', { key: 'key', value: 'value' })
  await converged(replicas)
  assert.is(new Set(await replicas[0]!.do('errors')).size, (await replicas[0]!.do('errors')).length)
})

onNetwork('the port held by somebody else: told, and used once it is free', async () => {
  const holder = spawn('ip', ['netns', 'exec', a.namespace, process.execPath, '-e', "require('dgram').createSocket('udp4').bind(5353, () => console.log('held'))"])
  await new Promise((resolve) => { holder.stdout.once('data', resolve) })
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9001 }, a))
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9002 }, b))
  await eventually(async () => (await replicas[0]!.do('errors')).some((error: string) => error.includes('EADDRINUSE')))
  assert.equal(await replicas[0]!.do('peers'), [])
  holder.kill()
  await replicas[0]!.do('put', { key: 'key', value: 'value' })
  await converged(replicas)
})

onNetwork('a socket that is deaf, since its interface was made again and looks the same, is replaced', async () => {
  a.unplug('eth0')
  a.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6')
  const plug = (): void => { a.plug('eth0', 'br0', '10.7.0.1', '02:00:00:00:00:0a') }
  plug()
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9001 }, a))
  await replicas[0]!.do('put', { key: 'key', value: 'value' })
  a.unplug('eth0')
  plug()
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: false }, b))
  await converged(replicas)
})

onNetwork('a network without a default route, and a host without any network, find each other once there is a cable', async () => {
  a.run('ip', 'route', 'del', 'default')
  b.unplug('eth0')
  for (const host of [a, b]) replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9001 }, host))
  await replicas[0]!.do('put', { key: 'key', value: 'value' })
  b.plug('eth0', 'br0', '10.7.0.2')
  b.run('ip', 'route', 'del', 'default')
  await converged(replicas)
  assert.equal([...await replicas[0]!.do('errors'), ...await replicas[1]!.do('errors')], [])
})

test.run()
