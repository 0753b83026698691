import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { loadPackage } from './packages.ts'
import type { PeerKind } from './peer.ts'

interface Invitation {
  readonly port: number
  /** Public key of the bee that this side writes. */
  readonly key: string | undefined
}

/** A bee has one writer. If both sides write, each has a bee of its own, and reads both: nothing is merged. */
export const hyperbee: PeerKind = {
  title: 'Hyperbee',
  packages: ['hyperbee', 'hypercore', 'corestore'],
  layout: 'TCP, encrypted; one writer, so two bees side by side where both write',
  durability: 'log of RocksDB, not synced',
  replicates: true,
  async open ({ directory, role, bothWrite, invitation }) {
    const Corestore = loadPackage('corestore')
    const Hyperbee = loadPackage('hyperbee')
    const store = new Corestore(directory)
    await store.ready()
    const beeOf = async (core: any): Promise<any> => {
      const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'utf-8' })
      await bee.ready()
      return bee
    }
    const own = role === 'host' || bothWrite ? await beeOf(store.get({ name: 'entries' })) : undefined
    let other: any
    const follow = async ({ key }: Invitation): Promise<void> => {
      if (key === undefined || other !== undefined) return
      other = await beeOf(store.get({ key: Buffer.from(key, 'hex') }))
      other.core.download({ start: 0, end: -1 })
    }
    if (role === 'guest') await follow(invitation)

    const sockets = new Set<Socket>()
    const replicate = (socket: Socket, initiator: boolean): void => {
      sockets.add(socket)
      const stream = store.replicate(initiator)
      for (const end of [socket, stream]) end.on('error', () => {})
      socket.on('close', () => { sockets.delete(socket) })
      socket.pipe(stream).pipe(socket)
    }
    const server = createServer({ noDelay: true }, (socket) => { replicate(socket, false) })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const disconnect = (): void => { for (const socket of sockets) socket.destroy() }

    const bees = (): any[] => [own, other].filter((bee) => bee !== undefined)
    return {
      put: (key, value) => own.put(key, value),
      async batch (puts) {
        const batch = own.batch()
        for (const { key, value } of puts) await batch.put(key, value)
        await batch.flush()
      },
      async get (key) {
        for (const bee of bees()) {
          const node = await bee.get(key)
          if (node !== null) return node.value
        }
        return undefined
      },
      async * keys () {
        for (const bee of bees()) yield * bee.createReadStream()
      },
      // Each put is a block, after one of the header.
      known: () => bees().reduce((sum, { core }) => sum + Math.max(0, core.contiguousLength - 1), 0),
      onChange (listener) { other.core.on('append', () => { listener() }) },
      invitation: (): Invitation => ({ port: (server.address() as AddressInfo).port, key: own?.core.key.toString('hex') }),
      welcome: follow,
      async connect ({ port }: Invitation) {
        const socket = connect({ port, host: '127.0.0.1', noDelay: true })
        await once(socket, 'connect')
        replicate(socket, true)
      },
      disconnect,
      async close () {
        disconnect()
        server.close()
        await store.close()
      }
    }
  }
}
