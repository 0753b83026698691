/**
 * Peers are asked one at a time; one that promises and does not deliver must not keep the others waiting for ever.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeControl } from '../../lib/codec/message.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { eventually } from '../support/eventually.ts'
import { addressOf, closeAll, equal, openDatabase } from '../support/replicas.ts'

const test = suite('turn')
test.after.each(closeAll)

function prefixed (frame: Buffer): Buffer {
  assert.ok(frame.length < 16_384)
  return Buffer.concat([frame.length < 128 ? Buffer.of(frame.length) : Buffer.of(frame.length % 128 | 128, frame.length >> 7), frame])
}

/** A peer that says it has something, and then only that it lives. */
async function promiser (port: number): Promise<{ socket: Socket, stop: () => void }> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {}).resume()
  await once(socket, 'connect')
  socket.write(prefixed(encodeControl({
    type: 'hello', versionMin: 1, versionMax: 1, group: 'default', replica: '88'.repeat(16), log: newLogId(randomBytes(8)), nonce: randomBytes(16).toString('hex'), resolverVersion: '', transactionBytesMax: 1e6, credit: 1e6, timeMs: Date.now(), host: '', port: 0, want: false, vector: [{ log: newLogId(randomBytes(8)), sequence: 5, hlc: 1024 }], collected: []
  })))
  const timer = setInterval(() => { socket.write(prefixed(encodeControl({ type: 'heartbeat', timeMs: Date.now() }))) }, 1000)
  return { socket, stop: () => { clearInterval(timer); socket.destroy() } }
}

test('a peer that promises and does not deliver delays others for a while at most', async () => {
  const db = await openDatabase()
  const { stop } = await promiser(db.replication.address!.port)
  await eventually(() => db.replication.peers().some(({ state }) => state === 'syncing'))
  const healthy = await openDatabase({ initialSyncMs: 0 })
  await healthy.put('key', 'value')
  healthy.replication.connect(addressOf(db))
  await eventually(async () => await db.get('key') === 'value', { message: 'the healthy peer is asked' })
  stop()
  await equal(db, healthy)
})

test.run()
