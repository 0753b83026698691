/**
 * A replica in a process of its own, which can be killed.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { ReplicaHost } from './replica-host.ts'

type Method = { [K in keyof ReplicaHost]: ReplicaHost[K] extends (...args: never[]) => unknown ? K : never }[keyof ReplicaHost]
type Arguments<M extends Method> = Parameters<Extract<ReplicaHost[M], (...args: never[]) => unknown>>
type Result<M extends Method> = Awaited<ReturnType<Extract<ReplicaHost[M], (...args: never[]) => unknown>>>

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: { message: string, code?: string }
}

export class HostProcess {
  readonly #child: ChildProcess
  readonly #calls = new Map<number, { resolve: (value: never) => void, reject: (error: Error) => void }>()
  readonly #exited: Promise<unknown>
  #next = 0

  constructor () {
    this.#child = fork(fileURLToPath(new URL('host-child.ts', import.meta.url)), { execArgv: ['--import', 'tsx'], serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#exited = once(this.#child, 'exit')
    this.#child.on('message', ({ id, value, error }: Answer) => {
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error === undefined) call?.resolve(value as never)
      else call?.reject(Object.assign(new Error(error.message), { code: error.code }))
    })
    this.#child.on('exit', (code, signal) => {
      for (const { reject } of this.#calls.values()) reject(new Error(`The process has ended: ${signal ?? code}`))
      this.#calls.clear()
    })
  }

  /** Calls a method of the {@link ReplicaHost} in the process. */
  async call<M extends Method> (method: M, ...args: Arguments<M>): Promise<Result<M>> {
    const id = this.#next++
    return await new Promise<Result<M>>((resolve, reject) => {
      this.#calls.set(id, { resolve: resolve as never, reject })
      this.#child.send({ id, method, args }, (error) => {
        if (error !== null && this.#calls.delete(id)) reject(error)
      })
    })
  }

  /** `kill -9`. Resolves when the process is gone. */
  async kill (): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exited
  }

  /** Closes the database and ends the process. */
  async end (): Promise<void> {
    await this.call('close')
    this.#child.disconnect()
    await this.#exited
  }
}
