/**
 * The laws of what is read without being decoded, and of what only the disk holds.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { decodeEntries, writeEntry } from '../../lib/codec/entry.ts'
import { EntryScan } from '../../lib/codec/entry-scan.ts'
import { hlcMax } from '../../lib/core/hlc.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { ReplicationError } from '../../lib/errors.ts'
import { decodeIdentity, encodeIdentity } from '../../lib/storage/identity.ts'
import { LogTally } from '../../lib/storage/log-tally.ts'
import { runs } from '../support/seed.ts'

const bytes = (maxLength: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength }).map((each) => Buffer.from(each))
const sequence = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 ** 40 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }))

/** A chunk of entries of one version each, as nearly all are, or of two. */
const chunk = fc.array(fc.record({
  key: fc.oneof(bytes(20), bytes(300)),
  logs: fc.uniqueArray(fc.uint8Array({ minLength: 8, maxLength: 8 }).map(newLogId), { minLength: 1, maxLength: 2 }),
  sequence,
  hlc: fc.integer({ min: 0, max: hlcMax }),
  type: fc.constantFrom('put' as const, 'del' as const),
  value: fc.option(fc.oneof(bytes(10), bytes(300), fc.constant(Buffer.alloc(17_000))), { nil: undefined })
}), { maxLength: 5 }).map((entries) => {
  const writer = new ByteWriter()
  for (const { key, logs, sequence, hlc, type, value } of entries) {
    const siblings = logs.sort().map((log) => ({ log, sequence, hlc, type }))
    writeEntry(writer, { key, siblings, values: siblings.map(() => type === 'put' ? value : undefined) })
  }
  return writer.take()
})

function hex (value: Uint8Array | undefined): string | undefined {
  return value === undefined ? undefined : Buffer.from(value).toString('hex')
}

function decoded (bytes: Buffer): unknown[] | string {
  try {
    return decodeEntries(bytes).map(({ key, siblings, values }) => [key.toString('hex'), siblings, values.map(hex)])
  } catch (error) {
    return (error as ReplicationError).code
  }
}

function scanned (bytes: Buffer): unknown[] | string {
  const scan = new EntryScan(bytes)
  const entries: unknown[] = []
  try {
    while (scan.next()) {
      assert.is(scan.compareKey(scan.key), 0)
      if (scan.entry !== undefined) {
        const { key, siblings, values } = scan.entry
        entries.push([key.toString('hex'), siblings, values.map(hex)])
      } else {
        const { key, log, sequence, hlc, put, valueStart, end } = scan
        const value = valueStart === -1 ? undefined : bytes.toString('hex', valueStart, end)
        entries.push([key.toString('hex'), [{ log, sequence, hlc, type: put ? 'put' : 'del' }], [value]])
      }
    }
    return entries
  } catch (error) {
    assert.instance(error, ReplicationError)
    return (error as ReplicationError).code
  }
}

test('a scan of a chunk says what decoding it says', () => {
  fc.assert(fc.property(chunk, (bytes) => {
    assert.equal(scanned(bytes), decoded(bytes))
  }), runs(1000))
})

test('a scan of a chunk that was cut, or changed in one byte, ends as decoding it does', () => {
  fc.assert(fc.property(chunk, fc.nat(), fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat({ max: 255 })), fc.boolean(), (bytes, at, value, cut) => {
    if (bytes.length === 0) return
    const changed = Buffer.from(cut ? bytes.subarray(0, at % bytes.length) : bytes)
    if (!cut) changed[at % bytes.length] = value
    assert.equal(scanned(changed), decoded(changed))
  }), runs(5000))
})

test('an identity is read as it was written', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 40 })
  fc.assert(fc.property(fc.record({ nonce: text, inode: text, birthTime: text, changeTime: text, bootId: text }, { noNullPrototype: true }), (identity) => {
    assert.equal(decodeIdentity(encodeIdentity(identity)), identity)
  }), runs(300))
})

test('what is known of the log is read as it was written, and what may have been written since is added', () => {
  const operations = fc.record({ all: fc.nat(), deletes: fc.nat() }, { noNullPrototype: true })
  fc.assert(fc.property(operations, operations, fc.nat({ max: 1000 }), (live, written, advanced) => {
    const tally = new LogTally(undefined, 0)
    tally.wrote(written.all, written.deletes)
    tally.swept(live)
    const read = new LogTally(tally.encode(), advanced)
    assert.equal([read.live, read.written], [live, { all: written.all + advanced, deletes: written.deletes + advanced }])
  }), runs(300))
})

test.run()
