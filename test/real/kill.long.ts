/**
 * kill -9, 200 times.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { killAll } from '../support/replica-process.ts'
import { seed } from '../support/seed.ts'
import { killAtRandom } from './kill.ts'

test('200 kills at random moments among three replicas that write: nothing acknowledged is lost, nothing torn, all end equal', async () => {
  const { acknowledged } = await killAtRandom(200, seed)
  console.log(`${acknowledged} acknowledged writes`)
  assert.ok(acknowledged > 200)
})

test.after(killAll)
test.run()
