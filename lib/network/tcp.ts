/**
 * TCP: the transport of production, and the only file that knows `node:net`.
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
import type { Bytes, Connection, DialOptions, Listener, Transport } from './transport.ts'

/** Bytes, and chunks, that may wait for a reader before the socket is paused. */
const readAheadBytes = 256 * 1024
const readAheadChunks = 256

/** Bytes that may wait for the operating system before the source is no longer pulled. */
const writeAheadBytes = 256 * 1024

/** Bytes written in a row before pending I/O gets its turn. */
const burstBytes = 2 * 1024 * 1024

/** TCP connections, without delay (RFC 896 off). An open connection or listener keeps the process alive. */
export class TcpTransport implements Transport {
  readonly #system: System

  constructor ({ system }: { system: System }) {
    this.#system = system
  }

  async dial (address: Address, { signal, timeoutMs }: DialOptions): Promise<Connection> {
    const failed = (reason: string, cause?: unknown): ReplicationError =>
      new ReplicationError(`Cannot dial ${formatAddress(address)}: ${reason}`, { code: 'REPLICATION_DIAL_FAILED', cause })
    if (signal.aborted) throw failed('aborted', signal.reason)

    return await new Promise((resolve, reject) => {
      let socket: Socket
      try {
        socket = connect({ host: address.host, port: address.port, noDelay: true, allowHalfOpen: true })
      } catch (error) {
        reject(failed((error as Error).message, error))
        return
      }
      const forget = (): void => {
        this.#system.clearTimer(timer)
        signal.removeEventListener('abort', abort)
      }
      const fail = (error: ReplicationError): void => {
        forget()
        reject(error)
        socket.destroy()
      }
      const abort = (): void => { fail(failed('aborted', signal.reason)) }
      const timer = this.#system.setTimer(() => {
        fail(failed(`no answer within ${timeoutMs} ms`, new ReplicationError('Timeout', { code: 'REPLICATION_TIMEOUT' })))
      }, timeoutMs)
      const onError = (error: Error): void => { fail(failed(reasonOf(error), error)) }
      signal.addEventListener('abort', abort)
      socket.on('error', onError)
      socket.once('connect', () => {
        forget()
        const connection = new SocketConnection(socket, address, this.#system)
        socket.off('error', onError)
        resolve(connection)
      })
    })
  }

  async listen (
    address: Address,
    onConnection: (connection: Connection) => void,
    onError: (error: ReplicationError) => void
  ): Promise<Listener> {
    const server = createServer({ noDelay: true, allowHalfOpen: true })
    server.on('connection', (socket) => {
      const connection = new SocketConnection(socket, remoteOf(socket), this.#system)
      try {
        onConnection(connection)
      } catch (error) {
        connection.close()
        onError(toReplicationError(error))
      }
    })
    const failed = (error: Error): ReplicationError => new ReplicationError(
      `Cannot listen on ${formatAddress(address)}: ${reasonOf(error)}`,
      { code: isInUse(error) ? 'REPLICATION_ADDRESS_IN_USE' : 'REPLICATION_LISTEN_FAILED', cause: error }
    )
    await new Promise<void>((resolve, reject) => {
      let listening = false
      server.on('error', (error) => { if (listening) onError(failed(error)); else reject(failed(error)) })
      try {
        // Exclusive: the workers of a cluster would otherwise share one port among different databases.
        server.listen({ host: address.host, port: address.port, exclusive: true }, () => { listening = true; resolve() })
      } catch (error) {
        reject(failed(error as Error))
      }
    })
    const { address: host, port } = server.address() as AddressInfo
    return {
      address: { host, port },
      close: async () => {
        server.close()
        await this.#system.yield()
      }
    }
  }
}

/** A connected socket as a {@link Connection}; from here on the socket belongs to it. */
export class SocketConnection implements Connection {
  readonly remote: Address
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

  constructor (socket: Socket, remote: Address, system: System) {
    this.remote = remote
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

type Result = IteratorResult<Uint8Array, undefined>

/** What a socket received, chunk by chunk, pausing the socket while nobody pulls. */
class SocketSource implements AsyncIterableIterator<Uint8Array, undefined> {
  readonly #socket: Socket
  readonly #onLeft: () => void
  readonly #waiting: Array<{ resolve: (result: Result) => void, reject: (error: Error) => void }> = []
  #chunks: Uint8Array[] = []
  #bytes = 0
  #ended = false
  #failure: Error | undefined

  constructor (socket: Socket, onLeft: () => void) {
    this.#socket = socket
    this.#onLeft = onLeft
    socket.on('data', (chunk) => { this.#push(chunk) })
    socket.on('end', () => { this.end(undefined) })
  }

  [Symbol.asyncIterator] (): this { return this }

  async next (): Promise<Result> {
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) {
      this.#bytes -= chunk.byteLength
      if (this.#bytes < readAheadBytes / 2 && this.#socket.isPaused()) this.#socket.resume()
      return { done: false, value: chunk }
    }
    if (this.#failure !== undefined) throw this.#failure
    if (this.#ended) return { done: true, value: undefined }
    return await new Promise((resolve, reject) => { this.#waiting.push({ resolve, reject }) })
  }

  async return (): Promise<Result> {
    this.#onLeft()
    return { done: true, value: undefined }
  }

  /** No more will come; what has come can still be read. */
  end (failure: Error | undefined): void {
    if (this.#ended) return
    this.#ended = true
    this.#failure = failure
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (failure === undefined) resolve({ done: true, value: undefined })
      else reject(failure)
    }
  }

  /** No more will be read. */
  drop (failure: Error | undefined): void {
    this.#chunks = []
    this.#bytes = 0
    this.end(failure)
  }

  #push (chunk: Uint8Array): void {
    if (this.#ended) return
    const reader = this.#waiting.shift()
    if (reader !== undefined) {
      reader.resolve({ done: false, value: chunk })
      return
    }
    this.#chunks.push(chunk)
    this.#bytes += chunk.byteLength
    if (this.#bytes >= readAheadBytes || this.#chunks.length >= readAheadChunks) this.#socket.pause()
  }
}

/** Not awaited: a generator that waits returns when its wait is over, perhaps never. */
function leave (iterator: AsyncIterator<Bytes>): void {
  new Promise((resolve) => { resolve(iterator.return?.()) }).catch(() => {})
}

function remoteOf (socket: Socket): Address {
  return { host: canonicalHost(socket.remoteAddress ?? 'unknown'), port: socket.remotePort ?? 0 }
}

function isInUse (error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
}

/** A host with several addresses fails with an AggregateError, whose own message is empty. */
function reasonOf (error: Error): string {
  return error instanceof AggregateError ? error.errors.map((each: Error) => each.message).join('; ') : error.message
}
