/** A quarter of the seeds that run always; `npm run test:long` runs fourteen times as many. */
import { test } from 'uvu'
import { passes } from './seeds.ts'

test('seeds 1051 to 1400 keep every promise', async () => { await passes({ from: 1051, seeds: 350, workers: 1 }) })

test.run()
