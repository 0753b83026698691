/**
 * Whether the simulation can fail. `npm run simulate -- --planted` plants every fault; here a few of those that are
 * found soon.
 */
import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { faults } from './faults.ts'
import { findFault } from './planted.ts'

test('every fault can be planted', () => {
  for (const { name, patches } of faults) {
    for (const { file, find, replace } of patches) {
      const source = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
      assert.is(source.split(find).length, 2, `${name}: ${file} holds it not exactly once: ${find}`)
      assert.is.not(find, replace)
    }
  }
})

for (const name of ['half a sibling set is sent', 'a tombstone is collected by its age alone', 'what was collected sinks when a member returns', 'the log is never swept']) {
  test(`it is found that ${name}`, async () => {
    const { seed } = await findFault(faults.find((fault) => fault.name === name)!, { from: 1, seeds: 50 })
    assert.type(seed, 'number')
  })
}

test.run()
