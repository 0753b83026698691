/**
 * What LevelDB leaves to its user after a failed write, and before a loss of power.
 *
 * LevelDB cannot be trusted with another write after one has failed: what it wrote in part stays in its log, and what
 * comes after it would be lost at the next open. Closing and opening mends that. But a database that was closed and
 * finds no room cannot be read either: so it stays as it is until there is room for what an open writes.
 */
import { open, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ReplicationError } from '../errors.ts'
import { MiB } from '../limits.ts'
import type { System } from '../types.ts'
import type { Engine } from './engine.ts'

/** Stays behind if the process ends while it looks for room. */
export const roomFileName = 'REPLICA.room'

/** Fails unless a directory takes as much as LevelDB may write when it is opened. */
export async function assertRoom (directory: string): Promise<void> {
  let bytes = MiB
  for (const name of await readdir(directory)) if (name.endsWith('.log')) bytes += (await stat(join(directory, name))).size
  const path = join(directory, roomFileName)
  const file = await open(path, 'w')
  try {
    const piece = Buffer.alloc(MiB)
    for (let left = bytes; left > 0; left -= piece.length) await file.writeFile(piece)
    await file.sync()
  } finally {
    await file.close()
    await rm(path, { force: true })
  }
}

/**
 * Syncs the write-ahead logs that are full. LevelDB goes on in a new one without that, so that a write with `sync` leaves
 * what came before it to chance until a table holds it: only then is the full log removed.
 */
export async function syncFullLogs (directory: string): Promise<void> {
  const logs = (await readdir(directory)).filter((name) => /^\d+\.log$/.test(name)).sort((a, b) => parseInt(a) - parseInt(b))
  for (const name of logs.slice(0, -1)) {
    try {
      const file = await open(join(directory, name), 'r+')
      try {
        await file.datasync()
      } finally {
        await file.close()
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
}

const waitMinMs = 100
const waitMaxMs = 1000

export interface ReopenerOptions {
  readonly level: Engine
  readonly directory: string
  /** Those that the database was opened with. */
  readonly options: object
  readonly system: System
}

export class Reopener {
  readonly #options: ReopenerOptions
  #opening: { readonly promise: Promise<void>, readonly resolve: () => void, readonly reject: (error: unknown) => void } | undefined
  #stopped = false
  #wake = (): void => {}
  /** The last one, which may be under way. */
  #attempt: Promise<void> = Promise.resolve()
  /** How often the database has been closed and opened. */
  generation = 0
  /** Reads of iterators that are under way. */
  readonly reads = new Set<Promise<unknown>>()

  constructor (options: ReopenerOptions) {
    this.#options = options
  }

  /** While the database is closed: resolves when it is open again. */
  get opening (): Promise<void> | undefined {
    return this.#opening?.promise
  }

  /** Tries until it is open again, and `look` succeeds. */
  async reopen (look: () => Promise<void>): Promise<void> {
    for (let waitMs = waitMinMs; ; waitMs = Math.min(2 * waitMs, waitMaxMs)) {
      await this.#sleep(waitMs)
      if (this.#stopped) throw notOpen()
      this.#attempt = this.#try(look)
      try {
        return await this.#attempt
      } catch {
        // The cause has been told; it is not gone yet.
      }
    }
  }

  async #try (look: () => Promise<void>): Promise<void> {
    await assertRoom(this.#options.directory)
    await this.#closeAndOpen()
    await look()
  }

  async #closeAndOpen (): Promise<void> {
    const { level, options } = this.#options
    this.#opening ??= deferred()
    this.generation++
    await Promise.allSettled(this.reads)
    if (level.status !== 'closed') await level.close()
    await level.open({ ...options, passive: false, createIfMissing: false, errorIfExists: false })
    this.#opening.resolve()
    this.#opening = undefined
  }

  async #sleep (ms: number): Promise<void> {
    const { system } = this.#options
    if (this.#stopped) return
    await new Promise<void>((resolve) => {
      const timer = system.setTimer(resolve, ms)
      this.#wake = () => {
        system.clearTimer(timer)
        resolve()
      }
    })
  }

  /** Gives up. Resolves when nothing is being closed and opened any more. */
  async stop (): Promise<void> {
    this.#stopped = true
    this.#opening?.reject(notOpen())
    this.#wake()
    await this.#attempt.catch(() => {})
  }
}

function deferred (): { promise: Promise<void>, resolve: () => void, reject: (error: unknown) => void } {
  let settle: { resolve: () => void, reject: (error: unknown) => void }
  const promise = new Promise<void>((resolve, reject) => { settle = { resolve, reject } })
  promise.catch(() => {})
  return { promise, ...settle! }
}

function notOpen (): ReplicationError {
  return new ReplicationError('The database is closed', { code: 'LEVEL_DATABASE_NOT_OPEN' })
}
