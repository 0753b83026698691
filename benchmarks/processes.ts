/**
 * Worker processes, and directories for their databases.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Commands } from './worker.ts'

type Argument<Name extends keyof Commands> = Parameters<Commands[Name]>[0]
type Result<Name extends keyof Commands> = Awaited<ReturnType<Commands[Name]>>

const workerPath = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? 'worker.ts' : 'worker.js', import.meta.url))

export class Worker {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, { resolve: (result: never) => void, reject: (error: Error) => void }>()
  readonly #exited: Promise<void>
  #calls = 0
  #ended: Error | undefined

  constructor () {
    this.#child = fork(workerPath, [], { execArgv: ['--expose-gc', ...(process.env.BENCHMARKS_WORKER_OPTIONS ?? '').split(' ').filter(Boolean)] })
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
  async call<Name extends keyof Commands> (name: Name, argument?: Argument<Name>): Promise<Result<Name>> {
    if (this.#ended !== undefined) throw this.#ended
    const id = ++this.#calls
    return await new Promise<Result<Name>>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#child.send({ id, name, argument })
    })
  }

  /** Closes its database, and ends it. */
  async end (): Promise<void> {
    await this.call('close').catch(() => {})
    if (this.#child.connected) this.#child.disconnect()
    await this.#exited
  }
}

/** Runs `body` with so many workers, which end with it. */
export async function withWorkers<T> (count: number, body: (...workers: Worker[]) => Promise<T>): Promise<T> {
  const workers = Array.from({ length: count }, () => new Worker())
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
