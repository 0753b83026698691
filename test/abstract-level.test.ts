/**
 * A replica is a Level database: abstract-level's own suite says so.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel } from '../lib/index.ts'
import type { ReplicatedLevelOptions } from '../lib/options.ts'
import { assertionsMin, runAbstractSuite } from './support/abstract-suite.ts'
import { newDirectory } from './support/directory.ts'

/** Options that are ours are inherited, since the suite expects what it gave, and no more, to reach its hooks. */
function withOptions (ours: ReplicatedLevelOptions, options: object = {}): object {
  return Object.assign(Object.create(ours), options)
}

test('a replica that listens to nobody passes the whole suite of abstract-level', async () => {
  const { passed, failures } = await runAbstractSuite((options) => new ReplicatedLevel(newDirectory(), withOptions({ port: false }, options)))
  console.log(`${passed} assertions passed`)
  assert.equal(failures, [])
  assert.ok(passed >= assertionsMin, `${passed} assertions, at least ${assertionsMin} are expected`)
})

test.run()
