/**
 * Bytes that this process sent and received over all its TCP sockets, counted at the sockets themselves.
 */
import { channel } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'

const open = new Set<Socket>()
let endedBytes = 0
let startBytes = 0

function watch (message: unknown): void {
  const { socket } = message as { socket: Socket }
  open.add(socket)
  socket.once('close', () => {
    open.delete(socket)
    endedBytes += bytesOf(socket)
  })
}

channel('net.client.socket').subscribe(watch)
channel('net.server.socket').subscribe(watch)

/** Counts from here. */
export function resetWireBytes (): void {
  startBytes = totalBytes()
}

/** Since the last reset. */
export function wireBytes (): number {
  return totalBytes() - startBytes
}

function totalBytes (): number {
  return [...open].reduce((bytes, socket) => bytes + bytesOf(socket), endedBytes)
}

function bytesOf (socket: Socket): number {
  return socket.bytesRead + (socket.bytesWritten ?? 0)
}
