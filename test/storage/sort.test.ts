/**
 * Sorting in slices.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { sortInSlices } from '../../lib/storage/sort.ts'
import { randomNumbers } from '../support/random.ts'
import { seed } from '../support/seed.ts'

test('what is sorted in slices is as if it were sorted at once, of any length, with pauses if it is much', async () => {
  const random = randomNumbers(seed)
  for (const length of [0, 1, 2, 4095, 4096, 4097, 20_000, 50_001]) {
    const texts = Array.from({ length }, () => String.fromCharCode(...Array.from({ length: 3 }, () => Math.floor(random() * 256))))
    let pauses = 0
    const sorted = await sortInSlices([...texts], async () => { pauses++ })
    assert.equal(sorted, texts.sort())
    assert.ok(length <= 4096 ? pauses === 0 : pauses >= length / 4096, `${pauses} pauses for ${length}`)
  }
})

test.run()
