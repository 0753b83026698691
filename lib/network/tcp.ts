/**
 * TCP: the transport of production, bare or protected by TLS.
 *
 * The adapter between socket and duplex is our own. stream-to-it reads through the stream's async iterator
 * (which copies chunks together, and costs ticks) and writes chunk by chunk, one system call each; it neither
 * corks, nor stops a sink whose source is silent when the socket goes.
 *
 * What must always hold:
 * - a socket has an error listener from its first moment to its last;
 * - a reader that does not pull stops the socket; at most `readAheadBytes` and one chunk wait in memory;
 * - what the source has ready in one tick leaves in that tick, in one system call (`process.nextTick` runs when
 *   the microtasks are done, and before any I/O);
 * - a source that is never out of bytes cannot starve the event loop.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { ReplicationError, toReplicationError } from '../errors.ts'
import type { Address, System } from '../types.ts'
import { canonicalHost, formatAddress } from './addresses.ts'
import { Chunks } from './chunks.ts'
import { Lobby } from './lobby.ts'
import { Names, type NameResolver } from './names.ts'
import type { Protection } from './tls.ts'
import type { Bytes, Connection, DialOptions, Listener, Transport } from './transport.ts'

/** Bytes, and chunks, that may wait for a reader before the socket is paused. */
const readAheadBytes = 256 * 1024
const readAheadChunks = 256

/** Bytes that may wait for the operating system before the source is no longer pulled. */
const writeAheadBytes = 256 * 1024

/** Where a machine has no IPv6, all interfaces are those of IPv4. */
const allInterfaces = '::'
const allIpv4Interfaces = '0.0.0.0'

/** Bytes written in a row before pending I/O gets its turn. */
const burstBytes = 2 * 1024 * 1024

/** TCP connections, without delay (RFC 896 off). An open connection or listener keeps the process alive. */
export class TcpTransport implements Transport {
  readonly #system: System
  readonly #protection: Protection | undefined
  readonly #names: Names

  /** With a `protection`, both ends of each connection have been authenticated when it is handed on. */
  constructor ({ system, protection, resolver }: { system: System, protection?: Protection | undefined, resolver?: NameResolver }) {
    this.#system = system
    this.#protection = protection
    this.#names = new Names(system, resolver)
  }

  async dial (address: Address, options: DialOptions): Promise<Connection> {
    const { signal } = options
    const socket = await this.#connect(address, options)
    if (this.#protection === undefined) return new SocketConnection(socket, address, this.#system)
    const abort = (): void => { socket.destroy() }
    signal.addEventListener('abort', abort)
    try {
      const secured = await this.#protection.handshake(socket, 'client', formatAddress(address), this.#system)
      return new SocketConnection(secured, address, this.#system, { listensFirst: true })
    } catch (error) {
      if (signal.aborted) throw dialFailed(address, 'aborted', signal.reason)
      if (toReplicationError(error).code === 'REPLICATION_AUTHENTICATION_FAILED') throw error
      throw dialFailed(address, (error as Error).message, error)
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  async #connect (address: Address, { signal, timeoutMs }: DialOptions): Promise<Socket> {
    if (signal.aborted) throw dialFailed(address, 'aborted', signal.reason)
    return await new Promise((resolve, reject) => {
      let socket: Socket
      try {
        socket = connect({ host: address.host, port: address.port, lookup: this.#names.lookup, noDelay: true, allowHalfOpen: true })
      } catch (error) {
        reject(dialFailed(address, (error as Error).message, error))
        return
      }
      const forget = (): void => {
        this.#system.clearTimer(timer)
        signal.removeEventListener('abort', abort)
      }
      const fail = (reason: string, cause: unknown): void => {
        forget()
        reject(dialFailed(address, reason, cause))
        socket.destroy()
      }
      const abort = (): void => { fail('aborted', signal.reason) }
      const timer = this.#system.setTimer(() => {
        fail(`no answer within ${timeoutMs} ms`, new ReplicationError('Timeout', { code: 'REPLICATION_TIMEOUT' }))
      }, timeoutMs)
      signal.addEventListener('abort', abort)
      socket.on('error', (error: Error) => { fail(reasonOf(error), error) })
      socket.once('connect', () => {
        forget()
        resolve(socket)
      })
    })
  }

  async listen (
    address: Address,
    onConnection: (connection: Connection) => void,
    onError: (error: ReplicationError, remote?: Address) => void
  ): Promise<Listener> {
    const server = createServer({ noDelay: true, allowHalfOpen: true })
    const handOn = (socket: Socket, remote: Address): void => {
      const connection = new SocketConnection(socket, remote, this.#system)
      try {
        onConnection(connection)
      } catch (error) {
        connection.close()
        onError(toReplicationError(error))
      }
    }
    const lobby = new Lobby()
    server.on('connection', (socket) => {
      const remote = remoteOf(socket)
      if (this.#protection === undefined) return handOn(socket, remote)
      lobby.enter(socket, remote.host, () => { socket.destroy() })
      this.#protection.handshake(socket, 'server', formatAddress(remote), this.#system)
        .finally(() => { lobby.leave(socket) })
        .then((secured) => { handOn(secured, remote) }, (error: ReplicationError) => {
          if (error.code !== 'REPLICATION_DISCONNECTED') onError(error, remote)
        })
    })
    const failed = (error: Error): ReplicationError => new ReplicationError(
      `Cannot listen on ${formatAddress(address)}: ${reasonOf(error)}`,
      { code: isInUse(error) ? 'REPLICATION_ADDRESS_IN_USE' : 'REPLICATION_LISTEN_FAILED', cause: error }
    )
    await new Promise<void>((resolve, reject) => {
      let listening = false
      let { host } = address
      // Exclusive: the workers of a cluster would otherwise share one port among different databases.
      const listen = (): void => { server.listen({ host, port: address.port, exclusive: true }, () => { listening = true; resolve() }) }
      server.on('error', (error) => {
        if (listening) {
          onError(failed(error))
        } else if (host === allInterfaces && isWithoutIpv6(error)) {
          host = allIpv4Interfaces
          listen()
        } else {
          reject(failed(error))
        }
      })
      try {
        listen()
      } catch (error) {
        reject(failed(error as Error))
      }
    })
    const { address: host, port } = server.address() as AddressInfo
    return {
      address: { host, port },
      close: async () => {
        server.close()
        lobby.close()
        await this.#system.yield()
      }
    }
  }
}

function dialFailed (address: Address, reason: string, cause: unknown): ReplicationError {
  return new ReplicationError(`Cannot dial ${formatAddress(address)}: ${reason}`, { code: 'REPLICATION_DIAL_FAILED', cause })
}

/** A connected socket as a {@link Connection}; from here on the socket belongs to it. */
export class SocketConnection implements Connection {
  readonly remote: Address
  readonly listensFirst: boolean
  readonly source: SocketSource
  readonly #socket: Socket
  readonly #system: System
  #bytesWritten = 0
  #closed = false
  #failure: Error | undefined
  #corked = false
  #sinkUsed = false
  #onDrain: (() => void) | undefined
  #endSink: ((error: Error | undefined) => void) | undefined

  constructor (socket: Socket, remote: Address, system: System, { listensFirst = false } = {}) {
    this.remote = remote
    this.listensFirst = listensFirst
    this.#socket = socket
    this.#system = system
    this.source = new SocketSource(socket, () => { this.close() })
    socket.on('drain', () => { this.#onDrain?.() })
    socket.on('finish', () => { this.#endSink?.(undefined) })
    socket.on('error', (error) => {
      this.#failure ??= new ReplicationError(
        `Connection with ${formatAddress(remote)} broke: ${reasonOf(error)}`,
        { code: 'REPLICATION_DISCONNECTED', cause: error }
      )
    })
    socket.on('close', () => {
      this.#closed = true
      this.source.end(this.#failure)
      this.#endSink?.(this.#failure)
    })
  }

  get bytesReceived (): number { return this.#socket.bytesRead }
  get bytesSent (): number { return this.#bytesWritten - this.#socket.writableLength }
  get unsentBytes (): number { return this.#socket.writableLength }

  readonly sink = async (source: AsyncIterable<Bytes>): Promise<void> => {
    if (this.#sinkUsed) throw new ReplicationError('A sink takes one source, got a second', { code: 'REPLICATION_INTERNAL' })
    this.#sinkUsed = true
    const iterator = source[Symbol.asyncIterator]()
    try {
      // Whatever ends the connection has to end the sink too, although its source may be silent for ever.
      await new Promise<void>((resolve, reject) => {
        this.#endSink = (error) => { if (error === undefined) resolve(); else reject(error) }
        if (this.#closed) this.#endSink(this.#failure)
        else this.#pump(iterator).catch((error) => { this.close(error) })
      })
    } finally {
      if (!this.#socket.writableEnded) leave(iterator)
    }
  }

  close (error?: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#failure ??= error
    this.source.drop(this.#failure)
    this.#endSink?.(this.#failure)
    this.#socket.destroy()
  }

  async #pump (iterator: AsyncIterator<Bytes>): Promise<void> {
    const socket = this.#socket
    let burst = 0
    for (;;) {
      const { done, value } = await iterator.next()
      if (this.#closed) return
      if (done === true) break
      this.#cork()
      if (value instanceof Uint8Array) socket.write(value)
      else for (const part of value) socket.write(part)
      this.#bytesWritten += value.byteLength
      burst += value.byteLength
      if (socket.writableLength >= writeAheadBytes) {
        this.#uncork()
        // Past the high-water mark a drain is certain; it may well have been taken whole already.
        if (socket.writableLength >= writeAheadBytes) await new Promise<void>((resolve) => { this.#onDrain = resolve })
      }
      if (burst >= burstBytes) {
        burst = 0
        this.#uncork()
        await this.#system.yield()
      }
    }
    this.#uncork()
    socket.end()
  }

  #cork (): void {
    if (this.#corked) return
    this.#corked = true
    this.#socket.cork()
    process.nextTick(() => { this.#uncork() })
  }

  #uncork (): void {
    if (!this.#corked) return
    this.#corked = false
    this.#socket.uncork()
  }
}

/** What a socket received, chunk by chunk, pausing the socket while nobody pulls. */
class SocketSource extends Chunks {
  readonly #socket: Socket
  readonly #onLeft: () => void

  constructor (socket: Socket, onLeft: () => void) {
    super()
    this.#socket = socket
    this.#onLeft = onLeft
    socket.on('data', (chunk: Uint8Array) => {
      this.push(chunk)
      if (this.bytes >= readAheadBytes || this.length >= readAheadChunks) socket.pause()
    })
    socket.on('end', () => { this.end() })
  }

  override next (): Promise<IteratorResult<Uint8Array, undefined>> {
    const next = super.next()
    if (this.bytes < readAheadBytes / 2 && this.#socket.isPaused()) this.#socket.resume()
    return next
  }

  override return (): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#onLeft()
    return Promise.resolve({ done: true, value: undefined })
  }
}

/** Not awaited: a generator that waits returns when its wait is over, perhaps never. */
function leave (iterator: AsyncIterator<Bytes>): void {
  new Promise((resolve) => { resolve(iterator.return?.()) }).catch(() => {})
}

function remoteOf (socket: Socket): Address {
  return { host: canonicalHost(socket.remoteAddress ?? 'unknown'), port: socket.remotePort ?? 0 }
}

function isWithoutIpv6 (error: Error): boolean {
  return ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')
}

function isInUse (error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
}

/** A host with several addresses fails with an AggregateError, whose own message is empty. */
function reasonOf (error: Error): string {
  return error instanceof AggregateError ? error.errors.map((each: Error) => each.message).join('; ') : error.message
}
