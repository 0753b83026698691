/**
 * Three replicating processes under load, one of which is killed at a random moment, again and again. Each writes keys of
 * its own, of which none may be missing, and beside that puts, deletes, batches and clears on keys that all share.
 */
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { randomNumbers } from '../support/random.ts'
import { converged, ReplicaProcess } from '../support/replica-process.ts'

const replicaCount = 3
const batchSize = 20
const writesPerRun = 300
const sharedWritesPerRun = 1000
/** In each of the places that `replica-child` writes to. */
const sharedKeys = 250

interface Site {
  readonly directory: string
  readonly port: number
  process: ReplicaProcess
  batch: number
}

/** Kills so many times; no acknowledged write is missing at the end, no batch is torn, and all are equal. */
export async function killAtRandom (rounds: number, seed: number): Promise<{ acknowledged: number }> {
  const random = randomNumbers(seed)
  const below = (limit: number): number => Math.floor(random() * limit)
  const acknowledged: string[] = []
  const sites: Site[] = []
  let runs = 0
  const open = async (directory: string, port: number): Promise<ReplicaProcess> =>
    await ReplicaProcess.open(directory, { port, peers: sites.map((site) => `127.0.0.1:${site.port}`), initialSyncMs: 0, seed: seed + runs })
  const load = (site: Site): void => {
    site.batch = below(2) === 0 ? 1 : batchSize
    for (const [task, options] of [
      ['stream', { prefix: `run${++runs}`, count: writesPerRun, batch: site.batch }],
      ['work', { operations: sharedWritesPerRun, keys: sharedKeys }]
    ] as const) site.process.do(task, options).catch(() => {}) // it ends with the process
  }
  const collect = (site: Site): void => {
    for (const value of site.process.acknowledged) acknowledged.push(...site.batch === 1 ? [value] : [`${value}-0`, `${value}-${batchSize - 1}`])
  }
  for (let index = 0; index < replicaCount; index++) {
    const directory = newDirectory()
    const process = await open(directory, 0)
    const site = { directory, port: Number(process.address.split(':')[1]), process, batch: 1 }
    sites.push(site)
    load(site)
  }
  for (let round = 0; round < rounds; round++) {
    const site = sites[below(replicaCount)]!
    const least = Math.min(writesPerRun, site.process.acknowledged.length + below(150))
    await eventually(() => site.process.acknowledged.length >= least, { message: 'the victim writes' })
    await site.process.kill()
    collect(site)
    site.process = await open(site.directory, site.port)
    load(site)
  }
  for (const site of sites) {
    await site.process.kill()
    collect(site)
    site.process = await open(site.directory, site.port)
  }
  const processes = sites.map(({ process }) => process)
  await converged(processes, 120_000)
  for (const process of processes) {
    const missing: string[] = await process.do('missing', { keys: acknowledged })
    assert.equal(missing, [])
    assert.equal(await process.do('torn', { batchSize }), [])
    assert.equal((await process.do('errors')).filter((error: string) => /HOLE|CORRUPT|INTERNAL|REPLACED/.test(error)), [])
  }
  for (const process of processes) await process.close()
  return { acknowledged: acknowledged.length }
}
