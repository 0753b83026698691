/**
 * Single writes and what they are compared with: a bare round trip over loopback TCP and a put into classic-level.
 *
 * The two alternate, with a pause after each, so that both meet the same machine and no write waits for another. The
 * writer notes when each put began, the reader when each became visible; they are matched by key afterwards.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { nowMs } from './clock.ts'
import { makeDatabase, type Database, type Replica } from './databases.ts'
import { putsOf, type Encoding } from './data.ts'

/** About what a small write takes on the wire. */
const messageBytes = 200
const pauseMs = 1

export interface Arrivals {
  /** Waits for so many arrivals, and gives their keys and moments. */
  take (count: number): Promise<Array<[string, number]>>
}

export function watchArrivals (replica: Replica): Arrivals {
  const seen: Array<[Uint8Array, number]> = []
  replica.on('replicate', (versions) => {
    const now = nowMs()
    for (const { keyBytes } of versions) seen.push([keyBytes, now])
  })
  return {
    async take (count) {
      while (seen.length < count) await sleep(pauseMs)
      return seen.splice(0).map(([key, moment]) => [Buffer.from(key).toString('latin1'), moment])
    }
  }
}

/** Opens a server that sends back what it gets; gives its port. */
export async function openEcho (): Promise<number> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('data', (bytes) => { socket.write(bytes) })
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  server.unref()
  return (server.address() as AddressInfo).port
}

export interface ProbeOptions {
  readonly database: Database
  readonly encoding: Encoding
  readonly from: number
  readonly count: number
  readonly echoPort: number
  /** Of the bare classic-level. */
  readonly directory: string
}

export interface Probes {
  /** Each key, and the moment at which its put began. */
  readonly started: Array<[string, number]>
  /** How long each bare round trip with a bare put took. */
  readonly bareMs: number[]
}

export async function probe ({ database, encoding, from, count, echoPort, directory }: ProbeOptions): Promise<Probes> {
  const bare = makeDatabase({ engine: 'classic', directory, encoding })
  await bare.open()
  const socket = connect({ port: echoPort, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  const message = Buffer.alloc(messageBytes, 1)
  const started: Array<[string, number]> = []
  const bareMs: number[] = []
  try {
    for (const { key, value } of putsOf(from, count, encoding)) {
      const startMs = nowMs()
      await database.put(key, value)
      started.push([key.toString('latin1' as never), startMs])
      await sleep(pauseMs)

      const bareStartMs = nowMs()
      socket.write(message)
      for (let received = 0; received < messageBytes;) received += ((await once(socket, 'data'))[0] as Buffer).length
      await bare.put(key, value)
      bareMs.push(nowMs() - bareStartMs)
      await sleep(pauseMs)
    }
  } finally {
    socket.destroy()
    await bare.close()
  }
  return { started, bareMs }
}
