/**
 * A database in this process that may be closed and opened again, its errors, random work for it, and a digest of all
 * that has to be the same on every replica.
 */
import { createHash } from 'node:crypto'
import { ReplicatedLevel, type ReplicationError } from '../../lib/index.ts'
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
  /** Every key with several versions, and every version of the sampled keys, but for deletes of what is nowhere left: each replica forgets them in its own time. */
  readonly versions: string
  readonly conflicts: number
}

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

export class ReplicaHost {
  #db: Db | undefined
  #encoding: EncodingName = 'utf8'
  readonly errors: ReplicationError[] = []

  get db (): Db {
    return this.#db!
  }

  /** Opens it; resolves with the port it listens on. */
  async open (location: string, { encoding = 'utf8', resolver, ...options }: HostOptions = {}): Promise<number> {
    this.#encoding = encoding
    const db = this.#db = new ReplicatedLevel<any, any>(location, {
      port: 0,
      discovery: false,
      keyEncoding: encoding,
      valueEncoding: encoding,
      ...(resolver === undefined ? {} : { resolver: resolvers[resolver] }),
      ...options
    } as never)
    db.on('error' as 'open', (...[error]: unknown[]) => { this.errors.push(error as ReplicationError) })
    await db.open()
    return db.replication.address?.port ?? 0
  }

  async close (): Promise<void> {
    await this.db.close()
  }

  async work (options: Omit<WorkloadOptions, 'encoding'>): Promise<void> {
    await runWorkload(this.db, { ...options, encoding: this.#encoding })
  }

  vector (): Readonly<Record<string, number>> {
    return this.db.replication.status().vector
  }

  connect (address: string): void {
    this.db.replication.connect(address)
  }

  disconnect (address: string): void {
    this.db.replication.disconnect(address)
  }

  async synced (timeoutMs: number): Promise<void> {
    await this.db.replication.synced({ timeoutMs })
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
    for (const key of rootKeys(this.#encoding).filter((_, index) => index % 4 === 0)) {
      const siblings = await this.db.replication.versions(key)
      if (siblings.some(({ type }) => type === 'put')) versions.push(siblings.map(text).join('; '))
    }
    return { entries: entries.digest('hex'), count, vector: this.vector(), versions: versions.join('\n'), conflicts }
  }
}

function hex (bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}
