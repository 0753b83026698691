/**
 * Of entries of a unit the last one of each key is found, as a map of the keys would.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { hashOf } from '../../lib/storage/key-hash.ts'
import { lastsOfKeys } from '../../lib/storage/lasts-of-keys.ts'

/** Numbers of the entries that are the last of their key. */
function lastsOf (keys: readonly Uint8Array[]): number[] {
  const writer = new ByteWriter()
  const starts: number[] = []
  const keyEnds: number[] = []
  for (const key of keys) {
    starts.push(writer.length)
    writer.bytes(key)
    keyEnds.push(writer.length)
    writer.raw(Buffer.from('what follows a key'))
  }
  const isLast = lastsOfKeys(writer.view(), starts, keyEnds)
  return [...keys.keys()].filter((index) => isLast === undefined || isLast[index] === 1)
}

function expectedOf (keys: readonly Uint8Array[]): number[] {
  return [...new Map(keys.map((key, index) => [Buffer.from(key).toString('hex'), index])).values()].sort((a, b) => a - b)
}

test('the last entry of each key is found', () => {
  const key = fc.oneof(fc.uint8Array({ maxLength: 2 }), fc.uint8Array({ minLength: 300, maxLength: 301 }))
  fc.assert(fc.property(fc.array(key, { maxLength: 100 }), (keys) => { assert.equal(lastsOf(keys), expectedOf(keys)) }))
})

test('of many keys, more than ever before, and then of few', () => {
  const many = Array.from({ length: 5000 }, (_, index) => Buffer.from(String(index % 4000)))
  assert.equal(lastsOf(many), expectedOf(many))
  assert.equal(lastsOf(many.slice(0, 3)), [0, 1, 2])
})

test('keys that somebody has chosen to have one hash take no longer than a map of them', () => {
  const length = 1000
  const keys: Buffer[] = []
  for (let number = 0; keys.length < length; number++) {
    const key = Buffer.from(`\x05${number.toString(36).padStart(5)}`)
    if ((hashOf(key, 0, key.length) & 0xff) === 0) keys.push(key.subarray(1))
  }
  keys.push(keys[3]!, keys[7]!)
  assert.equal(lastsOf(keys), expectedOf(keys))
})

test.run()
