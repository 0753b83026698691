/**
 * What nobody asked for, and fails all the same.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { runningTimeSaveMs } from '../../lib/limits.ts'
import { openReplica } from '../support/store.ts'

test('a disk that takes no writes is told of as such, whatever became of the write', async () => {
  const replica = await openReplica({ reopen: async (look) => { await look() } })
  replica.memory.failNext()
  await replica.system.advance(runningTimeSaveMs)
  assert.equal(replica.errors.map(({ code }) => code), ['LEVEL_IO_ERROR'])
  await replica.system.advance(runningTimeSaveMs)
  assert.is(replica.errors.length, 1)
})

test.run()
