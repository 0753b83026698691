/**
 * Two thousand histories in which LevelDB loses batches.
 */
import { test } from 'uvu'
import { seed } from '../support/seed.ts'
import { histories } from './holes.ts'

for (let part = 0; part < 20; part++) {
  test(`part ${part}: whatever LevelDB loses, all end equal`, async () => { await histories(seed + part * 100, 100) })
}

test.run()
