/**
 * Links that break at random while everybody writes: replicas end equal, whatever was under way.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { ReplicaHost, type Snapshot } from '../support/replica-host.ts'
import { seed } from '../support/seed.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const test = suite('faults')

/** Pairs of who dials whom. */
const topologies: Record<string, Array<[number, number]>> = {
  'a ring of three': [[1, 0], [2, 1], [0, 2]],
  'a mesh of four, both ways': [0, 1, 2, 3].flatMap((from) => [0, 1, 2, 3].filter((to) => to !== from).map((to): [number, number] => [from, to]))
}

for (const [name, links] of Object.entries(topologies)) {
  test(`${name}: links break and come back, replicas close and open, all while they write`, async () => {
    const random = new VirtualSystem({ seed })
    const below = (limit: number): number => Math.floor(random.random() * limit)
    const count = 1 + Math.max(...links.flat())
    const hosts = Array.from({ length: count }, () => new ReplicaHost())
    const directories = hosts.map(() => newDirectory())
    const ports: number[] = []
    const errors: unknown[] = []
    const options = { initialSyncMs: 0, encoding: 'utf8' as const }
    for (const [index, host] of hosts.entries()) ports.push(await host.open(directories[index]!, options))
    const dial = (index: number): void => {
      for (const [from, to] of links) if (from === index) hosts[from]!.connect(`127.0.0.1:${ports[to]}`)
    }
    hosts.forEach((_, index) => { dial(index) })
    for (let round = 0; round < 8; round++) {
      let working = true
      const work = Promise.all(hosts.map(async (host, index) => { await host.work({ seed: seed + 100 * round + index, operations: 400, name: `${index}.${round}`, concurrency: 8 }) })).finally(() => { working = false })
      const stillWorking = (): boolean => working
      while (stillWorking()) {
        const [from, to] = links[below(links.length)]!
        hosts[from]!.disconnect(`127.0.0.1:${ports[to]}`)
        for (let pause = below(20); pause > 0; pause--) await new Promise((resolve) => { setImmediate(resolve) })
        hosts[from]!.connect(`127.0.0.1:${ports[to]}`)
        await new Promise((resolve) => { setTimeout(resolve, below(40)) })
      }
      await work
      const restarted = below(count)
      await hosts[restarted]!.close()
      await hosts[restarted]!.open(directories[restarted]!, { ...options, port: ports[restarted] })
      dial(restarted)
    }
    await eventually(() => {
      const vectors = hosts.map((host) => JSON.stringify(Object.entries(host.vector()).sort()))
      return vectors.every((vector) => vector === vectors[0])
    }, { message: 'all know the same' })
    const snapshots: Snapshot[] = []
    for (const host of hosts) {
      snapshots.push(await host.snapshot())
      errors.push(...host.errors)
    }
    for (const snapshot of snapshots) assert.equal({ ...snapshot, vector: 0 }, { ...snapshots[0]!, vector: 0 })
    assert.equal(errors, [])
    for (const host of hosts) await host.synced(20_000)
    for (const host of hosts) await host.close()
  })
}

test.run()
