/**
 * Five replicas with a group and a secret, and nothing else, on networks that are cut, bent and taken apart. Each is a
 * process on a host of its own; see `support/network-lab.ts`.
 */
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { filter, NetworkLab, noLab, type LabHost } from '../support/network-lab.ts'
import { converged, ReplicaProcess } from '../support/replica-process.ts'

const test = suite('networks')
if (noLab !== undefined) console.log(`SKIPPED, all of it: ${noLab}`)
else if (filter === undefined) console.log('SKIPPED, in part: to filter packets takes nft (nftables) or iptables')
const onNetwork = noLab === undefined ? test : test.skip
const onFilteredNetwork = noLab === undefined && filter !== undefined ? test : test.skip

/** Longer than a link lives of which nothing is heard. */
const cutMs = 8500

let lab: NetworkLab
const hosts: LabHost[] = []
const replicas: ReplicaProcess[] = []
const options = { group: 'shop', secret: randomBytes(24).toString('base64url'), port: undefined, host: undefined, discovery: true }
const open = async (host: LabHost): Promise<ReplicaProcess> => await ReplicaProcess.open(newDirectory(), options, host)

const address = (index: number): string => `10.7.0.${index + 1}`
const pass = async (ms: number): Promise<void> => { await new Promise((resolve) => { setTimeout(resolve, ms) }) }

test.after(async () => {
  await Promise.all(replicas.map(async (replica) => { await replica.kill() }))
  lab?.close()
})

let writes = 0
/** Each of them writes. */
async function write (some = replicas): Promise<void> {
  await Promise.all(some.map(async (replica) => { await replica.do('put', { key: `key-${++writes}`, value: `value-${writes}` }) }))
}

/** Whether these are not linked with any other. */
async function isolated (some: number[]): Promise<boolean> {
  const ids: string[] = await Promise.all(replicas.map(async (replica) => await replica.do('id')))
  const linked = await Promise.all(some.map(async (index) => (await replicas[index]!.do('peers')).flatMap(({ id }: { id?: string }) => id ?? [])))
  const own = new Set(some.map((index) => ids[index]))
  return linked.flat().every((id) => own.has(id))
}

/** Lasts until links have died of it, with writes on all sides; then how long it takes until all are equal again. */
async function heals (what: string, cut: () => void, mend: () => void, { alone = undefined as number[] | undefined, lastsMs = cutMs } = {}): Promise<void> {
  cut()
  await write()
  await pass(lastsMs)
  if (alone !== undefined) await eventually(async () => await isolated(alone), { message: `${what}: they are cut off` })
  await write()
  mend()
  const startMs = performance.now()
  const { count } = await converged(replicas)
  console.log(`  ${what}: equal again after ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
  assert.is(count, writes)
}

onNetwork('five with a group and a secret find each other and converge', async () => {
  lab = new NetworkLab(['br0', 'br1'])
  for (let index = 0; index < 5; index++) {
    const host = lab.host(`h${index}`)
    host.plug('eth0', 'br0', address(index))
    hosts.push(host)
  }
  replicas.push(...await Promise.all(hosts.map(open)))
  const startMs = performance.now()
  await write()
  const { count } = await converged(replicas)
  console.log(`  converged ${((performance.now() - startMs) / 1000).toFixed(1)} s after the last was open`)
  assert.is(count, 5)
  await eventually(async () => (await Promise.all(replicas.map(async (replica) => await replica.do('peers')))).every((peers) => peers.length === 4 && new Set(peers.map(({ id }: { id: string }) => id)).size === 4), { message: 'each two have one link' })
  const made: number[] = await Promise.all(replicas.map(async (replica) => await replica.do('links')))
  assert.ok(made.reduce((sum, links) => sum + links, 0) <= 2 * 20, `${made.join()} ends of links were made, for 20`)
})

onFilteredNetwork('a network cut in two', async () => {
  const [left, right] = [[0, 1], [2, 3, 4]]
  await heals('cut in two', () => { for (const index of left!) hosts[index]!.block(right!.map(address)) }, () => { for (const index of left!) hosts[index]!.unblock() }, { alone: left! })
})

onFilteredNetwork('one that hears and is not heard', async () => {
  await heals('one way', () => { hosts[1]!.block([0, 2, 3, 4].map(address), ['to']) }, () => { hosts[1]!.unblock() }, { alone: [1] })
})

onFilteredNetwork('a cut that is over before a link has died of it', async () => {
  await heals('short cut', () => { hosts[0]!.block([1, 2, 3, 4].map(address)) }, () => { hosts[0]!.unblock() }, { lastsMs: 5000 })
})

onNetwork('half-open links: a cable that is pulled far away', async () => {
  await heals('half-open', () => { hosts[2]!.cable('eth0', false) }, () => { hosts[2]!.cable('eth0', true) }, { alone: [2] })
})

onNetwork('an interface that is removed and made again, with another address', async () => {
  await heals('interface made again', () => { hosts[3]!.unplug('eth0') }, () => { hosts[3]!.plug('eth0', 'br0', '10.7.0.33') }, { alone: [3] })
})

onNetwork('an address that changes', async () => {
  await heals('address changed', () => { hosts[4]!.readdress('eth0', '10.7.0.55') }, () => {}, { lastsMs: 0 })
  await eventually(async () => (await replicas[0]!.do('peers')).filter(({ state, address }: any) => state === 'live' && address.host === '10.7.0.55').length === 1, { message: 'a direct link to the new address' })
})

onNetwork('two interfaces: who is on both networks brings them together, and one of its interfaces is enough', async () => {
  const far = lab.host('far')
  far.plug('eth0', 'br1', '10.8.0.1')
  const both = hosts[0]!
  both.plug('eth1', 'br1', '10.8.0.2')
  hosts.push(far)
  replicas.push(await open(far))
  await write()
  await converged(replicas)
  const other = hosts[1]!
  other.plug('eth1', 'br1', '10.8.0.3')
  await heals('the other way round', () => { both.unplug('eth1') }, () => {}, { lastsMs: 0 })
  assert.equal((await Promise.all(replicas.map(async (replica) => await replica.do('errors')))).flat().filter((error) => !/^REPLICATION_(DISCOVERY|PEER_SILENT|TIMEOUT):/.test(String(error))), [])
})

test.run()
