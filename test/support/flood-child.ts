/**
 * Somebody on the network who announces one forged service after another: `flood-child.ts <port> <services> [key]`.
 * With a key, in hexadecimal, he is a member of the group, and his tokens are genuine.
 */
import { randomBytes } from 'node:crypto'
import { networkInterfaces } from 'node:os'
import { GroupToken } from '../../lib/network/group-token.ts'
import { announcement, multicastGroup, multicastSocket } from './multicast.ts'

const [port = '0', services = '0', key] = process.argv.slice(2)
const token = new GroupToken(key === undefined ? randomBytes(32) : Buffer.from(key, 'hex'), (size) => randomBytes(size))
const own = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses).find(({ family, internal }) => family === 'IPv4' && !internal)!.address
const socket = await multicastSocket(5353, own)

const perPacket = 10
for (let sent = 0; sent < Number(services); sent += perPacket) {
  const packet = announcement(Array.from({ length: perPacket }, (_, part) => {
    const servicePort = 1 + (sent + part) % 65_000
    const { salt, digest } = token.make(servicePort)
    return { name: randomBytes(8).toString('hex'), port: servicePort, text: ['v=1', `s=${salt}`, `d=${digest}`], address: own }
  }))
  await new Promise((resolve) => { socket.send(packet, Number(port), multicastGroup, resolve) })
  // About ten thousand services a second.
  if (sent % 100 === 0) await new Promise((resolve) => { setTimeout(resolve, 10) })
}
socket.close()
