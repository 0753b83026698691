import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatLogId, logIdFrom, replicaIdFrom, type LogId } from '../../lib/core/ids.ts'
import { compareSiblings, holdsPut, indexOfDot, mergeSiblings, noSiblings, type Sibling } from '../../lib/core/siblings.ts'
import { VersionVector } from '../../lib/core/version-vector.ts'

const [a, b] = ['log aaaa', 'log bbbb'] as [LogId, LogId]

function sibling (log: LogId, sequence: number, hlc = sequence, type: 'put' | 'del' = 'put'): Sibling {
  return { log, sequence, hlc, type }
}

function vector (...entries: Array<[LogId, number]>): VersionVector {
  return new VersionVector(entries.map(([log, sequence]) => ({ log, sequence, hlc: sequence })))
}

test('what both hold stays', () => {
  const ours = [sibling(a, 1)]
  assert.is(mergeSiblings(ours, vector([a, 1]), [sibling(a, 1)], vector([a, 1])), ours)
})

test('what the sender has seen and does not hold goes', () => {
  assert.equal(mergeSiblings([sibling(a, 1)], vector([a, 1]), [sibling(b, 1)], vector([a, 1], [b, 1])), [sibling(b, 1)])
  assert.equal(mergeSiblings([sibling(a, 1)], vector([a, 1]), noSiblings, vector([a, 1])), [])
})

test('what we have seen and do not hold does not come back', () => {
  const ours = [sibling(a, 2)]
  assert.is(mergeSiblings(ours, vector([a, 2]), [sibling(a, 1)], vector([a, 1])), ours)
  assert.is(mergeSiblings(noSiblings, vector([a, 2]), [sibling(a, 1)], vector([a, 1])), noSiblings)
})

test('what neither has seen of the other is kept, in the order of time', () => {
  const [early, late] = [sibling(b, 7, 1), sibling(a, 1, 2)]
  assert.equal(mergeSiblings([late], vector([a, 1]), [early], vector([b, 7])), [early, late])
})

test('time orders first, then the log, then the sequence', () => {
  const sorted = [sibling(b, 9, 1), sibling(a, 1, 2), sibling(a, 2, 2), sibling(b, 1, 2), sibling(a, 1, 3)]
  assert.equal([...sorted].reverse().sort(compareSiblings), sorted)
})

test('a dot is found by its log and sequence', () => {
  const set = [sibling(a, 1), sibling(b, 1), sibling(b, 2)]
  assert.is(indexOfDot(set, { log: b, sequence: 1 }), 1)
  assert.is(indexOfDot(set, { log: a, sequence: 2 }), -1)
  assert.ok(holdsPut(set))
  assert.not.ok(holdsPut([sibling(a, 1, 1, 'del')]))
})

test('sets of thousands merge as small ones do, in steps that grow with them', () => {
  let looks = 0
  const set = (from: number, count: number): Sibling[] => Array.from({ length: count }, (_, index) => ({
    log: logIdFrom(Buffer.from((from + index).toString(16).padStart(16, '0'), 'hex')),
    get sequence () {
      looks++
      return 1
    },
    hlc: 1024 * (from + index),
    type: 'put'
  }))
  const seen = { covers: () => true }
  const unseen = { covers: () => false }
  const [ours, theirs] = [set(0, 4000), set(2000, 4000)]
  const [all, some] = [mergeSiblings(ours, unseen, theirs, unseen), mergeSiblings(ours, seen, theirs, seen)]
  assert.ok(looks < 200_000, `${looks} looks at versions: each for each it would be millions`)
  assert.equal(all, set(0, 6000))
  assert.equal(some, set(2000, 2000))
})

test('a vector only grows, and says what it lacks', () => {
  const known = vector([a, 3])
  known.advance({ log: a, sequence: 2, hlc: 99 })
  assert.equal(known.get(a), { log: a, sequence: 3, hlc: 3 })
  assert.ok(known.covers(a, 3) && !known.covers(a, 4) && !known.covers(b, 1) && known.covers(b, 0))
  const more = vector([a, 5], [b, 2])
  assert.ok(more.dominates(known) && !known.dominates(more) && !known.equals(more))
  assert.equal(more.beyond(known).map(({ log, sequence }) => [log, sequence]), [[a, 5], [b, 2]])
  assert.is(more.operationsBeyond(known), 4)
  assert.is(known.operationsBeyond(more), 0)
  const copy = known.clone()
  copy.join(more)
  assert.ok(copy.equals(more))
  assert.is(known.sequenceOf(a), 3)
  assert.is(vector().size, 0)
})

test('log ids are bytes in memory and hexadecimal for people', () => {
  const log = logIdFrom(Uint8Array.of(0, 1, 0x7f, 0x80, 0xff, 5, 6, 7))
  assert.is(log.length, 8)
  assert.is(formatLogId(log), '00017f80ff050607')
  assert.throws(() => logIdFrom(new Uint8Array(7)))
  assert.is(replicaIdFrom(new Uint8Array(16).fill(0xab)), 'ab'.repeat(16))
  assert.throws(() => replicaIdFrom(new Uint8Array(15)))
})

test.run()
