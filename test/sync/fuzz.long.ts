/**
 * A million hostile frames, in conversations from a seed. A sample of it is test/sync/fuzz.test.ts; over sockets there
 * is test/replication/hostile.test.ts.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fuzzSessions } from '../support/fuzzed-sessions.ts'
import { bytesHeld } from '../support/memory-use.ts'
import { seed } from '../support/seed.ts'

test('1,000,000 hostile frames within 5 minutes: no crash, no frame over 50 ms, and no more than 64 MiB stay behind', async () => {
  const startMs = performance.now()
  const before = await bytesHeld()
  const codes = fuzzSessions(seed, 1_000_000, 50)
  console.log([...codes].map(([code, times]) => `${code ?? 'went on'}: ${times}`).join(', '))
  assert.ok((await bytesHeld()) - before < 64 * 1024 * 1024)
  assert.ok(performance.now() - startMs < 300_000)
})

test.run()
