/**
 * Taking a database of plain Level in: its entries become the first writes of a new replica, in the same place.
 *
 * The replica is built beside it, in `<location>.adopting`, and the two are exchanged when it is complete. The original
 * is only read until then. Whatever stops it, it is resumed: what was taken is compared with the original, which plain
 * Level may have changed since, and only the rest is written. While the exchange is unfinished the location is not opened as
 * anything else.
 */
import { chmod, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ClassicLevel } from 'classic-level'
import { bytesEncodings } from './encodings.ts'
import { lastWriterWins } from './core/resolve.ts'
import { ReplicationError } from './errors.ts'
import { MiB, memberTtlDefaultMs, transactionBytesCeiling } from './limits.ts'
import { assertPath, invalidOption } from './options.ts'
import { valueOf } from './storage/data-record.ts'
import { buffers, type Engine } from './storage/engine.ts'
import { exists, adoptingSuffix, identityFileName, IdentityFile, placeOf } from './storage/identity.ts'
import { keyspace, wholeKeyspace } from './storage/keyspaces.ts'
import type { Operation } from './storage/local.ts'
import { Store } from './storage/store.ts'
import type { System } from './types.ts'

export interface AdoptOptions {
  /** Is told now and then how many entries of how many have been taken in. */
  readonly onProgress?: ((progress: { readonly entries: number, readonly total: number }) => void) | undefined
}

type Level = ClassicLevel<Buffer, Buffer>

const completeFileName = 'ADOPTED'
const originalSuffix = '.adopted'
const entriesPerBatch = 1000
const bytesPerBatch = MiB

/** @throws `REPLICATION_INVALID_OPTION`, `REPLICATION_PATH_NOT_EMPTY`, what LevelDB throws */
export async function adopt (location: string, options: AdoptOptions | null | undefined, system: System): Promise<void> {
  assertPath(location, "argument 'location'")
  const onProgress = options?.onProgress ?? (() => {})
  if (typeof onProgress !== 'function') throw invalidOption('onProgress', onProgress, 'a function')
  const directory = await placeOf(location) // and not beside a link that leads there, perhaps to another disk
  const building = directory + adoptingSuffix
  const original = directory + originalSuffix
  if (await exists(join(directory, identityFileName))) {
    if (!await exists(join(directory, completeFileName))) throw new ReplicationError(`${location} is a replica already`, { code: 'REPLICATION_INVALID_OPTION' })
  } else if (await exists(directory) || !await exists(join(building, completeFileName))) {
    if (await exists(original)) throw new ReplicationError(`${original} is in the way: the original is put there for a moment`, { code: 'REPLICATION_PATH_NOT_EMPTY' })
    // LevelDB would leave files of its own there before it says so.
    if (!await exists(join(directory, 'CURRENT'))) throw new ReplicationError(`There is no database in ${location}`, { code: 'LEVEL_DATABASE_NOT_OPEN' })
    await build(directory, building, onProgress, system)
    await writeFile(join(building, completeFileName), '', { flush: true })
  }
  if (await exists(building)) {
    if (await exists(directory)) await rename(directory, original)
    await rename(building, directory)
  }
  // Ours to be removed as long as the replica says that it has just been put in its place.
  if (await exists(original)) await removeOriginal(original, directory)
  await rm(join(directory, completeFileName), { force: true })
}

/** Removes the database; what else its directory held is put beside the replica. */
async function removeOriginal (original: string, directory: string): Promise<void> {
  await ClassicLevel.destroy(original)
  if (!await exists(original)) return
  for (const name of await readdir(original)) await rename(join(original, name), join(directory, name))
  await rm(original, { recursive: true })
}

async function build (location: string, building: string, onProgress: NonNullable<AdoptOptions['onProgress']>, system: System): Promise<void> {
  const source: Level = new ClassicLevel(location, buffers)
  await source.open({ createIfMissing: false })
  try {
    while (!await goOnBuilding(source, building, onProgress, system)) await rm(building, { recursive: true })
  } finally {
    await source.close()
  }
}

/** False if what an earlier call has taken in has a hole: a loss of power can take away what does not stand at the end. */
async function goOnBuilding (source: Level, building: string, onProgress: NonNullable<AdoptOptions['onProgress']>, system: System): Promise<boolean> {
  await mkdir(building, { recursive: true })
  await chmod(building, (await stat(source.location)).mode) // whom the original is closed to has no access, neither meanwhile nor afterwards
  const identity = new IdentityFile(building, system)
  await identity.prepare(true)
  const target: Level = new ClassicLevel(building, buffers)
  await target.open()
  try {
    const store = await openStore(target, identity, system)
    try {
      if (store.repairing) return false
      await copyEntries(source, target, store, onProgress)
      return true
    } finally {
      await store.close()
    }
  } finally {
    await target.close()
  }
}

async function openStore (level: Level, identity: IdentityFile, system: System): Promise<Store> {
  return await Store.open({
    engine: level as unknown as Engine,
    identity,
    system,
    encodings: bytesEncodings('buffer', 'buffer'),
    resolver: lastWriterWins,
    resolverVersion: '',
    transactionBytesMax: transactionBytesCeiling,
    memberTtlMs: memberTtlDefaultMs,
    onError: () => {},
    onCommit: () => {},
    onApplying: () => {},
    reports: () => false,
    onReport: () => {}
  })
}

/** Makes the target hold what the source holds: all of it, or what an earlier call has left and what has changed since then. */
async function copyEntries (source: Level, target: Level, store: Store, onProgress: NonNullable<AdoptOptions['onProgress']>): Promise<void> {
  let total = 0
  for await (const _key of source.keys({ fillCache: false })) total++
  let entries = 0
  onProgress({ entries, total })
  let operations: Operation[] = []
  let bytes = 0
  const write = async (): Promise<void> => {
    if (operations.length > 0) await store.commit(operations, false)
    operations = []
    bytes = 0
    onProgress({ entries, total })
  }
  const taken = target.iterator({ ...wholeKeyspace(keyspace.data), fillCache: false })
  let held = await taken.next()
  const dropWhile = async (isGone: (key: Buffer) => boolean): Promise<void> => {
    for (; held !== undefined && isGone(held[0].subarray(1)); held = await taken.next()) {
      operations.push({ type: 'del', key: held[0].subarray(1) })
      if (operations.length >= entriesPerBatch) await write()
    }
  }
  for await (const [key, value] of source.iterator({ fillCache: false })) {
    await dropWhile((held) => held.compare(key) < 0)
    const there = held?.[0].subarray(1).equals(key) === true ? valueOf(held[1]) : undefined
    if (there !== undefined) held = await taken.next()
    if (there?.equals(value) !== true) {
      operations.push({ type: 'put', key, value })
      bytes += key.length + value.length
    }
    if (++entries % entriesPerBatch === 0 || bytes >= bytesPerBatch) await write()
  }
  await dropWhile(() => true)
  await write()
  await store.flush()
}
