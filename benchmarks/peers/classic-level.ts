import { makeDatabase } from '../databases.ts'
import type { Peer, PeerKind } from './peer.ts'

const alone = (): never => { throw new Error('classic-level does not replicate') }

export const classicLevel: PeerKind = {
  title: 'classic-level',
  packages: [],
  layout: 'no replication',
  durability: 'log of LevelDB, not synced',
  replicates: false,
  async open ({ directory }) {
    const database = makeDatabase({ engine: 'classic', directory, encoding: 'utf8' })
    await database.open()
    return {
      put: (key, value) => database.put(key, value),
      batch: (puts) => database.batch(puts),
      get: (key) => database.get(key) as ReturnType<Peer['get']>,
      keys: () => database.keys(),
      known: alone,
      onChange: alone,
      invitation: () => undefined,
      connect: alone,
      disconnect: alone,
      close: () => database.close()
    }
  }
}
