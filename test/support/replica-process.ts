/**
 * A replica in a process of its own, which can be killed; `replica-child.ts` is the other end.
 */
import { fork, spawnSync, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { eventually } from './eventually.ts'

const childFile = fileURLToPath(new URL('replica-child.ts', import.meta.url))
const alive = new Set<ChildProcess>()
process.once('exit', killAll)

/** Ends every process that is still there. */
export function killAll (): void {
  for (const child of alive) child.kill('SIGKILL')
}

/** Where and how a process runs. */
export interface Place {
  /** A Linux network namespace. */
  readonly namespace?: string
  /** A file with what it is to take for the boot id of the machine: as if that had been restarted. Needs root. */
  readonly bootIdFile?: string
  /** More of its environment. */
  readonly env?: NodeJS.ProcessEnv
}

/** What the command of the process is given to; nothing if it is run as it is. */
function wrapper ({ namespace, bootIdFile }: Place): string[] {
  if (namespace !== undefined) return ['ip', 'netns', 'exec', namespace]
  if (bootIdFile !== undefined) return ['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"', bootIdFile]
  return []
}

let mounts: boolean | undefined

/** Whether a process may have a boot id of its own, and says so if not. */
export function canMount (): boolean {
  mounts ??= spawnSync('unshare', ['-m', 'mount', '--bind', '/dev/null', '/proc/sys/kernel/random/boot_id']).status === 0
  if (!mounts) console.log('SKIPPED: no process can be given another boot id here')
  return mounts
}

export class ReplicaProcess {
  readonly directory: string
  /** Where it listens. */
  address = ''
  /** What the task `stream` has been told was written. */
  readonly acknowledged: string[] = []
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>()
  readonly #exited: Promise<void>
  #tasks = 0

  private constructor (directory: string, place: Place) {
    this.directory = directory
    const [execPath, ...execArgv] = [...wrapper(place), process.execPath, '--import', import.meta.resolve('tsx')]
    this.#child = fork(childFile, { execPath: execPath!, execArgv, env: { ...process.env, ...place.env } })
    alive.add(this.#child)
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        alive.delete(this.#child)
        for (const { reject } of this.#waiting.values()) reject(new Error(`The process ended: ${signal ?? code}`))
        resolve()
      })
    })
    this.#child.on('message', (message: { id: number, result?: unknown, error?: string, acknowledged?: string }) => {
      if (message.acknowledged !== undefined) {
        this.acknowledged.push(message.acknowledged)
        return
      }
      const { resolve, reject } = this.#waiting.get(message.id)!
      this.#waiting.delete(message.id)
      if (message.error === undefined) resolve(message.result)
      else reject(new Error(message.error))
    })
  }

  static async open (directory: string, options: object = {}, place: Place = {}): Promise<ReplicaProcess> {
    const replica = new ReplicaProcess(directory, place)
    replica.address = await replica.do('open', { directory, seed: 1, ...options })
    return replica
  }

  async do (task: string, options: object = {}): Promise<any> {
    return await new Promise((resolve, reject) => {
      const id = ++this.#tasks
      this.#waiting.set(id, { resolve, reject })
      this.#child.send({ id, task, options }, (error) => { if (error !== null) reject(error) })
    })
  }

  /** As `kill -9` does. */
  async kill (): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exited
  }

  async close (): Promise<void> {
    await this.do('close')
    this.#child.disconnect()
    await this.#exited
  }
}

/** Waits until all know the same, and checks that they hold the same. */
export async function converged (replicas: ReplicaProcess[], timeoutMs = 60_000): Promise<{ count: number, hash: string }> {
  await eventually(async () => {
    const vectors = await Promise.all(replicas.map(async (replica) => sorted(await replica.do('vector'))))
    return vectors.every((vector) => vector === vectors[0])
  }, { timeoutMs, message: 'all replicas know the same' })
  const digests = await Promise.all(replicas.map(async (replica) => await replica.do('digest')))
  for (const digest of digests) {
    if (digest.hash !== digests[0].hash) throw new Error(`Replicas with equal vectors differ: ${JSON.stringify(digests)}`)
  }
  return digests[0]
}

function sorted (vector: Record<string, number>): string {
  return JSON.stringify(Object.entries(vector).sort(([a], [b]) => a < b ? -1 : 1))
}
