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

test('however much is collected while a sweep is under way, nothing is counted out that was not counted', () => {
  const tally = new LogTally(undefined, 0)
  tally.wrote(10, 4)
  tally.begin()
  tally.wrote(3, 2)
  tally.collected(5)
  assert.equal(tally.written, { all: 8, deletes: 1 })
  tally.swept({ all: 6, deletes: 0 })
  assert.equal([tally.written, tally.forgotten], [{ all: 2, deletes: 1 }, 5])
  tally.collected(100)
  assert.equal([tally.live, tally.written], [{ all: 6, deletes: 0 }, { all: 1, deletes: 0 }])
})

test('what is collected is counted out once: of what was found live first', () => {
  const tally = new LogTally(undefined, 0)
  tally.wrote(10, 5)
  tally.begin()
  tally.swept({ all: 10, deletes: 5 })
  tally.wrote(5, 5)
  tally.collected(7)
  assert.equal([tally.live, tally.written, tally.forgotten], [{ all: 5, deletes: 0 }, { all: 3, deletes: 3 }, 7])
})

test('a tally is stored and read again, and what may have been written since counts on', () => {
  const tally = new LogTally(undefined, 0)
  assert.ok(tally.sample !== undefined, 'it is empty, and so is the log')
  tally.wrote(10, 5)
  tally.begin()
  tally.swept({ all: 9, deletes: 4 })
  tally.wrote(3, 2)
  tally.collected(5)
  const again = new LogTally(tally.encode(), 7)
  assert.equal([again.live, again.written, again.forgotten], [{ all: 5, deletes: 0 }, { all: 9, deletes: 8 }, 5])
  assert.is(again.sample, undefined, 'nobody has seen what is there')
  const none = new LogTally(new LogTally(undefined, 0).encode(), 1)
  assert.is(none.sample, undefined)
})

test.run()
