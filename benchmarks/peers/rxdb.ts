import { loadPackage } from './packages.ts'
import type { PeerKind } from './peer.ts'
import { freePort } from './ports.ts'

export const rxdb: PeerKind = {
  title: 'RxDB',
  packages: ['rxdb'],
  layout: 'WebSocket, its replication server at the host',
  durability: 'none: what is free of it keeps everything in memory on Node.js',
  replicates: true,
  async open ({ role }) {
    const { createRxDatabase } = loadPackage('rxdb')
    const { getRxStorageMemory } = loadPackage('rxdb/plugins/storage-memory')
    const { startWebsocketServer, replicateWithWebsocketServer } = loadPackage('rxdb/plugins/replication-websocket')
    const database = await createRxDatabase({ name: 'entries', storage: getRxStorageMemory(), multiInstance: false, eventReduce: false })
    const { entries } = await database.addCollections({
      entries: {
        schema: {
          version: 0,
          primaryKey: 'key',
          type: 'object',
          properties: { key: { type: 'string', maxLength: 32 }, value: { type: 'string' } },
          required: ['key', 'value']
        }
      }
    })
    let inserted = 0
    let changed: ((key: string) => void) | undefined
    entries.$.subscribe(({ operation, documentId }: { operation: string, documentId: string }) => {
      if (operation === 'INSERT') inserted++
      changed?.(documentId)
    })
    const port = await freePort()
    const server = role === 'host' ? startWebsocketServer({ database, port, host: '127.0.0.1' }) : undefined
    let replication: any
    return {
      put: (key, value) => entries.incrementalUpsert({ key, value }),
      batch: (puts) => entries.bulkInsert(puts.map(({ key, value }) => ({ key, value }))),
      get: async (key) => (await entries.findOne(key).exec())?.value,
      async * keys () {
        for (const { key } of await entries.find().exec()) yield key
      },
      known: () => inserted,
      onChange (listener) { changed = listener },
      invitation: () => `ws://127.0.0.1:${port}`,
      async connect (url: string) {
        replication = await replicateWithWebsocketServer({ replicationIdentifier: 'entries', collection: entries, url, batchSize: 1000, live: true })
      },
      async disconnect () { await replication.cancel() },
      async close () {
        await replication?.cancel()
        await server?.close()
        await database.close()
      }
    }
  }
}
