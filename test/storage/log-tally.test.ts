import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LogTally } from '../../lib/storage/log-tally.ts'

const test = suite('log tally')

test('deletes that are written while a sweep is under way count on, though as many from before it are collected meanwhile', () => {
  const tally = new LogTally(undefined, 0)
  tally.wrote(150, 100)
  tally.begin()
  tally.wrote(60, 50)
  tally.collected(100)
  assert.is(tally.tombstonesMax, 50)
  tally.swept({ all: 50, deletes: 0 })
  assert.is(tally.tombstonesMax, 50)
  assert.is(tally.liveMax, 110)
})

test('what was collected before a sweep is no part of what it counts out', () => {
  const tally = new LogTally(undefined, 0)
  tally.wrote(10, 10)
  tally.collected(4)
  tally.begin()
  tally.swept({ all: 6, deletes: 6 })
  assert.equal([tally.live, tally.written, tally.forgotten], [{ all: 6, deletes: 6 }, { all: 0, deletes: 0 }, 0])
})

test.run()
