import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import { join, sep } from 'node:path'
import { loadPackage } from './packages.ts'
import type { PeerKind } from './peer.ts'

/** Names that begin with an underscore are its own. */
const prefix = 'entry:'

export const pouchdb: PeerKind = {
  title: 'PouchDB',
  packages: ['pouchdb', 'express-pouchdb'],
  layout: 'HTTP, live sync both ways with express-pouchdb at the host',
  durability: 'log of LevelDB, not synced',
  replicates: true,
  async open ({ directory, role }) {
    const PouchDB = loadPackage('pouchdb')
    const Local = PouchDB.defaults({ prefix: directory + sep })
    const database = new Local('entries')
    await database.info()
    let server: Server & { closeAllConnections (): void } | undefined
    if (role === 'host') {
      const application = loadPackage('express')()
      application.use('/', loadPackage('express-pouchdb')(Local, {
        mode: 'minimumForPouchDB', configPath: join(directory, 'config.json'), logPath: join(directory, 'log.txt')
      }))
      server = application.listen(0, '127.0.0.1')
      await once(server!, 'listening')
    }
    let sync: any
    let changes: any
    return {
      async put (key, value) {
        const _id = prefix + key
        try {
          await database.put({ _id, value })
        } catch (error) {
          // It has a revision, which has to be named.
          if ((error as { status?: number }).status !== 409) throw error
          const { _rev } = await database.get(_id)
          await database.put({ _id, _rev, value })
        }
      },
      batch: (puts) => database.bulkDocs(puts.map(({ key, value }) => ({ _id: prefix + key, value }))),
      async get (key) {
        try {
          return (await database.get(prefix + key)).value
        } catch (error) {
          if ((error as { status?: number }).status !== 404) throw error
          return undefined
        }
      },
      async * keys () {
        for (const { id } of (await database.allDocs()).rows) yield id
      },
      known: async () => (await database.info()).doc_count,
      onChange (listener) {
        changes = database.changes({ live: true, since: 'now' }).on('change', ({ id }: { id: string }) => { listener(id.slice(prefix.length)) })
      },
      invitation: () => server && `http://127.0.0.1:${(server.address() as AddressInfo).port}/entries`,
      connect (url: string) {
        sync = database.sync(new PouchDB(url), { live: true, retry: true, batch_size: 1000 })
        sync.on('error', () => {})
      },
      async disconnect () {
        const complete = once(sync, 'complete')
        sync.cancel()
        await complete
        sync = undefined
      },
      async close () {
        changes?.cancel()
        sync?.cancel()
        server?.closeAllConnections()
        server?.close()
        await database.close()
      }
    }
  }
}
