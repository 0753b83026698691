import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BackOff } from '../../lib/sync/back-off.ts'

const take = (backOff: BackOff, count: number): number[] => Array.from({ length: count }, () => backOff.next())

test('delays grow by 1.6 to the cap, and stay there', () => {
  const longest = new BackOff({ minMs: 100, maxMs: 400, random: () => 1 })
  assert.equal(take(longest, 6).map(Math.round), [100, 160, 256, 400, 400, 400])
})

test('half of a delay is fixed, so that it is never below minMs / 2', () => {
  const shortest = new BackOff({ minMs: 100, maxMs: 400, random: () => 0 })
  assert.equal(take(shortest, 5).map(Math.round), [50, 80, 128, 200, 200])
})

test('two that fail together do not come back together', () => {
  const [a, b] = [0.1, 0.7].map((value) => new BackOff({ minMs: 100, maxMs: 400, random: () => value }))
  assert.is.not(a?.next(), b?.next())
})

test('reset() begins again at minMs', () => {
  const backOff = new BackOff({ minMs: 100, maxMs: 400, random: () => 1 })
  take(backOff, 5)
  backOff.reset()
  assert.equal(take(backOff, 2), [100, 160])
})

test.run()
