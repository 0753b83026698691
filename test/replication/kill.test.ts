/**
 * kill -9 in the middle of everything: nothing acknowledged is missing anywhere.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { converged, killAll, ReplicaProcess } from '../support/replica-process.ts'
import { randomNumbers } from '../support/random.ts'
import { seed } from '../support/seed.ts'

const rounds = 6

test(`a replica that is killed ${rounds} times while all three write loses nothing that it acknowledged`, async () => {
  const random = randomNumbers(seed)
  const directory = newDirectory()
  const steady = [await ReplicaProcess.open(newDirectory()), await ReplicaProcess.open(newDirectory())] as const
  await steady[1].do('connect', { address: steady[0].address })
  const acknowledged: string[] = []
  for (let round = 0; round < rounds; round++) {
    const victim = await ReplicaProcess.open(directory, { peers: steady.map(({ address }) => address), initialSyncMs: 0, seed: seed + round })
    const others = steady.map(async (replica, index) => { await replica.do('stream', { prefix: `steady${index}-${round}`, count: 300, batch: 1 }) })
    const batch = round % 2 === 0 ? 1 : 20
    victim.do('stream', { prefix: `victim-${round}`, count: 1e6, batch }).catch(() => {})
    const least = 50 + Math.floor(random() * 500)
    await eventually(() => victim.acknowledged.length >= least, { timeoutMs: 20_000, message: 'the victim writes' })
    await victim.kill()
    for (const value of victim.acknowledged) acknowledged.push(batch === 1 ? value : `${value}-0`, batch === 1 ? value : `${value}-19`)
    await Promise.all(others)
  }
  const survivor = await ReplicaProcess.open(directory, { peers: steady.map(({ address }) => address) })
  const all = [survivor, ...steady]
  await converged(all)
  for (const replica of all) {
    for (const key of acknowledged) assert.ok(await replica.do('get', { key }) !== undefined, key)
  }
  for (const replica of all) await replica.close()
})

test.after(killAll)
test.run()
