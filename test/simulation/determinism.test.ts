/**
 * A seed is worth something only if it repeats everything: two runs of one have the same trace, to the last record.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { runSeeds } from './workers.ts'

test('the same seed twice, in two processes, is the same history', async () => {
  const [first, second] = await Promise.all([runSeeds({ from: 1, seeds: 5, workers: 1 }), runSeeds({ from: 1, seeds: 5, workers: 1 })])
  assert.equal(second.reports.map(({ hash }) => hash), first.reports.map(({ hash }) => hash))
  assert.is(new Set(first.reports.map(({ hash }) => hash)).size, 5)
})

test('lib with a snippet that is not there is not loaded', async () => {
  const { failed, reports } = await runSeeds({ from: 1, seeds: 1, patches: [{ file: 'lib/limits.ts', find: 'no such text', replace: '' }] })
  assert.is(failed, 1)
  assert.match(reports[0]!.failure!, 'process ended')
})

test.run()
