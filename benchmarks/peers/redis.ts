import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { loadPackage } from './packages.ts'
import type { PeerKind } from './peer.ts'
import { freePort } from './ports.ts'

/** Nobody listens there: a replica that is pointed at it keeps what it has, and knows how far it is. */
const nowhere = 1

/** A primary with a replica. If both sides write, both write to the primary, as Redis has it. */
export const redis: PeerKind = {
  title: 'Redis with a replica',
  packages: ['ioredis'],
  layout: 'servers of their own beside both processes; where both write, they write to the primary',
  durability: 'append-only file, synced every second',
  replicates: true,
  missing: () => spawnSync('redis-server', ['--version']).status === 0 ? undefined : 'redis-server is not installed',
  async open ({ directory, role, bothWrite, invitation }) {
    const Redis = loadPackage('ioredis')
    const clientOf = async (port: number): Promise<any> => {
      const client = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 20, maxRetriesPerRequest: null })
      client.on('error', () => {})
      await client.ping()
      return client
    }
    const port = await freePort()
    const server = spawn('redis-server', [
      '--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '',
      '--appendonly', 'yes', '--appendfsync', 'everysec', '--repl-diskless-sync-delay', '0',
      ...(role === 'guest' ? ['--notify-keyspace-events', 'K$'] : [])
    ], { stdio: 'ignore' })
    process.once('exit', () => { server.kill('SIGKILL') })
    const client = await clientOf(port)
    const primary = role === 'host' ? client : await clientOf(invitation as number)
    const writer = bothWrite ? primary : client
    let subscriber: any
    const sentBytes = async (): Promise<number> => Number(/total_net_repl_output_bytes:(\d+)/.exec(await primary.info('stats'))![1])
    return {
      processes: [server.pid!],
      put: (key, value) => writer.set(key, value),
      batch: (puts) => writer.mset(puts.flatMap(({ key, value }) => [key, value])),
      get: async (key) => await client.get(key) ?? undefined,
      async * keys () {
        // A scan may name a key twice.
        const keys = new Set<string>()
        for await (const page of client.scanStream({ count: 1000 })) for (const key of page) keys.add(key)
        yield * keys
      },
      // It answers with an error while it loads what the primary sent.
      known: async () => await client.dbsize().catch(() => 0),
      async onChange (listener) {
        subscriber = await clientOf(port)
        await subscriber.psubscribe('__keyspace@0__:*')
        subscriber.on('pmessage', (_pattern: string, channel: string) => { listener(channel.slice(channel.indexOf(':') + 1)) })
      },
      invitation: () => port,
      connect: (primaryPort: number) => client.replicaof('127.0.0.1', primaryPort),
      disconnect: () => client.replicaof('127.0.0.1', nowhere),
      wireBytes: sentBytes,
      async close () {
        for (const each of new Set([client, primary, subscriber])) each?.disconnect()
        const ended = once(server, 'exit')
        server.kill('SIGTERM')
        await ended
      }
    }
  }
}
