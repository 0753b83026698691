/**
 * Samples of `holes.long.ts`, and histories that once ended unequal.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { seed } from '../support/seed.ts'
import { histories } from './holes.ts'
import { losses } from './losses.ts'
import { lossesOfTwo } from './two.ts'

const count = 60
const lossHistories = 30
const regressions = {
  'a batch with the values of siblings is lost, and a later one that relies on them is not': 2044,
  'the end of a repair is lost after others have been told of it': 88
}

test('whatever LevelDB loses, what another replica has comes back, what survived stays, and all end equal', async () => {
  const { holes, rewritten } = await histories(seed, count)
  assert.ok(holes > count && rewritten > count / 4, `${holes} holes, ${rewritten} ended by force`)
})

for (const [name, number] of Object.entries(regressions)) test(`also if ${name}`, async () => { await histories(number, 1) })

test('whichever batch LevelDB loses of those that merged, forgot, swept, left a log or folded again, what is left is one state', async () => {
  assert.ok(await losses(seed, lossHistories) > 5 * lossHistories)
})

test('whichever batch LevelDB loses where a state transfer has deleted, what is left is one state', async () => {
  assert.ok(await lossesOfTwo(seed, 30) > 60)
})

test('also if two deletes of a key are forgotten one after the other, and the first of the two batches is lost', async () => { await losses(986947767, 1) })

test('also if a conflict is lost and forgotten, whose values stay behind', async () => { await lossesOfTwo(600020796, 1) })

test.run()
