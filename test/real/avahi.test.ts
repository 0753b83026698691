/**
 * Avahi, an implementation of Bonjour by others: it sees what we announce, and we see what it announces. Both sides
 * have a host of their own; then one host has both.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { GroupToken, groupKey } from '../../lib/network/group-token.ts'
import { deriveGroupKeys } from '../../lib/network/secret.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { NetworkLab, noLab, type LabHost } from '../support/network-lab.ts'
import { converged, ReplicaProcess } from '../support/replica-process.ts'

const run = promisify(execFile)
const missing = noLab ?? (await Promise.all(['avahi-daemon', 'avahi-browse', 'avahi-publish', 'dbus-daemon'].map(async (tool) => {
  try {
    await run('which', [tool])
    return []
  } catch {
    return [tool]
  }
}))).flat().map((tool) => `there is no ${tool} (Debian: avahi-daemon, avahi-utils, dbus)`)[0]

const test = suite('Avahi')
if (missing !== undefined) console.log(`SKIPPED, all of it: ${missing}`)
const withAvahi = missing === undefined ? test : test.skip

const type = '_replicatedlevel._tcp'
const secret = randomBytes(24).toString('base64url')
const options = { group: 'shop', secret, host: undefined, discovery: true }
const children = new Set<ChildProcess>()
const replicas: ReplicaProcess[] = []
let lab: NetworkLab | undefined
let bus = ''

test.after(async () => {
  for (const child of children) if (child.pid !== undefined) try { process.kill(-child.pid, 'SIGKILL') } catch {}
  await Promise.all(replicas.map(async (replica) => { await replica.kill() }))
  lab?.close()
})

function start (host: LabHost, command: string, ...args: string[]): ChildProcess {
  const child = spawn('ip', ['netns', 'exec', host.namespace, command, ...args], { detached: true, stdio: 'ignore', env: { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: bus } })
  children.add(child)
  return child
}

/** Avahi with a bus of its own, and with a /run of its own, so that it meets no other. */
function startAvahi (host: LabHost): void {
  const directory = newDirectory()
  mkdirSync(directory, { recursive: true })
  bus = `unix:path=${join(directory, 'bus')}`
  writeFileSync(join(directory, 'bus.conf'), `<busconfig><type>system</type><listen>${bus}</listen><auth>EXTERNAL</auth><policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>`)
  writeFileSync(join(directory, 'avahi.conf'), '[server]\nuse-ipv6=no\nallow-interfaces=eth0\n[wide-area]\n[publish]\n[reflector]\n[rlimits]\n')
  start(host, 'sh', '-c', `mount -t tmpfs tmpfs /run && mkdir -p /run/avahi-daemon && dbus-daemon --config-file=${directory}/bus.conf --nofork --nopidfile &
    while ! [ -S ${directory}/bus ]; do sleep 0.05; done
    mount -t tmpfs tmpfs /run; mkdir -p /run/avahi-daemon; exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f ${directory}/avahi.conf`)
}

async function browse (host: LabHost): Promise<string[]> {
  const { stdout } = await run('ip', ['netns', 'exec', host.namespace, 'avahi-browse', '-rpt', type], { env: { ...process.env, DBUS_SYSTEM_BUS_ADDRESS: bus }, timeout: 10_000 })
  return stdout.split('\n').filter((line) => line.startsWith('='))
}

withAvahi('it sees what we announce', async () => {
  lab = new NetworkLab()
  const [ours, theirs] = ['ours', 'theirs'].map((name) => lab!.host(name)) as [LabHost, LabHost]
  ours.plug('eth0', 'br0', '10.7.0.1')
  theirs.plug('eth0', 'br0', '10.7.0.2')
  startAvahi(theirs)
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9123 }, ours))
  const [line] = await eventually(async () => {
    const lines = await browse(theirs)
    return lines.length > 0 ? lines : undefined
  }, { message: 'avahi-browse shows it' }) as string[]
  assert.match(line!, /^=;eth0;IPv4;[0-9a-f]{16};_replicatedlevel\._tcp;local;[0-9a-f]{16}\.local;10\.7\.0\.1;9123;/)
  assert.match(line!, /"s=[\w-]{22}"/)
  assert.not.match(line!, /shop/)

  // What it announces on behalf of a replica that does not announce itself.
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, discovery: { bonjour: false, exchange: false }, port: 9456 }, theirs))
  const { announcement } = await deriveGroupKeys(secret, 'shop')
  const { salt, digest } = new GroupToken(groupKey('shop', announcement), (size) => randomBytes(size)).make(9456)
  const publisher = start(theirs, 'avahi-publish', '-s', 'a replica of the shop', type, '9456', 'v=1', `s=${salt}`, `d=${digest}`)
  const forger = start(theirs, 'avahi-publish', '-s', 'forged', type, '9457', 'v=1', `s=${salt}`, `d=${digest}`)
  await replicas[0]!.do('put', { key: 'key', value: 'value' })
  await converged(replicas, 20_000)
  const peers = await replicas[0]!.do('peers')
  assert.equal(peers.map(({ address, state }: any) => [address, state]), [[{ host: '10.7.0.2', port: 9456 }, 'live']])
  for (const child of [publisher, forger]) child.kill()

  // Both on one host share the port.
  replicas.push(await ReplicaProcess.open(newDirectory(), { ...options, port: 9789 }, theirs))
  await eventually(async () => (await browse(theirs)).some((each) => each.includes(';10.7.0.2;9789;')), { message: 'it sees a replica of its own host' })
  await converged(replicas, 20_000)
  assert.equal((await Promise.all(replicas.map(async (replica) => await replica.do('errors')))).flat(), [])
})

test.run()
