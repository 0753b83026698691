/**
 * The keys of a group.
 */
import { readFile } from 'node:fs/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { deriveGroupKeys } from '../../lib/network/secret.ts'

test('a secret and a group give the keys that PROTOCOL.md says', async () => {
  const text = await readFile(new URL('../../lib/sync/PROTOCOL.md', import.meta.url), 'utf8')
  const documented = /```keys\n([^`]+)```/.exec(text)![1]!.replace(/\s/g, '')
  const { connection, announcement } = await deriveGroupKeys('correct horse battery staple', 'shop')
  assert.is(connection.toString('hex') + announcement.toString('hex'), documented)
})

test('another secret, and another group, give other keys; another way to write the same letters does not', async () => {
  const keys = async (secret: string, group: string): Promise<string> => (await deriveGroupKeys(secret, group)).connection.toString('hex')
  const [first, otherSecret, otherGroup, composed, decomposed] = await Promise.all([
    keys('0123456789abcdef', 'shop'), keys('0123456789abcdeg', 'shop'), keys('0123456789abcdef', 'shops'),
    keys('gr\u00fc\u00dfe und k\u00fcsse', 'shop'), keys('gru\u0308\u00dfe und ku\u0308sse', 'shop')
  ])
  assert.is(new Set([first, otherSecret, otherGroup]).size, 3)
  assert.is(composed, decomposed)
})

test.run()
