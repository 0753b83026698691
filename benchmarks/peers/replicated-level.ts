import { once } from 'node:events'
import { isReplica, makeDatabase, operationsKnown } from '../databases.ts'
import type { Peer, PeerKind } from './peer.ts'

export const replicatedLevel: PeerKind = {
  title: 'ReplicatedLevel',
  packages: [],
  layout: 'TCP',
  durability: 'log of LevelDB, not synced',
  replicates: true,
  async open ({ directory, role }) {
    const database = makeDatabase({ engine: 'replicated', directory, encoding: 'utf8', ...(role === 'host' && { port: 0 }) })
    if (!isReplica(database)) throw new TypeError('Not a replica')
    await database.open()
    let host = ''
    return {
      put: (key, value) => database.put(key, value),
      batch: (puts) => database.batch(puts),
      get: (key) => database.get(key) as ReturnType<Peer['get']>,
      keys: () => database.keys(),
      known: () => operationsKnown(database),
      onChange (listener) {
        database.on('replicate', (versions) => {
          for (const { key } of versions) listener(key as string)
        })
      },
      invitation: () => database.replication.address,
      connect (address: { host: string, port: number }) {
        host = `${address.host}:${address.port}`
        database.replication.connect(host)
      },
      async disconnect () {
        const disconnected = once(database, 'disconnect')
        database.replication.disconnect(host)
        await disconnected
      },
      close: () => database.close()
    }
  }
}
