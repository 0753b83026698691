/**
 * Somebody who connects to a replica, with the group's key if he has it, and says what he likes.
 */
import { randomBytes } from 'node:crypto'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { encodeFrames } from '../../lib/codec/frames.ts'
import { encodeControl, type Hello } from '../../lib/codec/message.ts'
import { newLogId } from '../../lib/core/ids.ts'

/** A hello that is taken. */
export function helloFrame (changes: Partial<Hello> = {}): Buffer {
  return encodeControl({
    type: 'hello', versionMin: 1, versionMax: 1, group: 'default', replica: '77'.repeat(16), log: newLogId(randomBytes(8)), nonce: randomBytes(16).toString('hex'), resolverVersion: '', transactionBytesMax: 1e6, credit: 1e6, timeMs: Date.now(), host: '', port: 0, want: false, vector: [], collected: [], ...changes
  })
}

/** A frame as it goes over a connection. */
export function framed (frame: Uint8Array): Buffer {
  return Buffer.concat(encodeFrames([frame]))
}

export interface HostileOptions {
  /** The group's key, of a replica that has a secret. */
  readonly key?: Buffer | undefined
  /** Where it comes from: any address of loopback. */
  readonly localAddress?: string
}

export class HostilePeer {
  readonly socket: Socket
  /** Resolves when the other end has closed the connection, or it is gone. */
  readonly closed: Promise<void>
  isClosed = false

  private constructor (socket: Socket) {
    this.socket = socket
    this.closed = new Promise((resolve) => {
      const gone = (): void => {
        this.isClosed = true
        resolve()
      }
      socket.once('end', gone).once('close', gone)
    })
  }

  /** Resolves when it is connected, and lets in if it has a key; what it hears is thrown away. */
  static async dial (port: number, { key, localAddress = '127.0.0.1' }: HostileOptions = {}): Promise<HostilePeer> {
    const raw = connectTcp({ port, host: '127.0.0.1', localAddress, noDelay: true })
    raw.on('error', () => {})
    const socket = key === undefined
      ? raw
      : connectTls({ socket: raw, ciphers: 'ECDHE-PSK-CHACHA20-POLY1305', maxVersion: 'TLSv1.2', checkServerIdentity: () => undefined, pskCallback: () => ({ psk: key, identity: 'replicated-level' }) })
    socket.on('error', () => {})
    socket.resume()
    const peer = new HostilePeer(socket)
    await Promise.race([new Promise((resolve) => { socket.once(key === undefined ? 'connect' : 'secureConnect', resolve) }), peer.closed])
    return peer
  }

  /** Says a frame. Resolves when the operating system has taken it, or the connection is gone. */
  async say (frame: Uint8Array): Promise<void> {
    await this.write(framed(frame))
  }

  async write (bytes: Uint8Array): Promise<void> {
    if (this.isClosed) return
    await Promise.race([new Promise((resolve) => { this.socket.write(bytes, resolve) }), this.closed])
  }

  leave (): void {
    this.socket.destroy()
  }
}
