/**
 * What the layers above need from a network, and nothing else.
 *
 * A connection is a reliable, ordered stream of bytes each way, shaped as an it-pipe duplex, so that anything
 * that can carry bytes can stand in for TCP. Chunk boundaries mean nothing. `test/network/transport-contract`
 * holds every implementation to the sentences below.
 */
import type { Uint8ArrayList } from 'uint8arraylist'
import type { ReplicationError } from '../errors.ts'
import type { Address } from '../types.ts'

export type Bytes = Uint8Array | Uint8ArrayList

/** An it-pipe duplex of bytes: `source` is what the other end wrote, `sink` takes what it shall read. */
export interface Duplex {
  /** Read once, by one reader. */
  source: AsyncIterable<Bytes>
  /** Used once. Resolves when all of the given source has been handed to the operating system. */
  sink: (source: AsyncIterable<Bytes>) => Promise<void>
}

/**
 * An open connection.
 *
 * - The end of the given source is the end of the remote's `source`; the other direction goes on until it ends.
 * - A reader that does not pull stops the remote's writer, after a bounded number of bytes.
 * - A remote that vanishes ends `source` and `sink` with REPLICATION_DISCONNECTED, if it is noticed at all;
 *   while nobody pulls or writes it is not.
 * - Leaving `source` early, or an error thrown by the source given to `sink`, closes the connection.
 */
export interface Connection extends Duplex {
  /** The other end; for an inbound connection its port is not one that can be dialled. */
  readonly remote: Address
  /** Whether the other end has to speak first, since it may still refuse us. */
  readonly listensFirst: boolean
  readonly bytesReceived: number
  /** Bytes that the operating system has taken. */
  readonly bytesSent: number
  /** Bytes written but not yet taken by the operating system. */
  readonly unsentBytes: number
  /**
   * Ends both directions at once; what is unsent or unread is lost. `source` and `sink` end with `error` if one
   * is given, else quietly. Only the first call counts. To say goodbye: end the source given to `sink`, wait
   * for the sink, then close.
   */
  close (error?: Error): void
}

export interface Listener {
  /** Where it listens; its port is the one that was chosen if 0 was asked for. */
  readonly address: Address
  /** Stops accepting, and resolves when the port is free. Connections live on. */
  close (): Promise<void>
}

export interface DialOptions {
  signal: AbortSignal
  timeoutMs: number
}

export interface Transport {
  /**
   * Opens a connection; rejects with REPLICATION_DIAL_FAILED, also when it takes too long or is aborted, or with
   * REPLICATION_AUTHENTICATION_FAILED if the other end does not belong to the group, or takes us not to.
   */
  dial (address: Address, options: DialOptions): Promise<Connection>
  /**
   * Accepts connections at `address`; port 0 is any free one. Rejects with REPLICATION_ADDRESS_IN_USE or
   * REPLICATION_LISTEN_FAILED. What goes wrong later, in `onConnection` too, goes to `onError`, with the other end if it
   * is about a connection.
   */
  listen (
    address: Address,
    onConnection: (connection: Connection) => void,
    onError: (error: ReplicationError, remote?: Address) => void
  ): Promise<Listener>
}
