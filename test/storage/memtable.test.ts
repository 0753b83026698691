/**
 * What is found of the transactions of a batch that the engine may not have yet: the last operation on each key, and which
 * write that is.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Memtable } from '../../lib/storage/memtable.ts'
import { numberedLog } from '../support/log-ids.ts'

const [log, other] = [numberedLog(1), numberedLog(2)]

function dots ({ acknowledged }: Memtable): Record<string, unknown> {
  return Object.fromEntries([...acknowledged].map(([key, { type, log, sequence, hlc }]) => [key, [type, log, sequence, hlc]]))
}

test('each operation is one write of its transaction, in their order, and of a key the last one is found', () => {
  const memtable = new Memtable()
  memtable.begin({ log, sequence: 5, hlc: 100 })
  memtable.add({ type: 'put', key: 'a', value: '1' })
  memtable.add({ type: 'put', key: 'b', value: '1' })
  memtable.add({ type: 'put', key: 'c', value: '1' })
  memtable.begin({ log, sequence: 9, hlc: 200 })
  memtable.add({ type: 'del', key: Buffer.from('b') })
  memtable.add({ type: 'put', key: 'd', value: '2' })
  memtable.acknowledge()
  assert.equal(dots(memtable), { a: ['put', log, 5, 100], b: ['del', log, 9, 200], c: ['put', log, 7, 100], d: ['put', log, 10, 200] })
  memtable.begin({ log: other, sequence: 3, hlc: 400 })
  memtable.add({ type: 'put', key: 'a', value: '3' })
  memtable.acknowledge()
  assert.equal(dots(memtable).a, ['put', other, 3, 400])
  assert.is(memtable.acknowledged.get('a')?.value, '3')
})

test('readers find what counts, the writer all; what never will count nobody', () => {
  const memtable = new Memtable()
  memtable.begin({ log, sequence: 1, hlc: 100 })
  memtable.add({ type: 'put', key: 'a', value: '1' })
  memtable.acknowledge()
  memtable.add({ type: 'del', key: 'a' })
  memtable.add({ type: 'put', key: 'b', value: '1' })
  assert.equal([memtable.latest('a'), memtable.latest('b'), memtable.latest('c')], ['del', 'put', undefined])
  assert.equal(dots(memtable), { a: ['put', log, 1, 100] })
  memtable.discard()
  assert.equal([memtable.latest('a'), memtable.latest('b')], ['put', undefined])
  memtable.acknowledge()
  assert.equal(dots(memtable), { a: ['put', log, 1, 100] })
})

test.run()
