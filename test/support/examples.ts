/**
 * The examples of FORMAT.md and PROTOCOL.md, made by the code that they describe.
 */
import { encodeControl, encodeData, type ResumePoint } from '../../lib/codec/message.ts'
import { encodeUnit } from './units.ts'
import { writeAdvances } from '../../lib/codec/advances.ts'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { writeEntry } from '../../lib/codec/entry.ts'
import { logIdFrom } from '../../lib/core/ids.ts'
import { VersionVector } from '../../lib/core/version-vector.ts'
import { openReplica, put, del } from './store.ts'
import { VirtualSystem } from './virtual-system.ts'

/** 2026-01-01T00:00:00Z */
const timeMs = 1767225600000
const hlc = timeMs * 1024
const ourLog = logIdFrom(Buffer.from('4141414141414141', 'hex'))
const theirLog = logIdFrom(Buffer.from('4242424242424242', 'hex'))
const replica = 'c3'.repeat(16)

/** A system whose random bytes are all the same and whose clock stands still. */
class ExampleSystem extends VirtualSystem {
  override nowMs (): number {
    return timeMs
  }

  override randomBytes (size: number): Uint8Array {
    return Buffer.alloc(size, size === 8 ? 0x41 : 0xc3)
  }
}

/**
 * Every key and value of a small database, as hexadecimal: a new replica that put `k1` and deleted it again, put
 * `k2` and `k3` in one batch, and met a concurrent write to `k2` of another replica, and a catch-up that was cut short
 * twice.
 */
export async function exampleDump (): Promise<Array<{ key: string, value: string }>> {
  const { engine, store } = await openReplica({ system: new ExampleSystem({ seed: 1 }) })
  await store.commit([put('k1', 'one')], false)
  await store.commit([del('k1')], false)
  await store.commit([put('k2', 'two'), put('k3', 'three')], false)
  const stream = new VersionVector()
  const write = { log: theirLog, sequence: 1, hlc: hlc + 5 * 1024 }
  await store.intake.apply({ stream, before: [], changes: [write], collected: [], entries: [{ key: Buffer.from('k2'), siblings: [{ ...write, type: 'put' }], values: [Buffer.from('zwei')] }], bytes: 0 })
  for (const [index, keys] of [['k4', 'k5'], ['k4']].entries()) {
    const vector = [{ ...write, sequence: 3 + index }]
    const chunk = new ByteWriter()
    for (const key of keys) writeEntry(chunk, { key: Buffer.from(key), siblings: [{ ...write, sequence: 3 + index, type: 'put' }], values: [Buffer.from(`${index}`)] })
    const delivery = store.intake.begin('catch-up', vector, [], 2, index > 0)
    await delivery.add(chunk.take())
    await delivery.abandon()
  }
  const entries = await engine.iterator({ keyEncoding: 'hex', valueEncoding: 'hex' }).all() as unknown as Array<[string, string]>
  return entries.map(([key, value]) => ({ key, value }))
}

/** One frame of each kind, without its length prefix; data messages as the only fragment that they fit. */
export function exampleMessages (): Record<string, Buffer> {
  const before = [{ log: theirLog, sequence: 7, hlc }]
  const changes = [{ log: ourLog, sequence: 300, hlc: hlc + 1 }]
  const body = new ByteWriter()
  writeAdvances(body, changes)
  writeAdvances(body, before)
  const resume: ResumePoint = { kind: 'catch-up', parts: [{ upTo: Buffer.from('k'), vector: before }] }
  const entry = { key: Buffer.from('k'), siblings: [{ ...changes[0]!, type: 'put' as const }], values: [Buffer.from('v')] }
  writeEntry(body, entry)
  const chunk = new ByteWriter()
  writeEntry(chunk, entry)
  return {
    hello: encodeControl({
      type: 'hello', versionMin: 1, versionMax: 1, group: 'shop', replica, log: ourLog, nonce: 'd4'.repeat(16), resolverVersion: '', transactionBytesMax: 64 * 1024 * 1024, credit: 2 * 1024 * 1024, timeMs, host: '127.0.0.1', port: 9000, want: true, vector: before, collected: []
    }),
    want: encodeControl({ type: 'want', vector: changes, collected: [], resume }),
    live: encodeControl({ type: 'live', places: [{ log: theirLog, sequence: 6, hlc: before[0]!.hlc }] }),
    later: encodeControl({ type: 'later' }),
    again: encodeControl({ type: 'again' }),
    credit: encodeControl({ type: 'credit', bytes: 524288 }),
    heartbeat: encodeControl({ type: 'heartbeat', timeMs }),
    direct: encodeControl({ type: 'direct', logs: [theirLog] }),
    acknowledge: encodeControl({ type: 'acknowledge', members: [{ replica, unseenSeconds: 5, vector: changes }] }),
    bye: encodeControl({ type: 'bye', code: 'REPLICATION_SELF', message: 'me' }),
    peers: encodeControl({ type: 'peers', peers: [{ replica, host: '10.0.0.2', port: 9000 }] }),
    begin: encodeData({ type: 'begin', resumes: false, kind: 'transfer', vector: changes, collected: [], entries: 1 }),
    chunk: encodeData({ type: 'chunk', bytes: chunk.take() }),
    end: encodeData({ type: 'end', entries: 1 }),
    unit: encodeUnit(before, body.take()),
    advance: encodeData({ type: 'advance', vector: before, acknowledge: true })
  }
}
