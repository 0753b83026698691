/**
 * A long catch-up ends although no link lives as long as it would take.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { firstSyncOverCutLinks } from './cuts.ts'

test('a newcomer whose links are cut every second or two gets everything all the same', async () => {
  for (const seed of [1, 2, 3]) {
    const { cuts, copies } = await firstSyncOverCutLinks(seed)
    console.log(`seed ${seed}: whole after ${cuts} cuts, ${copies.toFixed(2)} copies of each value`)
    assert.ok(copies < 1.5, 'what had come was kept')
    assert.ok(cuts > 3, `only ${cuts} cuts: a link lived long enough`)
  }
})

test.run()
