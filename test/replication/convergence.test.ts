/**
 * Replicas in processes of their own, all writing at once to the same keys, end with the same contents.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { converged, killAll, ReplicaProcess } from '../support/replica-process.ts'
import { seed } from '../support/seed.ts'

const operations = 50_000
const keys = 250 // in each of four places

const topologies: Record<string, { replicas: number, links: Array<[number, number]> }> = {
  two: { replicas: 2, links: [[1, 0]] },
  'a chain of three': { replicas: 3, links: [[1, 0], [2, 1]] },
  'a ring of three': { replicas: 3, links: [[1, 0], [2, 1], [0, 2]] },
  'a mesh of five': { replicas: 5, links: [[1, 0], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2], [4, 0], [4, 1], [4, 2], [4, 3]] }
}

for (const [name, { replicas: count, links }] of Object.entries(topologies)) {
  test(`${name} converge after ${operations} concurrent operations on 1,000 keys`, async () => {
    const replicas = await Promise.all(Array.from({ length: count }, async (_, index) => await ReplicaProcess.open(newDirectory(), { seed: seed + index })))
    for (const [from, to] of links) await replicas[from]!.do('connect', { address: replicas[to]!.address })
    await Promise.all(replicas.map(async (replica) => { await replica.do('work', { operations: operations / count, keys }) }))
    const { count: entries } = await converged(replicas)
    assert.ok(entries > 0 && entries <= 4 * keys, `${entries} entries`)
    for (const replica of replicas) await replica.close()
  })
}

test.after(killAll)
test.run()
