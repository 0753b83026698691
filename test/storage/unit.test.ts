/**
 * What a unit collects: each key once, whatever other units there are.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readAdvances } from '../../lib/codec/advances.ts'
import { ByteReader } from '../../lib/codec/bytes.ts'
import { decodeEntries, writeEntryBody } from '../../lib/codec/entry.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { innerBatchBytesMax } from '../../lib/limits.ts'
import { UnitEntries } from '../../lib/storage/unit.ts'

const log = newLogId(Buffer.alloc(8, 1))

function write (entries: UnitEntries, key: string, value: string): void {
  const bytes = Buffer.from(key)
  writeEntryBody(entries.begin(bytes, 0, bytes.length), [{ log, sequence: 1, hlc: 1, type: 'put' }], [Buffer.from(value)])
}

function read (entries: UnitEntries): Array<[string, string]> {
  const body = entries.encode([{ log, sequence: 1, hlc: 1 }], [])
  const reader = new ByteReader(body)
  assert.equal([readAdvances(reader), readAdvances(reader)], [[{ log, sequence: 1, hlc: 1 }], []])
  return decodeEntries(reader.raw(reader.remaining)).map(({ key, values }) => [key.toString(), String(values[0])])
}

test('of each key the last entry is in it', () => {
  const entries = new UnitEntries()
  for (const [key, value] of ['a1', 'b1', 'a2', 'c1', 'b2', 'a3']) write(entries, key!, value!)
  assert.equal(read(entries), [['c', '1'], ['b', '2'], ['a', '3']])
})

test('a unit of one key that is written again and again holds no memory for all of that', () => {
  const entries = new UnitEntries()
  for (let index = 0; index < 1000; index++) write(entries, 'a', 'x'.repeat(100))
  const body = entries.encode([], [])
  assert.ok(body.buffer.byteLength <= Buffer.poolSize, `${body.length} bytes in ${body.buffer.byteLength}`)
})

test('two that are collected at a time know nothing of each other, nor of what has been encoded before', () => {
  const [one, other] = [new UnitEntries(), new UnitEntries()]
  assert.equal(read(one), [])
  write(one, 'a', '1')
  write(other, 'b', '1')
  const long = 'x'.repeat(innerBatchBytesMax)
  write(one, 'long', long)
  assert.equal(read(one), [['a', '1'], ['long', long]])
  write(one, 'c', '1')
  assert.equal(read(other), [['b', '1']])
  write(other, 'd', '1')
  assert.equal([read(one), read(other), read(one)], [[['c', '1']], [['d', '1']], []])
})

test.run()
