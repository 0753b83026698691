import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import { hlcFollowedMax, hlcMax, isPossible, observe, tick, timeMaxMs, toMs } from '../../lib/core/hlc.ts'
import { runs } from '../support/seed.ts'

const startMs = Date.UTC(2025, 0, 1)

test('a timestamp shows the wall clock', () => {
  assert.is(toMs(tick(0, startMs)), startMs)
  assert.is(toMs(tick(0, startMs + 0.9)), startMs)
})

test('transactions of one millisecond are counted, and carry into the next one after 1024', () => {
  let hlc = tick(0, startMs)
  for (let count = 1; count < 1024; count++) hlc = tick(hlc, startMs)
  assert.is(toMs(hlc), startMs)
  assert.is(toMs(tick(hlc, startMs)), startMs + 1)
})

test('timestamps grow strictly, above all that was seen and followed, whatever the clock does', () => {
  const event = fc.oneof(
    fc.record({ type: fc.constant('tick' as const), nowMs: fc.integer({ min: -1e12, max: timeMaxMs }) }),
    fc.record({ type: fc.constant('observe' as const), seen: fc.integer({ min: 0, max: hlcMax }) })
  )
  fc.assert(fc.property(fc.array(event), (events) => {
    let last = 0
    for (const event of events) {
      if (event.type === 'observe') {
        const next = observe(last, event.seen)
        assert.ok(next >= last && next >= Math.min(event.seen, event.seen > hlcFollowedMax ? last : Infinity))
        last = next
      } else {
        const next = tick(last, event.nowMs)
        assert.ok(next > last && toMs(next) >= event.nowMs)
        last = next
      }
    }
  }), runs(500))
})

test('times from 1970 to the end of 2200 are possible, and nothing else', () => {
  assert.is(new Date(timeMaxMs).toISOString(), '2200-12-31T23:59:59.999Z')
  for (const possible of [0, 1, hlcMax]) assert.ok(isPossible(possible))
  for (const impossible of [-1, 0.5, NaN, Infinity, hlcMax + 1, 2 ** 53]) assert.not.ok(isPossible(impossible))
  assert.ok(Number.isSafeInteger(hlcMax))
  assert.not.ok(isPossible(tick(hlcMax, startMs)))
})

test('a clock does not follow what would leave too little for its own counting', () => {
  assert.is(new Date(toMs(hlcFollowedMax)).toISOString(), '2150-12-31T23:59:59.999Z')
  assert.is(observe(5, hlcFollowedMax), hlcFollowedMax)
  for (const far of [hlcFollowedMax + 1, hlcMax]) assert.is(observe(5, far), 5)
})

test.run()
