/**
 * Replicas that write at random, and at once, to the same keys end with the same entries, versions and vectors,
 * in every encoding, for the database and for sublevels.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { ReplicaHost, type Snapshot } from '../support/replica-host.ts'
import { seed } from '../support/seed.ts'
import { workloadKeys, type EncodingName } from '../support/workload.ts'

const operations = 20_000

/** Who dials whom, by number; always one that is older. */
const topologies: Array<{ name: string, encoding: EncodingName, dials: number[][] }> = [
  { name: 'two', encoding: 'utf8', dials: [[], [0]] },
  { name: 'three in a chain', encoding: 'json', dials: [[], [0], [1]] },
  { name: 'three in a ring', encoding: 'buffer', dials: [[], [0], [1, 0]] },
  { name: 'five in a mesh', encoding: 'view', dials: [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]] }
]

async function openAll (dials: number[][], options: object): Promise<ReplicaHost[]> {
  const replicas = dials.map(() => new ReplicaHost())
  const ports: number[] = []
  for (const [index, replica] of replicas.entries()) {
    ports.push(await replica.open(newDirectory(), { ...options, peers: dials[index]!.map((other) => `127.0.0.1:${ports[other]}`) }))
  }
  return replicas
}

async function converged (replicas: ReplicaHost[]): Promise<Snapshot[]> {
  await eventually(() => {
    const vectors = replicas.map((replica) => JSON.stringify(Object.entries(replica.vector()).sort()))
    return vectors.every((vector) => vector === vectors[0])
  }, { message: 'the vectors never became equal' })
  const snapshots: Snapshot[] = []
  for (const replica of replicas) snapshots.push(await replica.snapshot())
  for (const snapshot of snapshots) {
    assert.is(snapshot.count, snapshots[0]!.count)
    assert.is(snapshot.entries, snapshots[0]!.entries)
    assert.is(snapshot.conflicts, snapshots[0]!.conflicts)
    assert.is(snapshot.versions, snapshots[0]!.versions)
  }
  return snapshots
}

for (const { name, encoding, dials } of topologies) {
  test(`${name}, keys and values as ${encoding}: ${operations} concurrent operations on ${workloadKeys} keys`, async () => {
    const replicas = await openAll(dials, { encoding })
    await Promise.all(replicas.map(async (replica, index) => {
      await replica.work({ seed: seed + index, operations: operations / replicas.length, name: `replica ${index}` })
    }))
    const [first] = await converged(replicas)
    assert.ok(first!.count > workloadKeys / 4, `${first!.count} entries`)
    assert.is(Object.keys(first!.vector).length, replicas.length)
    await Promise.all(replicas.map(async (replica) => { await replica.close() }))
  })
}

test('replicas that wrote apart from each other converge when they meet, whatever the resolver', async () => {
  for (const resolver of ['asymmetric', 'union', 'deleteWins', 'throws'] as const) {
    const replicas = await openAll([[], [], []], { resolver })
    await Promise.all(replicas.map(async (replica, index) => { await replica.work({ seed: seed + 10 + index, operations: 2000, name: `replica ${index}` }) }))
    const addressOf = (replica: ReplicaHost): string => `127.0.0.1:${replica.db.replication.address!.port}`
    replicas[1]!.connect(addressOf(replicas[0]!))
    replicas[2]!.connect(addressOf(replicas[1]!))
    const [first] = await converged(replicas)
    assert.ok(first!.conflicts > 100, `${first!.conflicts} conflicts`)
    await Promise.all(replicas.map(async (replica) => { await replica.close() }))
  }
})

test.run()
