/**
 * Frames survive any cutting of the stream, and lengths that make no sense are refused before anything is kept.
 */
import { randomBytes } from 'node:crypto'
import * as fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeFrames, FrameReader } from '../../lib/codec/frames.ts'
import type { ReplicationError } from '../../lib/errors.ts'
import { runs } from '../support/seed.ts'

const bytesMax = 1024 * 1024

function read (chunks: Uint8Array[], max = bytesMax): Buffer[] {
  const reader = new FrameReader(max)
  return chunks.flatMap((chunk) => [...reader.read(chunk)].map((frame) => Buffer.from(frame)))
}

function code (chunk: Buffer): string | undefined {
  try {
    read([chunk])
    return undefined
  } catch (error) {
    return (error as ReplicationError).code
  }
}

test('frames come out as they went in, however the stream is cut', () => {
  fc.assert(fc.property(
    fc.array(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 4000, max: 40_000 }).map((length) => randomBytes(length))), { maxLength: 6 }),
    fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 40 }),
    (frames, cuts) => {
      fc.pre(frames[0] === undefined || frames[0].length === 0 || frames[0][0] !== 3)
      const stream = Buffer.concat(encodeFrames(frames))
      const chunks: Buffer[] = []
      let offset = 0
      for (const cut of cuts) {
        chunks.push(stream.subarray(offset, offset + cut))
        offset += cut
      }
      chunks.push(stream.subarray(offset))
      assert.equal(read(chunks), frames.map((frame) => Buffer.from(frame)))
    }
  ), runs(300))
})

test('lengths of one to four bytes, at their borders', () => {
  for (const length of [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000]) {
    const frame = Buffer.alloc(length, 7)
    assert.ok(read(encodeFrames([frame]) as Buffer[], length)[0]!.equals(frame), String(length))
  }
})

test('a length above the limit is refused as soon as it is there, and one that never ends too', () => {
  assert.is(code(Buffer.of(0x81, 0x80, 0x40)), 'REPLICATION_FRAME_TOO_LARGE')
  assert.is(code(Buffer.of(0x80, 0x80, 0x80, 0x80, 0x10)), 'REPLICATION_FRAME_TOO_LARGE')
  assert.is(code(Buffer.alloc(8, 0xff)), 'REPLICATION_PROTOCOL')
  assert.is(code(Buffer.of(0x80, 0)), 'REPLICATION_PROTOCOL')
})

test('a frame that comes byte by byte costs its length, and not more for each byte', () => {
  const frame = randomBytes(bytesMax)
  frame[0] = 1
  const stream = Buffer.concat(encodeFrames([frame]))
  const reader = new FrameReader(bytesMax)
  const before = process.memoryUsage()
  let whole: Buffer | undefined
  for (let offset = 0; offset < stream.length; offset++) {
    for (const each of reader.read(stream.subarray(offset, offset + 1))) whole = each
    if (offset === 1000) assert.ok(process.memoryUsage().arrayBuffers - before.arrayBuffers < bytesMax / 4, 'nothing is kept for what was only promised')
  }
  assert.ok(whole!.equals(frame))
})

test('whether the stream ended inside a frame is known', () => {
  const reader = new FrameReader(bytesMax)
  assert.is(reader.isInside, false)
  for (const byte of [0x82, 0x01]) {
    assert.equal([...reader.read(Buffer.of(byte))], [])
    assert.is(reader.isInside, true)
  }
  assert.is([...reader.read(Buffer.alloc(130))].length, 1)
  assert.is(reader.isInside, false)
})

test('TLS is known from its first two bytes, and only where a stream begins', () => {
  assert.is(code(Buffer.of(0x16, 0x03)), 'REPLICATION_AUTHENTICATION_FAILED')
  assert.is(code(Buffer.of(0x15, 0x03, 0x03, 0, 2, 2, 0x46)), 'REPLICATION_AUTHENTICATION_FAILED')
  assert.is(code(Buffer.concat([Buffer.of(0x16, 0x03), Buffer.alloc(100)])), 'REPLICATION_AUTHENTICATION_FAILED')
  assert.is(code(Buffer.of(1, 7, 0x16, 0x03)), undefined)
})

test.run()
