/**
 * In a mesh everybody could send everything to everybody; that each value comes about once is what suppression is for.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { measureRedundancy } from './mesh.ts'

const seeds = [1, 2, 3]

test('five replicas in a full mesh receive each value about once, under load and when one comes back', async () => {
  let sum = 0
  for (const seed of seeds) {
    const { underLoad, rejoining } = await measureRedundancy(seed)
    console.log(`seed ${seed}: ${underLoad.toFixed(3)} copies under load, ${rejoining.toFixed(3)} over a rejoining`)
    assert.ok(underLoad <= 1.1, `${underLoad} copies under load`)
    assert.ok(underLoad > 0.9 && rejoining > 0.9, 'everything was received')
    sum += rejoining
  }
  // Whom the one that comes back asks first, and who has greeted it by then, is chance: from 1.0 to 1.7 copies, 1.25 on average.
  assert.ok(sum / seeds.length <= 1.4, `${sum / seeds.length} copies over a rejoining`)
})

test.run()
