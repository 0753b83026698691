/**
 * FORMAT.md and the code say the same: the example database, byte for byte.
 */
import { readFile } from 'node:fs/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { exampleDump } from '../support/examples.ts'

test('the example database of FORMAT.md is what the code writes', async () => {
  const text = await readFile(new URL('../../lib/storage/FORMAT.md', import.meta.url), 'utf8')
  const block = /```hex\n([^`]+)```/.exec(text)![1]!
  const documented = block.trim().split('\n').map((line) => {
    const [key, ...value] = line.split(' ')
    return { key, value: value.join('') }
  })
  assert.equal(await exampleDump(), documented)
})

test.run()
