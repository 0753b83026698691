import { randomBytes } from 'node:crypto'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { GroupToken, groupKey } from '../../lib/network/group-token.ts'

const member = (group: string, secret?: string): GroupToken => new GroupToken(groupKey(group, secret === undefined ? undefined : Buffer.from(secret)), (size) => randomBytes(size))

test('members know each other, by group and secret, and nobody else', () => {
  const token = member('shop', 'one').make(9000)
  assert.ok(member('shop', 'one').matches(token, 9000))
  for (const stranger of [member('shop', 'two'), member('shop'), member('sho', 'pone'), member('home', 'one')]) assert.not(stranger.matches(token, 9000))
})

test('a token overheard is good for no other port', () => {
  const token = member('shop').make(9000)
  assert.not(member('shop').matches(token, 9001))
  assert.not(member('shop').matches({ ...member('shop').make(9000), salt: token.salt }, 9000))
})

test('two tokens of one group have nothing in common, and nothing of the group', () => {
  const tokens = Array.from({ length: 1000 }, () => member('shop', 'secret').make(9000))
  assert.is(new Set(tokens.flatMap(({ salt, digest }) => [salt, digest])).size, 2000)
  assert.not.match(JSON.stringify(tokens[0]), /shop|secret/)
})

test('whatever is given as a token, there is an answer', () => {
  for (const bad of [{}, { salt: '' }, { salt: 'a'.repeat(22) }, { salt: 'ä'.repeat(22), digest: 'a'.repeat(22) }, { salt: 'a'.repeat(22), digest: 'a'.repeat(23) }]) {
    assert.not(member('shop').matches(bad, 9000))
  }
})

test.run()
