import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { DotSet } from '../../lib/core/dot-set.ts'
import { numberedLog } from '../support/log-ids.ts'
import { runs } from '../support/seed.ts'

const log = fc.nat({ max: 1 })
const sequence = fc.integer({ min: 1, max: 12 })

test('it holds the writes that were added, in whatever order, and no others', () => {
  fc.assert(fc.property(fc.array(fc.tuple(log, sequence)), (dots) => {
    const set = new DotSet()
    assert.ok(set.empty)
    for (const [log, sequence] of dots) set.add(numberedLog(log), sequence)
    assert.is(set.empty, dots.length === 0)
    for (let number = 0; number <= 2; number++) {
      for (let sequence = 0; sequence <= 14; sequence++) assert.is(set.covers(numberedLog(number), sequence), dots.some((dot) => dot[0] === number && dot[1] === sequence))
    }
    for (let upTo = 0; upTo <= 13; upTo++) assert.is(set.isWithin({ covers: (_log, sequence) => sequence <= upTo }), dots.every(([, sequence]) => sequence <= upTo))
    set.clear()
    assert.ok(set.empty)
  }), runs(500))
})

test.run()
