/**
 * A process that has no socket, and waits for its database: to open, to be in sync, and to be closed while nobody reads what it
 * has to say.
 */
import { ReplicatedLevel } from '../../lib/index.ts'

const db = new ReplicatedLevel(process.argv[2]!, { port: false, peers: async () => await new Promise<never>(() => {}), initialSyncMs: 100 })
await db.open()
console.log('open')
await db.replication.synced({ timeoutMs: 100 }).catch((error) => { console.log(error.code) })

const peer = new ReplicatedLevel(process.argv[3]!, { port: false })
await peer.open()
for (let index = 0; index < 20; index++) await db.put(String(index), 'x'.repeat(100_000))
const [here, there] = [db.replication.stream(), peer.replication.stream()]
here.sink(there.source).catch(() => {})
await new Promise<void>((resolve) => {
  const untilItStops = async function * (): AsyncGenerator<Uint8Array> {
    let bytes = 0
    for await (const chunk of here.source) {
      yield chunk.subarray()
      bytes += chunk.byteLength
      if (bytes > 100_000) await new Promise<never>(() => { resolve() })
    }
  }
  there.sink(untilItStops()).catch(() => {})
})
while (db.replication.peers()[0]!.operations.sent < 20) await new Promise((resolve) => { setTimeout(resolve, 10) })
await db.close()
console.log('closed')
await peer.close()
