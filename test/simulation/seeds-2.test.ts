/** A quarter of the seeds that run always; `npm run test:long` runs fourteen times as many. */
import { test } from 'uvu'
import { passes } from './seeds.ts'

test('seeds 351 to 700 keep every promise', async () => { await passes({ from: 351, seeds: 350, workers: 1 }) })

test.run()
