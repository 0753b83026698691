/**
 * A conversation over any transport: a connection whose other end is an it-pipe duplex in the caller's hands.
 *
 * Whether that transport knows who is at its other end cannot be told, so that a stream is protected like any other
 * connection. Neither end has dialled: they draw lots, 16 random bytes each, and the higher is the client of TLS.
 */
import { Duplex as NodeDuplex } from 'node:stream'
import { pushable, type Pushable } from 'it-pushable'
import { Uint8ArrayList } from 'uint8arraylist'
import { ReplicationError } from '../errors.ts'
import { handshakeTimeoutMs } from '../limits.ts'
import type { Address, System } from '../types.ts'
import { SocketConnection } from './tcp.ts'
import type { Protection } from './tls.ts'
import type { Bytes, Connection, Duplex } from './transport.ts'

/** Bytes that may wait for whoever reads the duplex before the conversation stops writing. */
const writeAheadBytes = 256 * 1024

export class StreamConnection implements Connection {
  readonly remote: Address = { host: 'stream', port: 0 }
  readonly listensFirst = false
  bytesReceived = 0
  bytesSent = 0
  readonly #incoming: Pushable<Uint8Array> = pushable()
  readonly #outgoing: Pushable<Uint8Array> = pushable()
  /** Also ends what waits for a reader: it-pushable's `onEmpty` waits only if it is given a signal. */
  readonly #closing = new AbortController()
  #onRoom: (() => void) | undefined

  /** What the caller pipes with its transport. */
  readonly duplex: Duplex = {
    source: this.#read(),
    sink: async (source) => {
      try {
        for await (const bytes of source) {
          if (this.#closed) break
          const chunk = bytes.subarray()
          this.bytesReceived += chunk.byteLength
          this.#incoming.push(chunk)
          while (this.#incoming.readableLength > writeAheadBytes && !this.#closed) await this.#incoming.onEmpty({ signal: this.#closing.signal })
        }
        this.#incoming.end()
      } catch (error) {
        this.close(error as Error)
      }
    }
  }

  get source (): AsyncIterable<Bytes> {
    return this.#incoming
  }

  get #closed (): boolean {
    return this.#closing.signal.aborted
  }

  get unsentBytes (): number {
    return this.#outgoing.readableLength
  }

  readonly sink = async (source: AsyncIterable<Bytes>): Promise<void> => {
    for await (const bytes of source) {
      if (this.#closed) return
      this.#outgoing.push(bytes.subarray())
      while (this.unsentBytes > writeAheadBytes && !this.#closed) await new Promise<void>((resolve) => { this.#onRoom = resolve })
    }
    this.#outgoing.end()
  }

  close (error?: Error): void {
    if (this.#closed) return
    this.#closing.abort()
    this.#incoming.end(error)
    this.#outgoing.end()
    this.#onRoom?.()
  }

  async * #read (): AsyncGenerator<Uint8Array> {
    try {
      for await (const bytes of this.#outgoing) {
        this.bytesSent += bytes.byteLength
        yield bytes
        this.#onRoom?.()
      }
    } finally {
      this.close()
    }
  }
}

const lotBytes = 16

/**
 * A connection over a stream, once both ends have authenticated each other. The stream is closed if they do not.
 *
 * @throws what {@link Protection.handshake} throws
 */
export async function protectStream (stream: StreamConnection, protection: Protection, system: System): Promise<Connection> {
  const { remote } = stream
  const timer = system.setTimer(() => {
    stream.close(new ReplicationError(`The stream's other end was not heard of for ${handshakeTimeoutMs} ms`, { code: 'REPLICATION_TIMEOUT' }))
  }, handshakeTimeoutMs)
  try {
    const outgoing = pushable<Uint8Array>()
    stream.sink(outgoing).catch((error) => { stream.close(error) })
    const ours = Buffer.from(system.randomBytes(lotBytes))
    outgoing.push(ours)
    const incoming = stream.source[Symbol.asyncIterator]()
    const received = new Uint8ArrayList()
    while (received.byteLength < lotBytes) {
      const { done, value } = await incoming.next()
      if (done === true) throw new ReplicationError('The stream ended before its ends knew each other', { code: 'REPLICATION_DISCONNECTED' })
      received.append(value)
    }
    const role = Buffer.compare(ours, received.subarray(0, lotBytes)) > 0 ? 'client' : 'server'
    const raw = nodeDuplex(stream, incoming, outgoing)
    raw.unshift(received.subarray(lotBytes))
    const secured = await protection.handshake(raw, role, remote.host, system)
    return new SocketConnection(secured, remote, system, { listensFirst: role === 'client' })
  } catch (error) {
    stream.close()
    throw error
  } finally {
    system.clearTimer(timer)
  }
}

/** A connection as a stream of Node.js. */
function nodeDuplex (connection: Connection, incoming: AsyncIterator<Bytes>, outgoing: Pushable<Uint8Array>): NodeDuplex {
  const closing = new AbortController()
  const duplex = new NodeDuplex({
    read: () => {
      incoming.next().then(({ done, value }) => { duplex.push(done === true ? null : value.subarray()) }, (error) => { duplex.destroy(error) })
    },
    write: (chunk: Uint8Array, _encoding, done) => {
      outgoing.push(chunk)
      outgoing.onEmpty({ signal: closing.signal }).then(() => { done() }, done)
    },
    final: (done) => {
      outgoing.end()
      done()
    },
    destroy: (error, done) => {
      closing.abort()
      outgoing.end()
      connection.close(error ?? undefined)
      done(error)
    }
  })
  return duplex
}
