/**
 * A sample of damaged write-ahead logs; the long run has 500.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { seed } from '../support/seed.ts'
import { damageCopies } from './write-ahead-log.ts'

test('48 damaged write-ahead logs: each is harmless or noticed, and after meeting a peer all is equal', async () => {
  const outcome = await damageCopies(48, seed)
  assert.ok(outcome.holes > 0 && outcome.lostTails > 0, JSON.stringify(outcome))
})

test.run()
