/**
 * Forged services, many: what they cost two replicas that are linked and have something to say.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { groupKey } from '../../lib/network/group-token.ts'
import { deriveGroupKeys } from '../../lib/network/secret.ts'
import { newDirectory } from './directory.ts'
import { allowanceMs, median } from './attack.ts'
import { NetworkLab, noLab } from './network-lab.ts'
import { converged, ReplicaProcess } from './replica-process.ts'

const flooder = fileURLToPath(new URL('flood-child.ts', import.meta.url))
const mdnsPort = 5353
/** Of a service that nobody here has (RFC 863). */
const discardPort = 9
const secret = randomBytes(24).toString('base64url')

/** So many of somebody who does not know the group, then so many of a member who lies. */
export function floodSuite (forged: number, ofMember: number): { run: () => void } {
  const test = suite('flood')
  if (noLab !== undefined) console.log(`SKIPPED, all of it: ${noLab}`)
  const onNetwork = noLab === undefined ? test : test.skip
  const replicas: ReplicaProcess[] = []
  let lab: NetworkLab | undefined

  test.after(async () => {
    await Promise.all(replicas.map(async (replica) => { await replica.kill() }))
    lab?.close()
  })

  onNetwork(`${forged} forged services, then ${ofMember} of a member who lies: memory is bounded, latency at most doubles`, async () => {
    lab = new NetworkLab()
    const hosts = [1, 2, 3].map((number) => {
      const host = lab!.host(`h${number}`)
      host.plug('eth0', 'br0', `10.7.0.${number}`)
      return host
    })
    const options = { group: 'shop', secret, host: undefined, discovery: true }
    for (const host of hosts.slice(0, 2)) replicas.push(await ReplicaProcess.open(newDirectory(), options, host))
    const [a, b] = replicas as [ReplicaProcess, ReplicaProcess]
    await a.do('put', { key: 'key', value: 'value' })
    await converged(replicas)
    await b.do('pong')

    const ping = async (): Promise<number> => median(await a.do('ping', { count: 200 }))
    /** The latency while there is a flood, at least once. */
    const flood = async (port: number, services: number, ...key: string[]): Promise<number> => {
      const child = spawn('ip', ['netns', 'exec', hosts[2]!.namespace, process.execPath, '--import', import.meta.resolve('tsx'), flooder, String(port), String(services), ...key], { stdio: 'ignore' })
      const over = once(child, 'close')
      const during: number[] = []
      do during.push(await ping()); while (child.exitCode === null && child.signalCode === null)
      await over
      return median(during)
    }

    await ping() // warms up
    const memory: number = await a.do('memory')
    const { announcement } = await deriveGroupKeys(secret, 'shop')
    for (const [what, [services, ...key]] of [['forged', [forged]], ['of a member', [ofMember, groupKey('shop', announcement).toString('hex')]]] as const) {
      // The one who floods is on this machine too: what he takes of it is not counted.
      let elsewhere = 0
      let latency = Infinity
      // Another process may have had the processor: what is slow by itself is slow each time.
      for (let times = 0; times < 3 && latency > 2 * elsewhere + allowanceMs; times++) {
        elsewhere = await flood(discardPort, services, ...key)
        latency = await flood(mdnsPort, services, ...key)
      }
      const grown: number = await a.do('memory') - memory
      console.log(`  ${what}: latency ${latency.toFixed(2)} ms, ${elsewhere.toFixed(2)} ms if nobody listens; ${(grown / 2 ** 20).toFixed(1)} MiB more`)
      assert.ok(latency <= 2 * elsewhere + allowanceMs, `${what}: ${latency} ms, ${elsewhere} ms if nobody listens`)
      assert.ok(grown < 64 * 2 ** 20, `${what}: ${grown} bytes more`)
    }
    const peers = await a.do('peers')
    assert.ok(peers.length <= 70, `${peers.length} peers`)
    assert.is(peers.filter(({ state }: { state: string }) => state === 'live').length, 1)
    assert.equal(await a.do('errors'), [])
  })

  return test
}
