/**
 * Multicast DNS of one's own making, and a port where nobody else's is heard.
 */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

/** Encodes and decodes messages of DNS; what bonjour-service uses. */
export const dns = createRequire(require.resolve('multicast-dns', { paths: [require.resolve('bonjour-service')] }))('dns-packet') as {
  encode (packet: object): Buffer
  decode (bytes: Buffer): any
}

export const multicastGroup = '224.0.0.251'

/** A UDP port that is free at this moment. */
export async function freeUdpPort (): Promise<number> {
  const socket = createSocket('udp4').bind(0)
  await once(socket, 'listening')
  const { port } = socket.address()
  await new Promise<void>((resolve) => { socket.close(resolve) })
  return port
}

/** A socket that hears and says what it likes on an interface. */
export async function multicastSocket (port: number, interfaceAddress = '127.0.0.1'): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true }).bind(port, '0.0.0.0')
  await once(socket, 'listening')
  socket.addMembership(multicastGroup, interfaceAddress)
  socket.setMulticastInterface(interfaceAddress)
  return socket
}

/** An announcement as bonjour-service and Avahi make it. */
export function announcement (services: Array<{ name: string, port: number, text: string[], address?: string }>): Buffer {
  const domain = '_replicatedlevel._tcp.local'
  return dns.encode({
    type: 'response',
    answers: services.flatMap(({ name, port, text, address = '127.0.0.1' }) => [
      { name: domain, type: 'PTR', ttl: 120, data: `${name}.${domain}` },
      { name: `${name}.${domain}`, type: 'SRV', ttl: 120, data: { port, target: `${name}.local` } },
      { name: `${name}.${domain}`, type: 'TXT', ttl: 120, data: text },
      { name: `${name}.local`, type: 'A', ttl: 120, data: address }
    ])
  })
}
