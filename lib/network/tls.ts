/**
 * TLS: both ends of a connection prove that they belong to the group, and what they say stays between them.
 *
 * With a shared secret: TLS 1.2 (RFC 5246) with ECDHE-PSK (RFC 5489, 7905) and nothing else. Only who has the key
 * finishes the handshake, and keys of the past are gone with their connection. Not TLS 1.3 here: a client that has a
 * pre-shared key and allows 1.3 takes a server that shows a trusted certificate instead. With certificates: TLS 1.3
 * (RFC 8446), a certificate of the private authority on both sides; host names say nothing, since addresses are found.
 *
 * What must always hold:
 * - a connection is handed on only when the other end has been authenticated;
 * - in TLS 1.3 the client is done before the server has looked at its certificate, so it does not speak first;
 * - a handshake that fails, or takes too long, ends with its socket destroyed.
 *
 * All handshakes with a secret share one context of OpenSSL: one for each costs as much as the handshake, and the collector
 * of garbage, which has to take them apart, holds the event loop for it. Of certificates only a `tls.Server` says whether they
 * are good; so there each inbound handshake has one of its own, which never listens, and an error is known to be its.
 *
 * What is not as the peer has sealed it ends a connection of TLS for good. Where that is not told (a socket that is no server's),
 * the next write says so: that of a heartbeat at the latest.
 */
import { constants, X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect, createSecureContext, createServer, TLSSocket, type ConnectionOptions, type SecureContext } from 'node:tls'
import { ReplicationError } from '../errors.ts'
import { handshakeTimeoutMs } from '../limits.ts'
import type { CertificateOptions } from '../options.ts'
import type { System } from '../types.ts'

export type Role = 'client' | 'server'

/** The same for all: what could tell one group from another is in the key alone. */
const identity = 'replicated-level'
const secretCipher = 'ECDHE-PSK-CHACHA20-POLY1305'

/** Errors of the network, not of what was said. */
const disconnections = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED', 'EHOSTUNREACH', 'ENETUNREACH', 'ERR_STREAM_PREMATURE_CLOSE'])

type Done = (secured: TLSSocket) => void
type Failed = (error: Error & { code?: string }) => void

interface Sides {
  readonly client: ConnectionOptions
  /** The handshake of the side that was dialled. */
  readonly accept: (raw: Socket, done: Done, failed: Failed) => void
  /** What may be wrong when a handshake fails. */
  readonly hint: string
}

const ended = Object.assign(new Error('The connection was closed'), { code: 'ECONNRESET' })

export class Protection {
  readonly #sides: Sides

  private constructor (sides: Sides) {
    this.#sides = sides
  }

  /**
   * @param key 32 bytes, known to the group alone.
   * @throws `LEVEL_NOT_SUPPORTED` if this build of Node.js lacks the cipher
   */
  static bySecret (key: Buffer): Protection {
    const both = {
      minVersion: 'TLSv1.2' as const,
      maxVersion: 'TLSv1.2' as const,
      ciphers: secretCipher,
      ca: [],
      secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION
    }
    let secureContext: SecureContext
    try {
      secureContext = createSecureContext(both)
    } catch (cause) {
      throw new ReplicationError(`The option secret needs ${secretCipher}, which this build of Node.js does not have: use tls`, { code: 'LEVEL_NOT_SUPPORTED', cause })
    }
    const client = { secureContext, pskCallback: () => ({ psk: key, identity }) }
    const server = { secureContext, isServer: true, pskCallback: (_socket: TLSSocket, claimed: string) => claimed === identity ? key : null }
    return new Protection({
      client,
      accept: (raw, done, failed) => {
        const secured = new TLSSocket(raw, server)
        secured.once('secure', () => { done(secured) })
        secured.on('error', failed)
        secured.once('close', () => { failed(ended) })
      },
      hint: 'its secret or its group is another, or it has none'
    })
  }

  /** @throws `REPLICATION_INVALID_OPTION` if they are not what they should be, or do not belong together */
  static byCertificate ({ key, cert, ca }: CertificateOptions): Protection {
    const both = {
      key,
      cert,
      ca: ca as string | Buffer | Array<string | Buffer>,
      minVersion: 'TLSv1.3' as const,
      secureOptions: constants.SSL_OP_NO_TICKET
    }
    try {
      for (const each of [cert, ca].flat()) void new X509Certificate(each as string)
      createSecureContext(both)
    } catch (cause) {
      throw new ReplicationError(`The option tls has to hold key, cert and ca in PEM, the key belonging to the cert: ${reasonOf(cause as Error)}`, { code: 'REPLICATION_INVALID_OPTION', cause })
    }
    return new Protection({
      client: { ...both, rejectUnauthorized: true },
      accept: (raw, done, failed) => {
        createServer({ ...both, requestCert: true, rejectUnauthorized: true }, done)
          .on('tlsClientError', (error, { authorizationError: reason }) => {
            failed(reason === undefined || reason === null ? error : Object.assign(new Error(String(reason)), { code: String(reason) }))
          })
          .emit('connection', raw)
      },
      hint: 'its certificate is not one of our authority, or it has none'
    })
  }

  /**
   * Both handshakes over a stream. The stream belongs to it from now on.
   *
   * @throws `REPLICATION_AUTHENTICATION_FAILED`, `REPLICATION_TIMEOUT`, `REPLICATION_DISCONNECTED`
   */
  async handshake (raw: Duplex, role: Role, address: string, system: System): Promise<TLSSocket> {
    raw.on('error', () => {}) // told by what is made of it
    // Who leaves in the middle of a handshake has left: half of a connection is of no use before its end.
    raw.allowHalfOpen = false
    return await new Promise((resolve, reject) => {
      const fail = (error: ReplicationError): void => {
        system.clearTimer(timer)
        raw.destroy()
        reject(error)
      }
      const failed: Failed = (error) => {
        const code = error.code ?? ''
        fail(disconnections.has(code)
          ? new ReplicationError(`The connection with ${address} ended before the handshake did: ${code}`, { code: 'REPLICATION_DISCONNECTED', cause: error })
          : new ReplicationError(`${address} is not let in: ${this.#sides.hint} (${reasonOf(error)})`, { code: 'REPLICATION_AUTHENTICATION_FAILED', cause: error }))
      }
      const timer = system.setTimer(() => {
        fail(new ReplicationError(`${address} has not finished the handshake within ${handshakeTimeoutMs} ms`, { code: 'REPLICATION_TIMEOUT' }))
      }, handshakeTimeoutMs)
      const done: Done = (secured) => {
        system.clearTimer(timer)
        secured.allowHalfOpen = true
        resolve(secured)
      }
      if (role === 'client') {
        const secured = connect({ ...this.#sides.client, socket: raw as Socket, checkServerIdentity: () => undefined })
        secured.once('secureConnect', () => { done(secured) })
        secured.on('error', failed)
        secured.once('close', () => { failed(ended) })
      } else {
        this.#sides.accept(raw as Socket, done, failed)
      }
    })
  }
}

/** OpenSSL's messages name its source files; its reason alone is what helps. */
function reasonOf (error: Error & { reason?: string, code?: string }): string {
  return error.reason ?? error.code ?? error.message
}
