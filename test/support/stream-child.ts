/**
 * A child process with a replica whose only peer is at the other end of its standard input and output.
 */
import { pipe } from 'it-pipe'
import { ReplicatedLevel, type Duplex } from '../../lib/index.ts'

const db = new ReplicatedLevel(process.argv[2]!, { port: false })
await db.put('child', 'was here')
const stdio: Duplex = {
  source: process.stdin,
  sink: async (chunks) => {
    for await (const chunk of chunks) process.stdout.write(chunk.subarray())
  }
}
await pipe(stdio, db.replication.stream(), stdio).catch(() => {})
await db.close()
