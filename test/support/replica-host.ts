/**
 * A database and what tests ask of it, with plain data in and out: the same in this process and in another one.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { ReplicatedLevel } from '../../lib/index.ts'
import { resolvers } from './resolvers.ts'
import { rootKeys, runWorkload, type Db, type EncodingName, type WorkloadOptions } from './workload.ts'

export interface HostOptions {
  readonly encoding?: EncodingName
  /** One of `resolvers`. */
  readonly resolver?: keyof typeof resolvers
  readonly [option: string]: unknown
}

/** What has to be the same on all replicas. */
export interface Snapshot {
  /** A digest of all keys and values. */
  readonly entries: string
  readonly count: number
  readonly vector: Readonly<Record<string, number>>
  /** Every key with several versions, and every version of the sampled keys. */
  readonly versions: string
  readonly conflicts: number
}

export interface EventRecord {
  readonly name: string
  readonly args: readonly unknown[]
}

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

export class ReplicaHost {
  #db: Db | undefined
  #encoding: EncodingName = 'utf8'
  readonly events: EventRecord[] = []

  get db (): Db {
    return this.#db!
  }

  /** Opens it; resolves with the port it listens on. */
  async open (location: string, { encoding = 'utf8', resolver, listens = true, ...options }: HostOptions = {}): Promise<number> {
    this.#encoding = encoding
    const db = this.#db = new ReplicatedLevel<any, any>(location, {
      port: 0,
      keyEncoding: encoding,
      valueEncoding: encoding,
      ...(resolver === undefined ? {} : { resolver: resolvers[resolver] }),
      ...options
    } as never)
    if (listens !== false) {
      for (const name of ['listening', 'connect', 'connection', 'disconnect', 'sync', 'error', 'conflict']) {
        db.on(name as 'open', (...args: unknown[]) => { this.events.push({ name, args: args.map(plain) }) })
      }
    }
    await db.open()
    return db.replication.address?.port ?? 0
  }

  async close (): Promise<void> {
    await this.db.close()
  }

  async put (key: unknown, value: unknown): Promise<void> {
    await this.db.put(key, value)
  }

  async del (key: unknown): Promise<void> {
    await this.db.del(key)
  }

  async get (key: unknown): Promise<unknown> {
    return await this.db.get(key)
  }

  async batch (operations: Array<{ type: 'put', key: unknown, value: unknown } | { type: 'del', key: unknown }>): Promise<void> {
    await this.db.batch(operations)
  }

  async work (options: Omit<WorkloadOptions, 'encoding'>): Promise<void> {
    await runWorkload(this.db, { ...options, encoding: this.#encoding })
  }

  /** Puts `count` keys from `prefix` on, each with `bytes` of value, 500 to a batch. */
  async fill (prefix: string, count: number, bytes: number): Promise<void> {
    for (let from = 0; from < count; from += 500) {
      await this.db.batch(Array.from({ length: Math.min(500, count - from) }, (_, index) => ({
        type: 'put' as const, key: `${prefix}${String(from + index).padStart(7, '0')}`, value: `${from + index} `.padEnd(bytes, 'x')
      })))
    }
  }

  async count (range: object = {}): Promise<number> {
    let count = 0
    for await (const _ of this.db.keys(range)) count++
    return count
  }

  vector (): Readonly<Record<string, number>> {
    return this.db.replication.status().vector
  }

  id (): string {
    return this.db.replication.id
  }

  connect (address: string): void {
    this.db.replication.connect(address)
  }

  disconnect (address: string): void {
    this.db.replication.disconnect(address)
  }

  peers (): Array<{ id: string | undefined, direction: string, state: string, bytes: { received: number, sent: number }, progress: number | undefined }> {
    return this.db.replication.peers().map(({ id, direction, state, bytes, progress }) => ({ id, direction, state, bytes, progress }))
  }

  applying (): boolean {
    return this.db.replication.status().applying
  }

  async synced (timeoutMs: number): Promise<void> {
    await this.db.replication.synced({ timeoutMs })
  }

  eventsSoFar (): EventRecord[] {
    return this.events
  }

  async snapshot (): Promise<Snapshot> {
    const entries = createHash('sha256')
    let count = 0
    for await (const [key, value] of this.db.iterator(buffers)) {
      entries.update(`${(key as Buffer).length} `).update(key as Buffer).update(`${(value as Buffer).length} `).update(value as Buffer)
      count++
    }
    const versions: string[] = []
    const text = ({ keyBytes, valueBytes, type, timestamp, origin }: { keyBytes: Uint8Array, valueBytes: Uint8Array | undefined, type: string, timestamp: number, origin: string }): string =>
      `${hex(keyBytes)} ${type} ${timestamp} ${origin} ${valueBytes === undefined ? '' : hex(valueBytes)}`
    let conflicts = 0
    for await (const conflict of this.db.replication.conflicts()) {
      conflicts++
      versions.push(conflict.versions.map(text).join('; '))
    }
    for (const key of rootKeys(this.#encoding).filter((_, index) => index % 4 === 0)) versions.push((await this.db.replication.versions(key)).map(text).join('; '))
    return { entries: entries.digest('hex'), count, vector: this.vector(), versions: versions.join('\n'), conflicts }
  }

  /** The most memory that this process ever had, in MB; undefined where the system does not say. */
  peakMemory (): number | undefined {
    try {
      return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024
    } catch {
      return undefined
    }
  }
}

function hex (bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** What of an event's argument can leave the process. */
function plain (value: unknown): unknown {
  if (value instanceof Error) return { message: value.message, code: (value as { code?: unknown }).code }
  if (typeof value !== 'object' || value === null) return value
  return JSON.parse(JSON.stringify(value, (_, each: unknown) => each instanceof Error ? { message: each.message, code: (each as { code?: unknown }).code } : each)) as unknown
}
