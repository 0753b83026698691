import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { loadPackage } from './packages.ts'
import type { PeerKind } from './peer.ts'

const document = 'entries'

export const yjs: PeerKind = {
  title: 'Yjs with y-leveldb',
  packages: ['yjs', 'y-leveldb', 'y-websocket'],
  layout: 'WebSocket, the server of y-websocket at the host; one map in one document, held in memory',
  durability: 'log of LevelDB, not synced; what comes from the other side is stored later',
  replicates: true,
  async open ({ directory, role }) {
    const Y = loadPackage('yjs')
    const { LeveldbPersistence } = loadPackage('y-leveldb')
    const { WebsocketProvider } = loadPackage('y-websocket')
    const WebSocket = loadPackage('ws')
    const { getYDoc, setPersistence, setupWSConnection } = loadPackage('y-websocket/bin/utils')
    const persistence = new LeveldbPersistence(directory)
    const server = role === 'host' ? createServer() : undefined
    if (server !== undefined) {
      setPersistence(null)
      new WebSocket.Server({ server }).on('connection', (socket: unknown, request: unknown) => {
        setupWSConnection(socket, request, { docName: document })
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
    }
    const doc = role === 'host' ? getYDoc(document) : new Y.Doc()
    const map = doc.getMap(document)
    let stored = Promise.resolve()
    doc.on('update', (update: Uint8Array) => { stored = persistence.storeUpdate(document, update) })
    let provider: any
    return {
      async put (key, value) {
        map.set(key, value)
        await stored
      },
      async batch (puts) {
        doc.transact(() => { for (const { key, value } of puts) map.set(key, value) })
        await stored
      },
      get: async (key) => map.get(key),
      async * keys () { yield * map.keys() },
      known: () => map.size,
      onChange (listener) {
        map.observe(({ keysChanged }: { keysChanged: Set<string> }) => { for (const key of keysChanged) listener(key) })
      },
      invitation: () => server && `ws://127.0.0.1:${(server.address() as AddressInfo).port}`,
      connect (url: string) {
        if (provider === undefined) provider = new WebsocketProvider(url, document, doc, { WebSocketPolyfill: WebSocket, disableBc: true })
        else provider.connect()
      },
      disconnect () { provider.disconnect() },
      async close () {
        provider?.destroy()
        server?.closeAllConnections()
        server?.close()
        await stored
        await persistence.destroy()
      }
    }
  }
}
