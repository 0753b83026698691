/**
 * Replicas that write at random, and at once, to the same keys end with the same entries, versions and vectors.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { ReplicaHost, type Snapshot } from '../support/replica-host.ts'
import { HostProcess } from '../support/host-process.ts'
import { seed } from '../support/seed.ts'
import { workloadKeys, type EncodingName } from '../support/workload.ts'

const operations = 50_000

/** What both a replica here and one in another process can do. */
interface Replica {
  call: HostProcess['call']
  end (): Promise<void>
}

function here (): Replica {
  const host = new ReplicaHost()
  return {
    call: async (method, ...args) => await (host[method] as (...args: unknown[]) => unknown)(...args) as never,
    end: async () => { await host.close() }
  }
}

/** Who dials whom, by number; always one that is older. */
const topologies: Array<{ name: string, encoding: EncodingName, dials: number[][] }> = [
  { name: 'two', encoding: 'utf8', dials: [[], [0]] },
  { name: 'three in a chain', encoding: 'json', dials: [[], [0], [1]] },
  { name: 'three in a ring', encoding: 'buffer', dials: [[], [0], [1, 0]] },
  { name: 'five in a mesh', encoding: 'view', dials: [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]] }
]

async function openAll (make: () => Replica, dials: number[][], options: object): Promise<Replica[]> {
  const replicas = dials.map(make)
  const ports: number[] = []
  for (const [index, replica] of replicas.entries()) {
    ports.push(await replica.call('open', newDirectory(), { ...options, peers: dials[index]!.map((other) => `127.0.0.1:${ports[other]}`) }))
  }
  return replicas
}

async function converged (replicas: Replica[]): Promise<Snapshot[]> {
  await eventually(async () => {
    const vectors = await Promise.all(replicas.map(async (replica) => await replica.call('vector')))
    const text = (vector: Readonly<Record<string, number>>): string => JSON.stringify(Object.entries(vector).sort())
    return vectors.every((vector) => text(vector) === text(vectors[0]!))
  }, { timeoutMs: 40_000, message: 'the vectors never became equal' })
  return await Promise.all(replicas.map(async (replica) => await replica.call('snapshot')))
}

function assertEqual (snapshots: Snapshot[]): void {
  for (const snapshot of snapshots.slice(1)) {
    assert.is(snapshot.count, snapshots[0]!.count)
    assert.is(snapshot.entries, snapshots[0]!.entries)
    assert.is(snapshot.conflicts, snapshots[0]!.conflicts)
    assert.is(snapshot.versions, snapshots[0]!.versions)
  }
}

for (const [place, make] of [['in this process', here], ['in processes of their own', () => new HostProcess()]] as const) {
  for (const { name, encoding, dials } of topologies) {
    test(`${name}, ${place}: ${operations} concurrent operations on ${workloadKeys} keys`, async () => {
      const replicas = await openAll(make, dials, { encoding })
      await Promise.all(replicas.map(async (replica, index) => {
        await replica.call('work', { seed: seed + index, operations: operations / replicas.length, name: `replica ${index}` })
      }))
      const snapshots = await converged(replicas)
      assertEqual(snapshots)
      assert.ok(snapshots[0]!.count > workloadKeys / 4, `${snapshots[0]!.count} entries`)
      assert.is(Object.keys(snapshots[0]!.vector).length, replicas.length)
      await Promise.all(replicas.map(async (replica) => { await replica.end() }))
    })
  }
}

test('replicas that wrote apart from each other converge when they meet, whatever the resolver', async () => {
  const replicas = await openAll(here, [[], [], []], { resolver: 'asymmetric' })
  const addresses: string[] = []
  for (const replica of replicas) addresses.push(`127.0.0.1:${(await replica.call('eventsSoFar')).find(({ name }) => name === 'listening')!.args.map((address) => (address as { port: number }).port)[0]}`)
  await Promise.all(replicas.map(async (replica, index) => { await replica.call('work', { seed: seed + 10 + index, operations: 3000, name: `replica ${index}` }) }))
  await replicas[1]!.call('connect', addresses[0]!)
  await replicas[2]!.call('connect', addresses[1]!)
  const snapshots = await converged(replicas)
  assertEqual(snapshots)
  assert.ok(snapshots[0]!.conflicts > 100, `${snapshots[0]!.conflicts} conflicts`)
  await Promise.all(replicas.map(async (replica) => { await replica.end() }))
})

test.run()
