/**
 * The process at the other end of `attack.ts`: attacks a replica in the way, and for as long, as it is told.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { newLogId } from '../../lib/core/ids.ts'
import { logsOfOthersMax } from '../../lib/limits.ts'
import type { AttackName } from './attack.ts'
import { framed, helloFrame, HostilePeer } from './hostile-peer.ts'

let port = 0
let key: Buffer
const state = { attacking: false }
const sockets = new Set<{ destroy (): void }>()
const counts: Record<string, number> = {}

const group = 'shop'
const pause = async (ms: number): Promise<void> => { await new Promise((resolve) => { setTimeout(resolve, ms) }) }
const hello = (number: number, changes = {}): Buffer => helloFrame({ group, replica: number.toString(16).padStart(32, '7'), ...changes })
const vector = (length: number): Array<{ log: ReturnType<typeof newLogId>, sequence: number, hlc: number }> => Array.from({ length }, () => ({ log: newLogId(randomBytes(8)), sequence: 1, hlc: 1 }))

async function dial (): Promise<HostilePeer> {
  const peer = await HostilePeer.dial(port, { key })
  sockets.add(peer.socket)
  peer.closed.then(() => { sockets.delete(peer.socket) }, () => {})
  return peer
}

function count (what: string): number {
  counts[what] = (counts[what] ?? 0) + 1
  return counts[what]!
}

/** The beginning of a ClientHello that will never be complete. */
const beginning = Buffer.concat([Buffer.from('1603010200010001fc0303', 'hex'), randomBytes(400)])
const longVector = framed(hello(1, { vector: vector(100_000) }))
const fullVector = vector(logsOfOthersMax - 100)

/** Each is repeated while it lasts. */
const attacks: Record<AttackName, () => Promise<void>> = {
  /** Two hundred in a second, from several addresses, each told byte by byte. */
  async 'slow handshakes' () {
    const number = count('slow handshakes')
    const socket: Socket = connect({ port, host: '127.0.0.1', localAddress: process.platform === 'linux' ? `127.0.0.${2 + number % 20}` : '127.0.0.1' })
    sockets.add(socket)
    let said = 0
    const timer = setInterval(() => { socket.write(beginning.subarray(said, ++said)) }, 250)
    socket.on('error', () => {}).resume().once('close', () => {
      clearInterval(timer)
      sockets.delete(socket)
    })
    await pause(5)
  },
  async 'frames of 4 GiB' () {
    const peer = await dial()
    if (count('frames of 4 GiB') % 2 === 0) await peer.say(hello(1))
    await peer.write(Buffer.concat([Buffer.of(0x80, 0x80, 0x80, 0x80, 0x10), Buffer.alloc(1000)]))
    await peer.closed
    await pause(50)
  },
  /** Asks for all there is, with credit without end. */
  async 'peers that never read' () {
    const peer = await dial()
    peer.socket.pause()
    await peer.say(hello(2 + count('peers that never read') % 4, { want: true, credit: 2 ** 40 }))
    await pause(500)
  },
  async 'vectors of 100,000 logs' () {
    const long = await dial()
    await long.write(longVector)
    await long.closed
    const full = await dial()
    count('vectors of 100,000 logs')
    await full.say(hello(1, { vector: fullVector }))
    await pause(500)
    full.leave()
  }
}

async function attack (name: AttackName): Promise<void> {
  while (state.attacking) await attacks[name]()
}

let over: Promise<void> = Promise.resolve()

process.on('message', (message: { port: number, key: string } | { begin: AttackName } | { end: true }) => {
  if ('port' in message) {
    port = message.port
    key = Buffer.from(message.key, 'hex')
  } else if ('begin' in message) {
    state.attacking = true
    over = attack(message.begin)
    process.send!({ counts })
  } else {
    state.attacking = false
    over.then(() => {
      for (const socket of sockets) socket.destroy()
      process.send!({ counts })
    }, (error) => { throw error })
  }
})
process.on('disconnect', () => { process.exit() })
