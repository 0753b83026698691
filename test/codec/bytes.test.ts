import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteReader, ByteWriter } from '../../lib/codec/bytes.ts'
import { decodeEntries } from '../../lib/codec/entry.ts'
import { decodeData, decodeFrame, encodeControl, encodeData, protocolVersion, type ControlMessage, type Hello, type Peer } from '../../lib/codec/message.ts'
import { decodeSiblings } from '../../lib/codec/sibling-set.ts'
import { hlcMax } from '../../lib/core/hlc.ts'
import type { LogId } from '../../lib/core/ids.ts'
import type { ReplicationErrorCode } from '../../lib/errors.ts'
import { deliveredPartsMax, groupBytesMax, hostBytesMax, linksMax, messageTextBytesMax, peersPerMessageMax, resumeKeyBytesMax } from '../../lib/limits.ts'

const helloMessage: Hello = { type: 'hello', versionMin: protocolVersion, versionMax: protocolVersion, group: 'g', replica: '00'.repeat(16), log: 'a log id' as LogId, nonce: '11'.repeat(16), resolverVersion: '', transactionBytesMax: 1, credit: 1, timeMs: 1, host: '', port: 0, want: false, vector: [], collected: [] }

function wantFrom (keys: Buffer[]): ControlMessage {
  return { type: 'want', vector: [], collected: [], resume: { kind: 'catch-up', parts: keys.map((upTo) => ({ upTo, vector: [] })) } }
}

function reader (hex: string): ByteReader {
  return new ByteReader(Buffer.from(hex, 'hex'))
}

function refuses (action: () => unknown, code: ReplicationErrorCode = 'REPLICATION_PROTOCOL'): void {
  assert.throws(action, (error: { code?: string }) => error.code === code)
}

test('a number takes as many bytes as it needs, at most eight', () => {
  for (const [value, hex] of [[0, '00'], [127, '7f'], [128, '8001'], [300, 'ac02'], [2 ** 53 - 1, 'ffffffffffffff0f']] as const) {
    assert.is(new ByteWriter().varint(value).take().toString('hex'), hex)
    assert.is(reader(hex).varint(), value)
  }
})

test('a number that is too long, too large or not in its shortest form is refused', () => {
  for (const hex of ['', '80', '8000', 'ffffffffffffff10', 'ffffffffffffffff7f', '808080808080808001']) refuses(() => reader(hex).varint())
})

test('a length is checked before anything is taken', () => {
  refuses(() => reader('05aabb').bytes(100))
  refuses(() => reader('02aabb').bytes(1))
  refuses(() => reader('ffffffffffffff0faa').bytes(2 ** 53))
  refuses(() => reader('aa').raw(2))
  refuses(() => reader('aa').logId())
  assert.equal(reader('02aabb').bytes(2), Buffer.of(0xaa, 0xbb))
})

test('a count is checked against what is left', () => {
  refuses(() => reader('03aabb').count(10, 1))
  refuses(() => reader('02aabb').count(1, 1))
  assert.is(reader('02aabb').count(2, 1), 2)
  assert.is(reader('00').count(0, 100), 0)
})

test('what is left over is refused', () => {
  refuses(() => { reader('aa').end() })
  reader('').end()
})

test('a time beyond the year 2200 has a code of its own', () => {
  assert.is(reader(new ByteWriter().hlc(hlcMax).take().toString('hex')).hlc(), hlcMax)
  refuses(() => reader(new ByteWriter().hlc(hlcMax + 1).take().toString('hex')).hlc(), 'REPLICATION_CLOCK_IMPOSSIBLE')
  refuses(() => reader('ffffffffffffff').hlc(), 'REPLICATION_CLOCK_IMPOSSIBLE')
})

test('a reader sees any view of bytes, and only that', () => {
  const all = Uint8Array.of(9, 9, 1, 2, 9)
  const inner = new ByteReader(all.subarray(2, 4))
  assert.equal([inner.byte(), inner.byte(), inner.remaining], [1, 2, 0])
  refuses(() => inner.byte())
})

test('a writer grows, and what was taken is its own', () => {
  const writer = new ByteWriter(1)
  for (let round = 0; round < 1000; round++) writer.byte(round & 0xff)
  const taken = writer.take()
  assert.is(taken.length, 1000)
  writer.text('é€')
  assert.is(taken[0], 0)
  assert.equal(writer.view(), Buffer.concat([Buffer.of(5), Buffer.from('é€')]))
  assert.is(writer.reset().length, 0)
  assert.equal(new ByteWriter(1).part(Buffer.from('abcdef'), 2, 5).take().toString(), 'cde')
})

test('sibling sets out of order, with a strange type or at sequence 0 are refused', () => {
  const one = (type: string, sequence: string, time = '0000000000000001'): string => type + '6161616161616161' + sequence + time
  assert.is(decodeSiblings(Buffer.from('02' + one('01', '01') + one('00', '02'), 'hex')).length, 2)
  const nonsense = {
    'out of order': '02' + one('01', '02') + one('00', '01'),
    twice: '02' + one('01', '01') + one('01', '01'),
    'of a strange type': '01' + one('02', '01'),
    'at sequence 0': '01' + one('01', '00'),
    'with a byte too many': '01' + one('01', '01') + '00',
    missing: '01',
    'at a sequence that begins with nothing': '01' + one('01', '0041'),
    'at a sequence that goes on at its beginning': '01' + one('01', '4101'),
    'at a sequence of strange bytes': '01' + one('01', '0181'),
    'at a sequence of too many bytes': '01' + one('01', '01' + '7f'.repeat(9)),
    'at a sequence above 2^53': '01' + one('01', '20' + '7f'.repeat(8)),
    'of a time whose first byte is strange': '01' + one('01', '01', '4000000000000000'),
    'of a time whose last byte is strange': '01' + one('01', '01', '0000000000000041'),
    'of a time of strange bytes': '01' + one('01', '01', '0080000000000001'),
    'of a log of strange bytes': '01' + one('01', '01').replace('61', '80')
  }
  for (const [what, hex] of Object.entries(nonsense)) assert.throws(() => decodeSiblings(Buffer.from(hex, 'hex')), (error: { code?: string }) => error.code === 'REPLICATION_PROTOCOL', what)
})

test('a chunk that ends inside an entry is refused', () => {
  refuses(() => decodeEntries(Buffer.from('0161', 'hex')))
  refuses(() => decodeEntries(Buffer.from('0561', 'hex')))
  assert.equal(decodeEntries(Buffer.alloc(0)), [])
})

test('of a frame each part may be so long, and no longer', () => {
  const log = 'a log id' as LogId
  const ofHello = (part: Partial<Hello>): ControlMessage => ({ ...helloMessage, ...part })
  const parts: Array<[max: number, make: (size: number) => ControlMessage]> = [
    [linksMax, (size) => ({ type: 'direct', logs: new Array<LogId>(size).fill(log) })],
    [messageTextBytesMax, (size) => ({ type: 'bye', code: 'c'.repeat(size), message: '' })],
    [messageTextBytesMax, (size) => ({ type: 'bye', code: '', message: 'm'.repeat(size) })],
    [peersPerMessageMax, (size) => ({ type: 'peers', peers: new Array<Peer>(size).fill({ replica: '00'.repeat(16), host: 'h', port: 1 }) })],
    [hostBytesMax, (size) => ({ type: 'peers', peers: [{ replica: '00'.repeat(16), host: 'h'.repeat(size), port: 1 }] })],
    [65_535, (size) => ({ type: 'peers', peers: [{ replica: '00'.repeat(16), host: 'h', port: size }] })],
    [groupBytesMax, (size) => ofHello({ group: 'g'.repeat(size) })],
    [messageTextBytesMax, (size) => ofHello({ resolverVersion: 'v'.repeat(size) })],
    [messageTextBytesMax, (size) => ofHello({ host: 'h'.repeat(size) })],
    [deliveredPartsMax, (size) => wantFrom(Array.from({ length: size }, (_, index) => Buffer.of(index)))],
    [resumeKeyBytesMax, (size) => wantFrom([Buffer.alloc(size)])]
  ]
  for (const [max, make] of parts) {
    assert.equal(decodeFrame(encodeControl(make(max))), make(max))
    refuses(() => decodeFrame(encodeControl(make(max + 1))))
  }
})

test('a data message ends where it ends, and a delivery is of a kind that there is', () => {
  const messages: Array<Parameters<typeof encodeData>[0]> = [
    { type: 'begin', kind: 'transfer', resumes: true, vector: [], collected: [], entries: 7 },
    { type: 'end', entries: 7 },
    { type: 'advance', vector: [], acknowledge: true }
  ]
  for (const message of messages) {
    const bytes = encodeData(message).subarray(1)
    assert.equal(decodeData(bytes), message)
    refuses(() => decodeData(Buffer.concat([bytes, Buffer.of(0)])))
  }
  const strange = encodeData(messages[0]!).subarray(1)
  strange[1] = 4
  refuses(() => decodeData(strange))
})

test('a log stands in a vector if it has begun; a stream may begin before it', () => {
  const notBegun = [{ log: 'a log id' as LogId, sequence: 0, hlc: 1 }]
  refuses(() => decodeFrame(encodeControl({ type: 'want', vector: notBegun, collected: [] })))
  assert.equal(decodeFrame(encodeControl({ type: 'live', places: notBegun })), { type: 'live', places: notBegun })
})

test('a delivery goes on from at least one key, from keys in their order, and is of a kind that there is', () => {
  const strange = encodeControl(wantFrom([Buffer.of(0)]))
  strange[3] = 3
  refuses(() => decodeFrame(strange))
  for (const keys of [[], ['b', 'a'], ['a', 'a']]) refuses(() => decodeFrame(encodeControl(wantFrom(keys.map((key) => Buffer.from(key))))))
})

test('a hello of another protocol or another version is told apart', () => {
  const hello = encodeControl(helloMessage)
  const other = Buffer.from(hello)
  other[1] = 0x58
  refuses(() => decodeFrame(other))
  for (const version of [protocolVersion - 1, protocolVersion + 1]) {
    const changed = Buffer.from(hello)
    changed[3] = changed[4] = version
    refuses(() => decodeFrame(changed), 'REPLICATION_PROTOCOL_VERSION')
  }
  refuses(() => decodeFrame(Buffer.concat([hello, Buffer.of(0)])))
  refuses(() => decodeFrame(Buffer.alloc(0)))
})

test.run()
