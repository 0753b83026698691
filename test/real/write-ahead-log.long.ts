/**
 * 500 damaged write-ahead logs, of ten histories.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { seed } from '../support/seed.ts'
import { damageCopies } from './write-ahead-log.ts'

for (let history = 0; history < 10; history++) {
  test(`history ${history}: each is harmless or noticed, and after meeting a peer all is equal`, async () => {
    const outcome = await damageCopies(50, seed + history)
    console.log(JSON.stringify(outcome))
    assert.ok(outcome.holes > 0)
  })
}

test.run()
