/** A quarter of the seeds that run always; `npm run test:long` runs ten times as many. */
import { test } from 'uvu'
import { passes } from './seeds.ts'

test('seeds 1001 to 1500 keep every promise', async () => { await passes({ from: 1001, seeds: 500, workers: 1 }) })

test.run()
