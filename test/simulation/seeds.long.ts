/** Twenty thousand seeds, none of which runs always. */
import { test } from 'uvu'
import { passes } from './seeds.ts'

test('seeds 100,001 to 120,000 keep every promise', async () => { await passes({ from: 100_001, seeds: 20_000 }) })

test.run()
