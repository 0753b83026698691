/**
 * Worker processes, and directories for their databases.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Commands } from './serve.ts'
import type { WorkerCommands } from './worker.ts'

type Argument<All extends Commands, Name extends keyof All> = Parameters<All[Name]>[0]
type Result<All extends Commands, Name extends keyof All> = Awaited<ReturnType<All[Name]>>

/** How long a worker may take to close its database before it is killed. */
const closeLimitMs = 20_000

/** Where a module is that is forked, as it is now: as source or compiled. */
export function modulePath (name: string, base: string): string {
  return fileURLToPath(new URL(`${name}.${base.endsWith('.ts') ? 'ts' : 'js'}`, base))
}

const workerPath = modulePath('worker', import.meta.url)

export class Worker<All extends Commands = WorkerCommands> {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, { resolve: (result: never) => void, reject: (error: Error) => void }>()
  readonly #exited: Promise<void>
  #calls = 0
  #ended: Error | undefined

  constructor (path: string) {
    this.#child = fork(path, [], { execArgv: ['--expose-gc', ...(process.env.BENCHMARKS_WORKER_OPTIONS ?? '').split(' ').filter(Boolean)] })
    this.#child.on('message', ({ id, result, error }: { id: number, result: never, error?: string }) => {
      const call = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) call?.resolve(result)
      else call?.reject(new Error(`In a worker: ${error}`))
    })
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#ended = new Error(`A worker ended (${signal ?? code})`)
        for (const { reject } of this.#waiting.values()) reject(this.#ended)
        this.#waiting.clear()
        resolve()
      })
    })
  }

  /** Runs a command in the worker, and gives what it gave. */
  async call<Name extends keyof All & string> (name: Name, argument?: Argument<All, Name>): Promise<Result<All, Name>> {
    if (this.#ended !== undefined) throw this.#ended
    const id = ++this.#calls
    return await new Promise<Result<All, Name>>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#child.send({ id, name, argument })
    })
  }

  /** Closes its database, and ends it. */
  async end (): Promise<void> {
    const limit = setTimeout(() => { this.#child.kill('SIGKILL') }, closeLimitMs)
    await this.call('close').catch(() => {})
    if (this.#child.connected) this.#child.disconnect()
    await this.#exited
    clearTimeout(limit)
  }
}

/** Runs `body` with so many workers, which end with it. */
export async function withWorkers<T, All extends Commands = WorkerCommands> (
  count: number, body: (...workers: Array<Worker<All>>) => Promise<T>, path = workerPath
): Promise<T> {
  const workers = Array.from({ length: count }, () => new Worker<All>(path))
  try {
    return await body(...workers)
  } finally {
    await Promise.all(workers.map(async (worker) => { await worker.end() }))
  }
}

/** Makes names of new directories, and removes them when they are done with. */
export class Directories {
  readonly #root: string
  #made = 0
  #inUse: string[] = []

  constructor (root: string) {
    this.#root = root
  }

  next (): string {
    const path = join(this.#root, String(++this.#made))
    this.#inUse.push(path)
    return path
  }

  /** Removes all; their databases have to be closed. */
  clear (): void {
    for (const path of this.#inUse) rmSync(path, { recursive: true, force: true, maxRetries: 5 })
    this.#inUse = []
  }
}
