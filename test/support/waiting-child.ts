/**
 * A process that has no socket, and waits for its database: to open, and to be in sync.
 */
import { ReplicatedLevel } from '../../lib/index.ts'

const db = new ReplicatedLevel(process.argv[2]!, { port: false, peers: async () => await new Promise<never>(() => {}), initialSyncMs: 100 })
await db.open()
console.log('open')
await db.replication.synced({ timeoutMs: 100 }).catch((error) => { console.log(error.code) })
await db.close()
console.log('closed')
