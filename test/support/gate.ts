/**
 * A way to a replica on which what it sends is held up, for as long as a test needs.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Gate {
  readonly address: string
  /** Lets everything pass. */
  open (): void
}

const closers = new Set<() => void>()

/** Lets so many bytes of the listener's pass over each connection, and the others once it is told to. */
export async function openGate (port: number, bytes: number): Promise<Gate> {
  const sockets = new Set<Socket>()
  let isOpen = false
  const server = createServer((dialler) => {
    const listener = connect(port, '127.0.0.1')
    let passed = 0
    for (const [from, to] of [[dialler, listener], [listener, dialler]] as const) {
      sockets.add(from)
      from.on('error', () => {}).on('close', () => { to.destroy() })
      from.on('data', (chunk) => {
        to.write(chunk)
        if (from === listener && !isOpen && (passed += chunk.length) >= bytes) listener.pause()
      })
    }
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  closers.add(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    open: () => {
      isOpen = true
      for (const socket of sockets) socket.resume()
    }
  }
}

export function closeGates (): void {
  for (const close of closers) close()
  closers.clear()
}
