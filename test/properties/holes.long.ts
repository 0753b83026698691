/**
 * Two thousand histories in which LevelDB loses batches, and two thousand of which it could lose each.
 */
import { test } from 'uvu'
import { seed } from '../support/seed.ts'
import { histories } from './holes.ts'
import { losses } from './losses.ts'
import { lossesOfTwo } from './two.ts'

for (let part = 0; part < 20; part++) {
  test(`part ${part}: whatever LevelDB loses, all end equal`, async () => { await histories(seed + part * 100, 100) })
}

for (let part = 0; part < 20; part++) {
  test(`part ${part}: whichever batch LevelDB loses, what is left is one state`, async () => { await losses(seed + part * 50, 50) })
}

for (let part = 0; part < 20; part++) {
  test(`part ${part}: whichever batch LevelDB loses where a state transfer has deleted, what is left is one state`, async () => { await lossesOfTwo(seed + part * 50, 50) })
}

test.run()
