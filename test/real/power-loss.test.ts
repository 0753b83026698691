/**
 * Power that is lost: what was acknowledged as durable is there, and no dot that a peer knows is written again.
 *
 * A kill leaves what was written in the kernel's memory. So the disk is a file system in a file, whose copy has only
 * what was synced; or LevelDB's write-ahead log is cut where it was synced last, and the redo log is as it was then. The machine
 * has another boot id afterwards.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { redoFileName } from '../../lib/storage/redo-log.ts'
import { newDirectory } from '../support/directory.ts'
import { DiskImage } from '../support/disk-image.ts'
import { eventually } from '../support/eventually.ts'
import { canMount, converged, killAll, ReplicaProcess } from '../support/replica-process.ts'
import { disksAgree } from '../support/replica-disks.ts'

test.after(killAll)

/** What loses what was not synced. */
interface Medium {
  readonly directory: string
  /** Everything is on the medium just now. */
  synced (): void
  losePower (): void
}

class Image implements Medium {
  #disk: DiskImage

  constructor (disk: DiskImage) {
    this.#disk = disk
  }

  get directory (): string {
    return join(this.#disk.directory, 'db')
  }

  synced (): void {}

  losePower (): void {
    const after = this.#disk.copy()
    this.#disk.remove()
    this.#disk = after
  }
}

class CutLog implements Medium {
  readonly directory = newDirectory()
  #sizes = new Map<string, number>()
  /** The redo log, which nobody syncs. */
  #redo: Buffer | undefined

  get #redoPath (): string {
    return join(this.directory, redoFileName)
  }

  #logs (): string[] {
    return readdirSync(this.directory).filter((name) => name.endsWith('.log')).map((name) => join(this.directory, name))
  }

  synced (): void {
    this.#sizes = new Map(this.#logs().map((path) => [path, statSync(path).size]))
    this.#redo = existsSync(this.#redoPath) ? readFileSync(this.#redoPath) : undefined
  }

  losePower (): void {
    for (const path of this.#logs()) truncateSync(path, this.#sizes.get(path) ?? 0)
    if (this.#redo === undefined) rmSync(this.#redoPath, { force: true })
    else writeFileSync(this.#redoPath, this.#redo)
  }
}

const rounds = 3
/** So few that they are written well before the next acknowledgement, also by a slow machine. */
const unsyncedCount = 5
/** What is written between two acknowledgements is lost; now and then one comes in between, and another round is needed. */
const roundsMax = 15

async function losesPower (medium: Medium): Promise<void> {
  const peer = await ReplicaProcess.open(newDirectory(), { initialSyncMs: 0 })
  const bootIdFile = newDirectory()
  const restart = async (): Promise<ReplicaProcess> => {
    writeFileSync(bootIdFile, `${randomUUID()}\n`)
    return await ReplicaProcess.open(medium.directory, { initialSyncMs: 0 }, { bootIdFile })
  }
  /** How far this replica has told the peer that it has everything on its disk. */
  const acknowledged = async (id: string): Promise<Record<string, number>> => (await peer.do('status')).members.find((member: { id: string }) => member.id === id).acknowledged
  const keys: string[] = []
  const logs = new Set<string>()
  let lost = 0
  let replica = await restart()
  for (let round = 0; round < rounds || (lost === 0 && round < roundsMax); round++) {
    const { id, log } = await replica.do('status')
    logs.add(log)
    await replica.do('connect', { address: peer.address })
    for (let index = 0; index < 10; index++) {
      await replica.do('put', { key: `synced-${round}-${index}`, value: 'x', sync: true })
      keys.push(`synced-${round}-${index}`)
    }
    await replica.do('stream', { prefix: `acknowledged-${round}`, count: 50, batch: 1 })
    await replica.do('synced')
    const before = await acknowledged(id)
    medium.synced()
    await replica.do('stream', { prefix: `unsynced-${round}`, count: unsyncedCount, batch: 1 })
    const unsynced = Array.from({ length: unsyncedCount }, (_, index) => `unsynced-${round}-${index}`)
    await eventually(async () => (await peer.do('missing', { keys: unsynced })).length === 0)
    await replica.kill()
    const durable = await acknowledged(id)
    if (medium instanceof Image || JSON.stringify(durable) === JSON.stringify(before)) medium.losePower()
    keys.push(...Array.from({ length: 50 }, (_, index) => `acknowledged-${round}-${index}`))

    replica = await restart()
    const opened = await replica.do('status')
    assert.is(opened.id, id)
    assert.not(logs.has(opened.log), 'it writes on in a log that nobody knows')
    for (const [log, sequence] of Object.entries(durable)) assert.ok(opened.vector[log] >= sequence, `${log}: ${opened.vector[log]} of ${sequence}`)
    assert.equal(await replica.do('missing', { keys }), [])
    lost += (await replica.do('missing', { keys: unsynced })).length
    keys.push(...unsynced)
    await replica.do('stream', { prefix: `afterwards-${round}`, count: 60, batch: 1 })
    keys.push(...Array.from({ length: 60 }, (_, index) => `afterwards-${round}-${index}`))
    await replica.do('connect', { address: peer.address })
    await converged([replica, peer])
    for (const one of [replica, peer]) assert.equal(await one.do('missing', { keys }), [])
  }
  assert.ok(lost > 0, 'something was not synced')
  await disksAgree([replica, peer])
}

test('a disk that keeps only what was synced', async () => {
  const disk = canMount() ? DiskImage.make(32) : undefined
  if (disk !== undefined) await losesPower(new Image(disk))
})

for (const byDefault of [false, true]) {
  test(`a write with sync: true${byDefault ? ' as the default' : ''} that has resolved is there after a loss of power`, async () => {
    const disk = canMount() ? DiskImage.make(32) : undefined
    if (disk === undefined) return
    const medium = new Image(disk)
    const replica = await ReplicaProcess.open(medium.directory, { port: false, sync: byDefault })
    const keys = Array.from({ length: 20 }, (_, index) => `key-${index}`)
    for (const key of keys) await replica.do('put', byDefault ? { key, value: 'x' } : { key, value: 'x', sync: true })
    await replica.kill()
    medium.losePower()
    const again = await ReplicaProcess.open(medium.directory, { port: false })
    assert.equal(await again.do('missing', { keys }), [])
    await again.close()
  })
}

test('a write-ahead log that is cut where it was synced last', async () => {
  if (canMount()) await losesPower(new CutLog())
})

test.run()
