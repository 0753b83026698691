/**
 * Replicas in this process, connected over loopback.
 */
import { ReplicatedLevel, type ReplicatedLevelOptions, type ReplicationError } from '../../lib/index.ts'
import { newDirectory } from './directory.ts'
import { eventually } from './eventually.ts'

export type Events = NodeJS.EventEmitter

const opened = new Set<ReplicatedLevel<any, any>>()

/** Opens a replica that finds nobody by itself and is closed with {@link closeAll}; its background errors are collected. */
export async function openDatabase<V = string> (options: ReplicatedLevelOptions<string, V> = {}, directory = newDirectory()): Promise<ReplicatedLevel<string, V> & { errors: ReplicationError[] }> {
  const db = Object.assign(new ReplicatedLevel<string, V>(directory, { port: 0, discovery: false, ...options }), { errors: [] as ReplicationError[] })
  ;(db as Events).on('error', (error: ReplicationError) => { db.errors.push(error) })
  opened.add(db)
  await db.open()
  return db
}

export function addressOf (db: ReplicatedLevel<any, any>): string {
  return `127.0.0.1:${db.replication.address!.port}`
}

/** Waits until all hold the same, and know the same. */
export async function equal (...databases: Array<ReplicatedLevel<any, any>>): Promise<void> {
  const state = async (db: ReplicatedLevel<any, any>): Promise<string> => JSON.stringify([
    Object.entries(db.replication.status().vector).sort(([a], [b]) => a < b ? -1 : 1),
    await db.iterator({ valueEncoding: 'utf8' }).all()
  ])
  await eventually(async () => {
    const states = await Promise.all(databases.map(state))
    return states.every((text) => text === states[0])
  }, { message: 'all are equal' })
}

/** Waits until a link between the two is greeted. */
export async function linked (a: ReplicatedLevel<any, any>, b: ReplicatedLevel<any, any>): Promise<void> {
  await eventually(() => a.replication.peers().some(({ id, state }) => id === b.replication.id && state === 'live'), { message: 'they are linked' })
}

export async function closeAll (): Promise<void> {
  const databases = [...opened]
  opened.clear()
  await Promise.all(databases.map(async (db) => { await db.close() }))
}
