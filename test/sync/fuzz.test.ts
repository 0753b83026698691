/**
 * A sample of test/sync/fuzz.long.ts.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fuzzSessions } from '../support/fuzzed-sessions.ts'
import { bytesHeld } from '../support/memory-use.ts'
import { seed } from '../support/seed.ts'

test('50,000 hostile frames, before and after the greeting: each ends in a code or in nothing, and holds nobody up', async () => {
  fuzzSessions(seed, 5000, 50)
  const before = await bytesHeld()
  const codes = fuzzSessions(seed + 1_000_000, 50_000, 50)
  assert.ok(codes.get('REPLICATION_PROTOCOL')! > 1000, 'they are bad enough')
  assert.ok((await bytesHeld()) - before < 16 * 1024 * 1024)
})

test.run()
