/**
 * A TCP proxy that writes down what passes, and lets a test meddle with it.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface TcpProxy {
  readonly port: number
  /** How many there have been. */
  readonly connections: number
  /** What each side of each connection has said. */
  readonly fromDialler: Buffer[]
  readonly fromListener: Buffer[]
  /** Breaks every connection there is. */
  cut (): void
  close (): void
}

export type Meddle = (bytes: Buffer, direction: 'fromDialler' | 'fromListener') => Buffer

export async function tcpProxy (target: number, meddle: Meddle = (bytes) => bytes): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  const record: Pick<TcpProxy, 'fromDialler' | 'fromListener'> = { fromDialler: [], fromListener: [] }
  const carry = (from: Socket, to: Socket, direction: keyof typeof record): void => {
    sockets.add(from)
    from.on('data', (bytes) => {
      record[direction].push(bytes)
      to.write(meddle(bytes, direction))
    })
    from.on('end', () => { to.end() })
    from.on('error', () => { to.destroy() })
    from.on('close', () => { sockets.delete(from) })
  }
  const cut = (): void => { for (const socket of sockets) socket.destroy() }
  let connections = 0
  const server = createServer({ allowHalfOpen: true }, (dialler) => {
    connections++
    const listener = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true })
    carry(dialler, listener, 'fromDialler')
    carry(listener, dialler, 'fromListener')
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  return {
    port: (server.address() as AddressInfo).port,
    get connections () { return connections },
    ...record,
    cut,
    close: () => {
      server.close()
      cut()
    }
  }
}

/** The types of the TLS records that a stream begins with: 20 to 22 are of the handshake, 23 is data. */
export function recordTypes (stream: Buffer): number[] {
  const types: number[] = []
  for (let offset = 0; offset + 5 <= stream.length; offset += 5 + stream.readUInt16BE(offset + 3)) types.push(stream[offset]!)
  return types
}
