/**
 * A network in memory, with the manners of TCP: order is kept, chunk boundaries are not, a writer waits when its
 * window is full, a vanished peer may or may not be noticed.
 *
 * A {@link Pipe} is one direction. What is written travels as parcels; each asks `schedule` once for a delivery,
 * and each delivery brings whatever parcel is first. So order holds whatever the scheduler does with its calls.
 *
 * A partition holds parcels back, ends and closes too: neither side learns anything, and an end that gives up
 * leaves the other half-open. When it heals what was held back arrives, as TCP would send it again; a network
 * that lost bytes from the middle of a stream would be one that TCP does not allow.
 */
import { ReplicationError, toReplicationError } from '../../lib/errors.ts'
import { formatAddress } from '../../lib/network/addresses.ts'
import type { Bytes, Connection, DialOptions, Listener, Transport } from '../../lib/network/transport.ts'
import { system as realSystem } from '../../lib/system.ts'
import type { Address, System } from '../../lib/types.ts'

type Schedule = (deliver: () => void, from: string, to: string) => void

export interface MemoryNetworkOptions {
  /** Times dials out; the real one by default. */
  system?: System
  /** Calls `deliver` once, sooner or later; in a microtask by default. */
  schedule?: Schedule
  /** Bytes on their way or unread before a writer has to wait; 64 KiB by default. */
  windowBytes?: number
  /** Longer chunks arrive in pieces of this size; 64 KiB by default. */
  fragmentBytes?: number
}

interface MemoryListener {
  onConnection: (connection: Connection) => void
  onError: (error: ReplicationError) => void
}

const ownNames = new Set(['127.0.0.1', '::1', 'localhost', '0.0.0.0', '::'])

export class MemoryNetwork {
  readonly system: System
  readonly schedule: Schedule
  readonly windowBytes: number
  readonly fragmentBytes: number
  readonly #listeners = new Map<string, MemoryListener>()
  readonly #connections = new Set<MemoryConnection>()
  readonly #partitions = new Set<string>()
  #nextPort = 49_152

  constructor ({
    system = realSystem, schedule = queueMicrotask, windowBytes = 64 * 1024, fragmentBytes = 64 * 1024
  }: MemoryNetworkOptions = {}) {
    this.system = system
    this.schedule = schedule
    this.windowBytes = windowBytes
    this.fragmentBytes = fragmentBytes
  }

  /** The transport of the machine named `host`. It listens under that name; loopback names mean the machine itself. */
  transport (host: string): Transport {
    return {
      dial: async (address, options) => await this.#dial(host, address, options),
      listen: async (address, onConnection, onError) => this.#listen(host, address.port, { onConnection, onError })
    }
  }

  /** Breaks every connection between two machines; both ends notice at once. New ones can be made. */
  cut (hostA: string, hostB: string): void {
    for (const connection of this.#between(hostA, hostB)) connection.break()
  }

  /** Every end of a connection that is open. */
  get connections (): ReadonlySet<MemoryConnection> {
    return this.#connections
  }

  /** A machine's process is dead: what it listened on is free, its ends are gone, and nobody has been told. */
  vanish (host: string): void {
    for (const key of [...this.#listeners.keys()]) if (key.startsWith(`${host}:`)) this.#listeners.delete(key)
    for (const connection of [...this.#connections]) if (connection.host === host) connection.break()
  }

  /** While on: nothing arrives, nobody notices, dials hang until they time out. */
  partition (hostA: string, hostB: string, on: boolean): void {
    if (on) this.#partitions.add(pairOf(hostA, hostB))
    else this.#partitions.delete(pairOf(hostA, hostB))
    if (!on) for (const connection of this.#between(hostA, hostB)) connection.incoming.resume()
  }

  isPartitioned (hostA: string, hostB: string): boolean {
    return this.#partitions.has(pairOf(hostA, hostB))
  }

  forget (connection: MemoryConnection): void {
    this.#connections.delete(connection)
  }

  #between (hostA: string, hostB: string): MemoryConnection[] {
    const pair = pairOf(hostA, hostB)
    return [...this.#connections].filter((connection) => pairOf(connection.host, connection.remote.host) === pair)
  }

  #listen (host: string, port: number, listener: MemoryListener): Listener {
    const address = { host, port: port === 0 ? this.#nextPort++ : port }
    const key = formatAddress(address)
    if (this.#listeners.has(key)) {
      throw new ReplicationError(`Cannot listen on ${key}: in use`, { code: 'REPLICATION_ADDRESS_IN_USE' })
    }
    this.#listeners.set(key, listener)
    return {
      address,
      close: async () => { if (this.#listeners.get(key) === listener) this.#listeners.delete(key) }
    }
  }

  async #dial (host: string, address: Address, { signal, timeoutMs }: DialOptions): Promise<Connection> {
    const failed = (reason: string, cause?: unknown): ReplicationError => new ReplicationError(
      `Cannot dial ${formatAddress(address)}: ${reason}`, { code: 'REPLICATION_DIAL_FAILED', cause }
    )
    const remote = { host: ownNames.has(address.host) ? host : address.host, port: address.port }
    return await new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        this.system.clearTimer(timer)
        signal.removeEventListener('abort', abort)
        act()
      }
      const abort = (): void => { settle(() => { reject(failed('aborted', signal.reason)) }) }
      const timer = this.system.setTimer(() => { settle(() => { reject(failed(`no answer within ${timeoutMs} ms`)) }) }, timeoutMs)
      signal.addEventListener('abort', abort)
      if (signal.aborted) abort()
      else if (!this.isPartitioned(host, remote.host)) {
        this.schedule(() => {
          if (signal.aborted || this.isPartitioned(host, remote.host)) return
          const listener = this.#listeners.get(formatAddress(remote))
          settle(() => {
            if (listener === undefined) reject(failed('refused'))
            else resolve(this.#connect(host, remote, listener))
          })
        }, host, remote.host)
      }
    })
  }

  #connect (host: string, remote: Address, listener: MemoryListener): Connection {
    const there = new Pipe(this, host, remote.host)
    const back = new Pipe(this, remote.host, host)
    const dialled = new MemoryConnection(this, host, remote, there, back)
    const accepted = new MemoryConnection(this, remote.host, { host, port: this.#nextPort++ }, back, there)
    this.#connections.add(dialled).add(accepted)
    try {
      listener.onConnection(accepted)
    } catch (error) {
      accepted.close()
      listener.onError(toReplicationError(error))
    }
    return dialled
  }
}

function pairOf (hostA: string, hostB: string): string {
  return [hostA, hostB].sort().join(' ')
}

/** A piece of the stream, its end, or the news that the other end is gone altogether. */
type Parcel = Uint8Array | 'end' | 'closed'

/** One direction: parcels on their way, chunks that wait for the reader, and a window over both. */
class Pipe {
  readonly #network: MemoryNetwork
  readonly #hosts: [string, string]
  #travelling: Parcel[] = []
  #arrived: Uint8Array[] = []
  #unreadBytes = 0
  #ended = false
  #refused = false
  #failure: Error | undefined
  #readers: Array<{ resolve: (result: IteratorResult<Uint8Array, undefined>) => void, reject: (error: Error) => void }> = []
  #onRoom: (() => void) | undefined
  bytesArrived = 0
  /** Called when `end`, or `closed`, has arrived. */
  onEnd: (closed: boolean) => void = () => {}

  constructor (network: MemoryNetwork, from: string, to: string) {
    this.#network = network
    this.#hosts = [from, to]
  }

  get hasRoom (): boolean { return this.#unreadBytes < this.#network.windowBytes }

  async room (): Promise<void> {
    if (!this.hasRoom && !this.#refused) await new Promise<void>((resolve) => { this.#onRoom = resolve })
  }

  /** There is no reader any more: who waits for room waits in vain. */
  refuse (): void {
    this.#refused = true
    this.#onRoom?.()
  }

  send (parcel: Parcel): void {
    if (parcel instanceof Uint8Array) this.#unreadBytes += parcel.byteLength
    this.#travelling.push(parcel)
    this.#network.schedule(() => { this.#deliver() }, ...this.#hosts)
  }

  /** After a partition: asks for deliveries again, since those of that time came to nothing. */
  resume (): void {
    for (const _ of this.#travelling) this.#network.schedule(() => { this.#deliver() }, ...this.#hosts)
  }

  async next (): Promise<IteratorResult<Uint8Array, undefined>> {
    const chunk = this.#arrived.shift()
    if (chunk !== undefined) {
      this.#unreadBytes -= chunk.byteLength
      if (this.hasRoom) this.#onRoom?.()
      return { done: false, value: chunk }
    }
    if (this.#failure !== undefined) throw this.#failure
    if (this.#ended) return { done: true, value: undefined }
    return await new Promise((resolve, reject) => { this.#readers.push({ resolve, reject }) })
  }

  end (failure: Error | undefined): void {
    if (this.#ended) return
    this.#ended = true
    this.#failure = failure
    for (const { resolve, reject } of this.#readers.splice(0)) {
      if (failure === undefined) resolve({ done: true, value: undefined })
      else reject(failure)
    }
  }

  /** The reader is gone: what has arrived is dropped. */
  drop (failure: Error | undefined): void {
    this.#arrived = []
    this.end(failure)
  }

  #deliver (): void {
    if (this.#network.isPartitioned(...this.#hosts)) return
    const parcel = this.#travelling.shift()
    if (parcel === undefined) return
    if (parcel === 'end' || parcel === 'closed') {
      this.end(undefined)
      this.onEnd(parcel === 'closed')
    } else if (!this.#ended) {
      this.bytesArrived += parcel.byteLength
      this.#arrived.push(parcel)
      const reader = this.#readers.shift()
      if (reader !== undefined) this.next().then(reader.resolve, reader.reject)
    }
  }
}

export class MemoryConnection implements Connection {
  readonly host: string
  readonly remote: Address
  readonly listensFirst = false
  readonly outgoing: Pipe
  readonly incoming: Pipe
  readonly source: AsyncIterableIterator<Uint8Array, undefined>
  bytesSent = 0
  unsentBytes = 0
  readonly #network: MemoryNetwork
  #closed = false
  #remoteClosed = false
  #ended = false
  #remoteEnded = false
  #sinkUsed = false
  #failure: Error | undefined
  #endSink: (error: Error | undefined) => void = () => {}

  constructor (network: MemoryNetwork, host: string, remote: Address, outgoing: Pipe, incoming: Pipe) {
    this.#network = network
    this.host = host
    this.remote = remote
    this.outgoing = outgoing
    this.incoming = incoming
    this.source = {
      [Symbol.asyncIterator]: () => this.source,
      next: async () => await incoming.next(),
      return: async () => {
        this.close()
        return { done: true, value: undefined }
      }
    }
    incoming.onEnd = (closed) => {
      this.#remoteEnded = true
      this.#remoteClosed ||= closed
      if (closed) outgoing.refuse()
      this.#forgetIfEnded()
    }
  }

  get bytesReceived (): number { return this.incoming.bytesArrived }

  readonly sink = async (source: AsyncIterable<Bytes>): Promise<void> => {
    if (this.#sinkUsed) throw new ReplicationError('A sink takes one source, got a second', { code: 'REPLICATION_INTERNAL' })
    this.#sinkUsed = true
    const iterator = source[Symbol.asyncIterator]()
    let ended = false
    try {
      await new Promise<void>((resolve, reject) => {
        this.#endSink = (error) => { if (error === undefined) resolve(); else reject(error) }
        if (this.#closed) this.#endSink(this.#failure)
        else this.#pump(iterator).then(() => { ended = true; resolve() }).catch((error) => { this.close(error) })
      })
    } finally {
      if (!ended) new Promise((resolve) => { resolve(iterator.return?.()) }).catch(() => {})
    }
  }

  close (error?: Error): void {
    if (this.#closed) return
    this.#fail(error)
    this.outgoing.send('closed')
  }

  /** The connection is lost, as by a reset. */
  break (): void {
    if (this.#closed) return
    this.#fail(new ReplicationError(
      `Connection with ${formatAddress(this.remote)} broke`, { code: 'REPLICATION_DISCONNECTED' }
    ))
  }

  #fail (error: Error | undefined): void {
    this.#closed = true
    this.#failure = error
    this.unsentBytes = 0
    this.#network.forget(this)
    this.incoming.drop(error)
    this.#endSink(error)
  }

  async #pump (iterator: AsyncIterator<Bytes>): Promise<void> {
    for (;;) {
      const { done, value } = await iterator.next()
      if (this.#closed) return
      if (done === true) break
      const bytes = value.slice()
      for (let offset = 0; offset < bytes.byteLength; offset += this.#network.fragmentBytes) {
        this.unsentBytes = bytes.byteLength - offset
        await this.outgoing.room()
        if (this.#closed) return
        // TCP's answer to bytes for a socket that is no more.
        if (this.#remoteClosed) {
          this.break()
          return
        }
        const fragment = bytes.subarray(offset, offset + this.#network.fragmentBytes)
        this.bytesSent += fragment.byteLength
        this.outgoing.send(fragment)
      }
      this.unsentBytes = 0
    }
    this.#ended = true
    this.outgoing.send('end')
    this.#forgetIfEnded()
  }

  /** When both directions have ended nothing is left of the connection. */
  #forgetIfEnded (): void {
    if (!this.#ended || !this.#remoteEnded) return
    this.#closed = true
    this.#network.forget(this)
  }
}
