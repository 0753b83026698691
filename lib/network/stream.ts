/**
 * A conversation over any transport: a connection whose other end is an it-pipe duplex in the caller's hands.
 */
import { pushable, type Pushable } from 'it-pushable'
import type { Address } from '../types.ts'
import type { Bytes, Connection, Duplex } from './transport.ts'

/** Bytes that may wait for whoever reads the duplex before the conversation stops writing. */
const writeAheadBytes = 256 * 1024

export class StreamConnection implements Connection {
  readonly remote: Address = { host: 'stream', port: 0 }
  bytesReceived = 0
  bytesSent = 0
  readonly #incoming: Pushable<Uint8Array> = pushable()
  readonly #outgoing: Pushable<Uint8Array> = pushable()
  #closed = false
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
          while (this.#incoming.readableLength > writeAheadBytes && !this.#closed) await this.#incoming.onEmpty()
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
    this.#closed = true
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
