/**
 * Which keys were written lately: a key that was is never denied, and most others are.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { writeEntryBody } from '../../lib/codec/entry.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { hashedBytesMax, recentUnitsBytesMax } from '../../lib/limits.ts'
import { RecentKeys } from '../../lib/storage/recent-keys.ts'
import { UnitEntries, type Unit } from '../../lib/storage/unit.ts'

const [ours, theirs] = [newLogId(Buffer.alloc(8, 1)), newLogId(Buffer.alloc(8, 2))]
const bytesOf = (key: string): Buffer => Buffer.from(key)

/** What a batch did that wrote each of these keys in a log, up to this sequence. */
function unitOf (sequence: number, keys: readonly string[], { log = ours, value = 'v' } = {}): Unit {
  const changes = [{ log, sequence, hlc: sequence }]
  const entries = new UnitEntries()
  for (const key of keys) {
    const siblings = [{ ...changes[0]!, type: 'put' as const }, ...(key === 'conflict' ? [{ log: theirs, sequence: 1, hlc: sequence + 1, type: 'del' as const }] : [])]
    writeEntryBody(entries.begin(bytesOf(key), 0, bytesOf(key).length), siblings, [Buffer.from(value), undefined])
  }
  return { changes, collected: [], body: entries.encode(changes, []) }
}

function open (...units: Unit[]): RecentKeys {
  const recent = new RecentKeys()
  for (const unit of [unitOf(1, []), ...units]) recent.committed(unit, ours)
  return recent
}

test('a key may have been written behind each place before its last write, and no other may', () => {
  const recent = open(unitOf(3, ['a', 'conflict']), unitOf(5, ['b', 'c']))
  assert.equal(['a', 'conflict', 'b', 'd'].map((key) => recent.mayHold(bytesOf(key), ours, 1)), [true, true, true, false])
  assert.equal(['a', 'conflict', 'b', 'd'].map((key) => recent.mayHold(bytesOf(key), ours, 3)), [false, false, true, false])
  recent.committed(unitOf(6, ['a']), ours)
  assert.ok(recent.mayHold(bytesOf('a'), ours, 5), 'also what was written after somebody has asked')
  assert.not.ok(recent.mayHold(bytesOf('a'), ours, 6))
  recent.committed(unitOf(9, ['d'], { log: theirs }), ours)
  assert.not.ok(recent.mayHold(bytesOf('d'), ours, 1), 'what others write is not asked for')
})

test('before anything was written, and in another log, every key may have been', () => {
  assert.ok(new RecentKeys().mayHold(bytesOf('a'), ours, 100))
  const recent = open(unitOf(3, ['a']))
  assert.ok(recent.mayHold(bytesOf('b'), ours, 0))
  assert.ok(recent.mayHold(bytesOf('b'), theirs, 3))
  recent.committed(unitOf(1, ['c'], { log: theirs }), theirs)
  assert.ok(recent.mayHold(bytesOf('b'), ours, 3), 'that log is left')
  assert.ok(recent.mayHold(bytesOf('b'), theirs, 0))
  assert.not.ok(recent.mayHold(bytesOf('b'), theirs, 1))
})

test('of what was written while nobody recorded it nothing is known', () => {
  for (const asks of [true, false]) {
    const recent = open(unitOf(3, ['a']))
    if (asks) assert.not.ok(recent.mayHold(bytesOf('b'), ours, 1))
    recent.committed({ ...unitOf(4, ['b']), body: undefined }, ours)
    recent.committed(unitOf(5, ['c']), ours)
    assert.equal(['a', 'b', 'c'].map((key) => recent.mayHold(bytesOf(key), ours, 3)), [true, true, true])
    assert.equal(['a', 'b', 'c'].map((key) => recent.mayHold(bytesOf(key), ours, 4)), [false, false, true])
  }
})

test('what waits until somebody asks is bounded', () => {
  const recent = open()
  const count = 100
  for (let index = 0; index < count; index++) recent.committed(unitOf(2 + index, ['k' + index], { value: 'x'.repeat(recentUnitsBytesMax / 10) }), ours)
  assert.ok(recent.mayHold(bytesOf('other'), ours, count - 11), 'these are gone')
  assert.not.ok(recent.mayHold(bytesOf('other'), ours, count - 5))
  assert.ok(recent.mayHold(bytesOf('k' + (count - 1)), ours, count - 5))
})

test('of a long key the end counts', () => {
  const long = 'x'.repeat(hashedBytesMax)
  const recent = open(unitOf(2, [long + 'a', 'b' + long]))
  assert.equal([long + 'a', long + 'b', 'c' + long].map((key) => recent.mayHold(bytesOf(key), ours, 1)), [true, false, true])
})

test.run()
