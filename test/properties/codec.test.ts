/**
 * The laws of the codecs: what is written is read, and bytes of a stranger end in values or in a coded error.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import { readAdvances, writeAdvances } from '../../lib/codec/advances.ts'
import { ByteReader, ByteWriter } from '../../lib/codec/bytes.ts'
import { decodeEntries, writeEntry, type Entry } from '../../lib/codec/entry.ts'
import { decodeLogRecord, encodeLogRecord, endOfLogRecord, keysOfLogRecord } from '../../lib/codec/log-record.ts'
import { decodeData, decodeFrame, encodeControl, encodeData, nextFragment, protocolVersion, type ControlMessage, type DataMessage, type ResumePoint } from '../../lib/codec/message.ts'
import { encodeUnit } from '../support/units.ts'
import { decodeSiblings, writeSiblings } from '../../lib/codec/sibling-set.ts'
import { hlcMax } from '../../lib/core/hlc.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { compareSiblings, type Sibling } from '../../lib/core/siblings.ts'
import type { Advance } from '../../lib/core/version-vector.ts'
import { ReplicationError } from '../../lib/errors.ts'
import { decodeIdentity } from '../../lib/storage/identity.ts'
import { runs } from '../support/seed.ts'

/** Records with a prototype, as the decoders make them. */
function record<T> (shape: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(shape, { noNullPrototype: true }) as fc.Arbitrary<T>
}

const bytes = fc.uint8Array({ maxLength: 40 }).map((each) => Buffer.from(each))
const log = fc.uint8Array({ minLength: 8, maxLength: 8 }).map(newLogId)
const sequence = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.maxSafeInteger().map((each) => Math.max(1, Math.abs(each))))
const hlc = fc.integer({ min: 0, max: hlcMax })
const advance: fc.Arbitrary<Advance> = record({ log, sequence, hlc })
const advances = fc.array(advance, { maxLength: 5 })
const sibling: fc.Arbitrary<Sibling> = record({ log, sequence, hlc, type: fc.constantFrom('put' as const, 'del' as const) })
const siblings = fc.array(sibling, { maxLength: 5 }).map((set) => set.sort(compareSiblings).filter((each, index) => index === 0 || compareSiblings(set[index - 1]!, each) !== 0))
const entry: fc.Arbitrary<Entry> = fc.tuple(bytes, siblings, fc.infiniteStream(fc.option(bytes, { nil: undefined }))).map(([key, siblings, values]) => ({
  key,
  siblings,
  values: siblings.map(({ type }) => type === 'put' ? values.next().value as Buffer | undefined : undefined)
}))
const resume: fc.Arbitrary<ResumePoint> = record({ kind: fc.constantFrom('catch-up' as const, 'transfer' as const), parts: fc.uniqueArray(bytes, { minLength: 1, maxLength: 4, selector: (key) => key.toString('hex') }).map((keys) => keys.sort(Buffer.compare).map((upTo) => ({ upTo, vector: [] as Advance[] }))) })
const hex = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((each) => Buffer.from(each).toString('hex'))
const text = fc.string({ unit: 'grapheme', maxLength: 20 })
const count = fc.maxSafeNat()

const control: fc.Arbitrary<ControlMessage> = fc.oneof(
  record({
    type: fc.constant('hello' as const),
    versionMin: fc.integer({ min: 0, max: protocolVersion }),
    versionMax: fc.integer({ min: protocolVersion, max: 255 }),
    group: text,
    replica: hex,
    log,
    nonce: hex,
    resolverVersion: text,
    transactionBytesMax: count,
    credit: count,
    timeMs: count,
    host: text,
    port: fc.nat({ max: 65535 }),
    want: fc.boolean(),
    vector: advances,
    collected: advances
  }),
  record({ type: fc.constant('want' as const), vector: advances, collected: advances, resume: fc.option(resume, { nil: undefined }) }),
  fc.constantFrom({ type: 'later' as const }, { type: 'again' as const }),
  record({ type: fc.constant('heartbeat' as const), timeMs: count }),
  record({ type: fc.constant('credit' as const), bytes: count }),
  record({ type: fc.constant('direct' as const), logs: fc.array(log, { maxLength: 5 }) }),
  record({ type: fc.constant('acknowledge' as const), members: fc.array(record({ replica: hex, unseenSeconds: count, vector: advances }), { maxLength: 4 }) }),
  record({ type: fc.constant('bye' as const), code: text, message: text }),
  record({ type: fc.constant('peers' as const), peers: fc.array(record({ replica: hex, host: text, port: fc.nat({ max: 65535 }) }), { maxLength: 5 }) })
)

const data: fc.Arbitrary<Exclude<DataMessage, { type: 'unit' }>> = fc.oneof(
  record({ type: fc.constant('begin' as const), resumes: fc.boolean(), kind: fc.constantFrom('catch-up' as const, 'transfer' as const), vector: advances, collected: advances, entries: count }),
  record({ type: fc.constant('chunk' as const), bytes }),
  record({ type: fc.constant('end' as const), entries: count }),
  record({ type: fc.constant('advance' as const), vector: advances, acknowledge: fc.boolean() })
)

/** Everything but the bytes as they were read. */
function plain ({ key, siblings, values }: Entry): object {
  return { key: Buffer.from(key), siblings, values: values.map((value) => value === undefined ? undefined : Buffer.from(value)) }
}

test('numbers, bytes, text, ids and times are read as they were written', () => {
  fc.assert(fc.property(count, bytes, text, log, hlc, fc.nat({ max: 255 }), (varint, raw, string, id, time, byte) => {
    const writer = new ByteWriter(1).byte(byte).varint(varint).bytes(raw).text(string).logId(id).hlc(time).raw(raw)
    assert.is(writer.length, writer.view().length)
    const reader = new ByteReader(writer.take())
    assert.equal([reader.byte(), reader.varint(), reader.bytes(1000), reader.text(1000), reader.logId(), reader.hlc(), reader.raw(raw.length)], [byte, varint, raw, string, id, time, raw])
    reader.end()
    assert.is(writer.length, 0)
  }), runs(500))
})

test('sibling sets, vectors, entries and log records are read as they were written', () => {
  fc.assert(fc.property(siblings, advances, fc.array(entry, { maxLength: 4 }), hlc, (set, vector, entries, time) => {
    const writer = new ByteWriter(1)
    writeSiblings(writer, set)
    assert.equal(decodeSiblings(writer.take()), set)
    writeAdvances(writer, vector)
    assert.equal(readAdvances(new ByteReader(writer.take())), vector)
    for (const each of entries) writeEntry(writer, each)
    assert.equal(decodeEntries(writer.take()).map(plain), entries.map(plain))
    if (entries.length === 0) return
    const record = { hlc: time, operations: entries.map(({ key }, index) => ({ sequence: 7 + index * 200, type: index % 3 === 0 ? 'del' as const : 'put' as const, key })) }
    const encoded = encodeLogRecord(record)
    assert.equal(decodeLogRecord(7, encoded), record)
    assert.equal([...keysOfLogRecord(encoded)], entries.map(({ key }) => key.latin1Slice()))
    assert.equal(endOfLogRecord(7, encoded), { hlc: time, sequence: record.operations.at(-1)!.sequence })
  }), runs(500))
})

test('every control message is read as it was written', () => {
  fc.assert(fc.property(control, (message) => {
    assert.equal(decodeFrame(encodeControl(message)), message)
  }), runs(1000))
})

test('every data message is read as it was written, through fragments of any size', () => {
  const unit = record({ before: advances, changes: advances, collected: advances, entries: fc.array(entry, { maxLength: 3 }) })
  fc.assert(fc.property(fc.oneof(data, unit), fc.integer({ min: 1, max: 200 }), (message, payloadBytes) => {
    let encoded: Buffer
    if ('before' in message) {
      const body = new ByteWriter()
      writeAdvances(body, message.changes)
      writeAdvances(body, message.collected)
      for (const each of message.entries) writeEntry(body, each)
      encoded = encodeUnit(message.before, body.take())
    } else {
      encoded = encodeData(message)
    }
    const parts: Buffer[] = []
    let last = false
    for (let offset = 1; offset < encoded.length;) {
      assert.not.ok(last)
      const fragment = nextFragment(encoded, offset, payloadBytes)
      assert.ok(fragment.length <= payloadBytes + 1)
      offset += fragment.length - 1
      const frame = decodeFrame(fragment) as { type: 'fragment', last: boolean, bytes: Buffer }
      assert.is(frame.type, 'fragment')
      parts.push(frame.bytes)
      last = frame.last
    }
    assert.ok(last)
    const decoded = decodeData(Buffer.concat(parts))
    if ('before' in message) {
      const { before, changes, collected, entries } = decoded as Extract<DataMessage, { type: 'unit' }>
      assert.equal([before, changes, collected, [...entries].map(plain)], [message.before, message.changes, message.collected, message.entries.map(plain)])
    } else {
      assert.equal(decoded, message)
    }
  }), runs(1000))
})

const decoders: Record<string, (bytes: Buffer) => unknown> = {
  'a frame': decodeFrame,
  'a data message': decodeData,
  'a chunk': decodeEntries,
  'a sibling set': decodeSiblings,
  'a vector': (bytes) => readAdvances(new ByteReader(bytes)),
  'a log record': (bytes) => decodeLogRecord(1, bytes),
  'the keys of a log record': (bytes) => [...keysOfLogRecord(bytes)],
  'the end of a log record': (bytes) => endOfLogRecord(1, bytes),
  'an identity': decodeIdentity
}

/** Decodes; whatever is thrown has to be an error of ours. */
function decodeOrRefuse (decode: (bytes: Buffer) => unknown, bytes: Buffer): void {
  try {
    decode(bytes)
  } catch (error) {
    assert.instance(error, ReplicationError, `${String(error)} at ${bytes.toString('hex')}`)
    assert.match((error as ReplicationError).code, /^REPLICATION_(PROTOCOL|PROTOCOL_VERSION|CLOCK_IMPOSSIBLE)$/)
  }
}

const tags = [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x11, 0x20, 0x21, 0x22, 0x23, 0x24]

for (const [name, decode] of Object.entries(decoders)) {
  test(`any bytes make ${name} or a coded error`, () => {
    const tagged = fc.tuple(fc.constantFrom(...tags), fc.uint8Array({ maxLength: 200 })).map(([tag, rest]) => Uint8Array.of(tag, ...rest))
    const small = fc.array(fc.constantFrom(0, 1, 2, 0x7f, 0x80, 0xff), { maxLength: 60 }).map((each) => Uint8Array.from(each))
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), tagged, small), (bytes) => {
      decodeOrRefuse(decode, Buffer.from(bytes))
    }), runs(2000))
  })
}

test('messages that were cut, or changed in one byte, decode or are refused', () => {
  fc.assert(fc.property(fc.oneof(control.map(encodeControl), data.map((message) => encodeData(message).subarray(1))), fc.nat(), fc.nat({ max: 255 }), fc.boolean(), (encoded, at, value, cut) => {
    const changed = Buffer.from(cut ? encoded.subarray(0, at % (encoded.length + 1)) : encoded)
    if (!cut) changed[at % changed.length] = value
    decodeOrRefuse(decodeFrame, changed)
    decodeOrRefuse(decodeData, changed)
  }), runs(3000))
})

test.run()
