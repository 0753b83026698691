import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newLogId } from '../../lib/core/ids.ts'
import { siblingKey } from '../../lib/storage/keyspaces.ts'
import { SiblingKeys } from '../../lib/storage/sibling-keys.ts'
import { newMemory } from '../support/store.ts'

const test = suite('sibling keys')

/** An engine that holds the values of two siblings of each of these keys, and counts what is read of them. */
async function engineWith (keys: string[]): Promise<{ engine: never, reads: () => number }> {
  const memory = newMemory()
  await memory.open()
  const log = newLogId(Buffer.alloc(8, 0xff))
  for (const key of keys) for (const sequence of [1, 2]) await memory.put(siblingKey(Buffer.from(key, 'latin1'), log, sequence), Buffer.alloc(1))
  let reads = 0
  const engine = {
    async * keys (range: object) {
      for await (const key of memory.keys(range)) {
        reads++
        yield key
      }
    }
  }
  return { engine: engine as never, reads: () => reads }
}

test('before they are loaded every key may have siblings; then those that are stored, and those that have come and not gone', async () => {
  const { engine } = await engineWith(['', 'a', '\xff\x00', 'b'])
  const keys = new SiblingKeys()
  keys.add('c')
  assert.equal([keys.complete, keys.none, keys.mayHold('z')], [false, false, true])
  await keys.load(engine)
  assert.equal([keys.complete, keys.none], [true, false])
  assert.equal(['', 'a', '\xff\x00', 'b', 'c', 'z'].map((key) => keys.mayHold(key)), [true, true, true, true, true, false])
  assert.equal([...keys.keys()].sort(), ['', 'a', 'b', 'c', '\xff\x00'])
  for (const key of ['', 'a', '\xff\x00', 'b', 'c']) {
    assert.not(keys.none)
    keys.delete(key)
    assert.not(keys.mayHold(key))
  }
  assert.ok(keys.none)
  keys.unload()
  assert.equal([keys.complete, keys.none, keys.mayHold('z')], [false, false, true])
})

test('of as many as are remembered each is known, and of more none: every key may be one then, and nothing takes memory', async () => {
  const { engine, reads } = await engineWith(['a', 'b', 'c', 'd'])
  const keys = new SiblingKeys(2)
  await keys.load((await engineWith(['a', 'b'])).engine)
  assert.equal([keys.complete, keys.mayHold('z')], [true, false])
  for (const key of ['c', 'd']) {
    keys.add(key)
    assert.equal([keys.complete, keys.none, keys.mayHold('z'), [...keys.keys()]], [false, false, true, []])
  }
  const others = new SiblingKeys(2)
  await others.load(engine)
  assert.equal([others.complete, others.none, others.mayHold('z')], [false, false, true])
  assert.is(reads(), 5, 'and no more are read')
})

test.run()
