/**
 * In a mesh everybody could send everything to everybody; that each value comes about once is what suppression is for.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { measureRedundancy } from './mesh.ts'

test('five replicas in a full mesh receive each value about once, under load and when one comes back', async () => {
  for (const seed of [1, 3]) {
    const { underLoad, rejoining } = await measureRedundancy(seed)
    console.log(`seed ${seed}: ${underLoad.toFixed(3)} copies under load, ${rejoining.toFixed(3)} over a rejoining`)
    assert.ok(underLoad <= 1.1, `${underLoad} copies under load`)
    assert.ok(rejoining <= 1.3, `${rejoining} copies over a rejoining`)
    assert.ok(underLoad > 0.9 && rejoining > 0.9, 'everything was received')
  }
})

test.run()
