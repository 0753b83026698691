/**
 * A consistent copy of an open database, made from one snapshot.
 *
 * The copy lacks what says whose it is, so that the replica which opens it takes an identity and a log of its own. Its
 * identity file comes last: without it the directory is refused, and a copy that was cut short is never opened.
 */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { ReplicationError, toReplicationError } from '../errors.ts'
import { innerBatchBytesMax } from '../limits.ts'
import { buffers, writeOut, type Engine } from './engine.ts'
import { layDownIdentity } from './identity.ts'
import { meta } from './keyspaces.ts'

type Snapshot = ReturnType<Engine['snapshot']>

/** What a copy must not hold, as binary strings. */
const left = new Set([meta.identity, meta.cleanClose].map((key) => key.toString('latin1')))

/**
 * @param takeSnapshot takes one of the engine, with all that is committed, and notes that data of our log leaves, which peers may hear of by the copy
 * @param openTarget opens a database in the directory, which has been made.
 * @throws `REPLICATION_PATH_NOT_EMPTY`, `LEVEL_IO_ERROR`, `LEVEL_DATABASE_NOT_OPEN` if the engine is closed meanwhile
 */
export async function backUp (engine: Engine, takeSnapshot: () => Promise<Snapshot>, directory: string, openTarget: (directory: string) => Promise<Engine>): Promise<void> {
  const snapshot = await takeSnapshot()
  try {
    await makeEmpty(directory)
    const target = await openTarget(directory).catch(async (cause: unknown) => {
      if (isSomebodyElses(cause)) throw notEmpty(`Another backup is made in ${directory}`, cause)
      await rm(directory, { recursive: true, force: true }).catch(() => {})
      throw cause
    })
    try {
      await copyInto(target, engine, snapshot)
      await layDownIdentity(directory)
    } catch (error) {
      await rm(directory, { recursive: true, force: true })
      throw error
    }
  } catch (error) {
    throw withStableCode(error)
  } finally {
    await snapshot.close()
  }
}

async function makeEmpty (directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true })
  } catch (cause) {
    throw ['EEXIST', 'ENOTDIR'].includes(codeOf(cause)) ? notEmpty(`A file is in the way of ${directory}`, cause) : cause
  }
  if ((await readdir(directory)).length > 0) throw notEmpty(`${directory} is not empty`)
}

function notEmpty (message: string, cause?: unknown): ReplicationError {
  return new ReplicationError(message, { code: 'REPLICATION_PATH_NOT_EMPTY', ...(cause === undefined ? {} : { cause }) })
}

/** Whether another backup is at work in the directory, or has been: its files are not ours to be removed. */
function isSomebodyElses (error: unknown): boolean {
  return error instanceof Error && (codeOf(error) === 'LEVEL_LOCKED' || error.message.includes('error_if_exists'))
}

function codeOf (error: unknown): string {
  return String((error as { code?: unknown }).code)
}

/** What Level or we say stays; what the operating system says is the disk's. */
function withStableCode (error: unknown): unknown {
  const code = codeOf(error)
  if (code === 'LEVEL_ITERATOR_NOT_OPEN' || code === 'LEVEL_SNAPSHOT_NOT_OPEN') return new ReplicationError('The database was closed during the backup', { code: 'LEVEL_DATABASE_NOT_OPEN', cause: error })
  return /^(LEVEL|REPLICATION)_/.test(code) ? error : toReplicationError(error, 'LEVEL_IO_ERROR')
}

async function copyInto (target: Engine, engine: Engine, snapshot: Snapshot): Promise<void> {
  try {
    let batch: Array<{ type: 'put', key: Buffer, value: Buffer }> = []
    let bytes = 0
    const write = async (sync: boolean): Promise<void> => {
      await target.batch(batch, { ...buffers, sync } as object)
      batch = []
      bytes = 0
    }
    for await (const [key, value] of engine.iterator<Buffer, Buffer>({ ...buffers, snapshot, fillCache: false } as object)) {
      if (left.has(key.toString('latin1'))) continue
      batch.push({ type: 'put', key, value })
      bytes += key.length + value.length
      if (bytes >= innerBatchBytesMax) await write(false)
    }
    await write(true)
    await writeOut(target) // a full write-ahead log is left unsynced, and what was lost of it would not be missed
  } finally {
    await target.close()
  }
}
