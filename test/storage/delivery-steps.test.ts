/**
 * What becomes of a delivery, step by step, whatever it is delivered to; and which chunks are refused.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { writeEntry } from '../../lib/codec/entry.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { compareSiblings } from '../../lib/core/siblings.ts'
import { VersionVector, type Advance } from '../../lib/core/version-vector.ts'
import { chunkBytes, innerBatchBytesMax } from '../../lib/limits.ts'
import { Delivery, type DeliveryTarget } from '../../lib/storage/delivery.ts'
import { rejection } from '../support/rejection.ts'

const log = newLogId(Buffer.alloc(8))
const other = newLogId(Buffer.alloc(8, 1))
const at = (sequence: number): Advance[] => [{ log, sequence, hlc: sequence }, { log: other, sequence, hlc: sequence }]
const delivered = { kind: 'catch-up', vector: at(9), collected: [] } as const

interface Version { type?: 'put' | 'del', sequence?: number, value?: string | undefined }

/** A chunk of these keys, each with one version, or with several. */
function chunkOf (...entries: Array<[key: string, ...versions: Version[]]>): Buffer {
  const writer = new ByteWriter()
  for (const [key, ...versions] of entries) {
    const set = (versions.length === 0 ? [{}] : versions).map((version: Version, index) => {
      const { type = 'put', sequence = 1 } = version
      const value = type === 'del' || ('value' in version && version.value === undefined) ? undefined : Buffer.from(version.value ?? 'value')
      return { sibling: { log: index === 0 ? log : other, sequence, hlc: sequence, type }, value }
    }).sort((a, b) => compareSiblings(a.sibling, b.sibling))
    writeEntry(writer, { key: Buffer.from(key), siblings: set.map(({ sibling }) => sibling), values: set.map(({ value }) => value) })
  }
  return writer.take()
}

/** A target that says what it is asked, and what it answers. */
function newTarget (answers: Partial<Record<'holdsStage' | 'mayDelete' | 'collectsMuch' | 'stageFails' | 'applyFails', boolean>> = {}): { target: DeliveryTarget, calls: string[] } {
  const calls: string[] = []
  const target: DeliveryTarget = {
    vector: new VersionVector(at(3)),
    get holdsStage () { return answers.holdsStage === true },
    beginStage: async () => { calls.push('begin') },
    stage: async ({ first, last }) => {
      calls.push(`stage ${first.toString()}-${last.toString()}`)
      if (answers.stageFails === true) throw new Error('no space left')
    },
    applyStage: async () => {
      calls.push('apply stage')
      if (answers.applyFails === true) throw new Error('no space left')
    },
    applyAtOnce: async (_delivered, chunks) => {
      calls.push(`apply ${chunks.length} at once`)
      if (answers.applyFails === true) throw new Error('no space left')
    },
    dropStage: async () => { calls.push('drop') },
    mayDelete: () => answers.mayDelete === true,
    collectsMuch: async () => answers.collectsMuch === true
  }
  return { target, calls }
}

const big = 'x'.repeat(innerBatchBytesMax / 2)

test('what fits one inner batch is applied at once; more goes to the stage as soon as that shows, each chunk once', async () => {
  const { target, calls } = newTarget()
  const small = new Delivery(target, delivered, 1)
  await small.add(chunkOf(['a'], ['b']))
  await small.add(chunkOf(['c']))
  assert.equal(small.progress, { received: 3, total: 3 })
  assert.not(small.over)
  await small.end(3)
  assert.ok(small.over)
  assert.equal(calls.splice(0), ['apply 2 at once'])

  const large = new Delivery(target, delivered, 9)
  await large.add(chunkOf(['a', { value: big }]))
  assert.equal(calls.splice(0), [])
  await large.add(chunkOf(['b'], ['c', { value: big }]))
  assert.equal(calls.splice(0), ['begin', 'stage a-a', 'stage b-c'])
  await large.add(chunkOf(['d']))
  assert.equal(large.progress, { received: 4, total: 9 })
  await large.end(4)
  assert.equal(calls.splice(0), ['stage d-d', 'apply stage'])
  await large.abandon()
  assert.equal(calls, [])

  const cut = new Delivery(target, delivered, 9)
  for (const key of ['a', 'b']) await cut.add(chunkOf([key, { value: big }]))
  calls.length = 0
  await cut.abandon()
  assert.equal(calls, [], 'it is there')
})

for (const reason of ['mayDelete', 'collectsMuch'] as const) {
  test(`a delivery that fits one inner batch goes by the stage all the same if it needs more than that: ${reason}`, async () => {
    const { target, calls } = newTarget({ [reason]: true })
    const delivery = new Delivery(target, delivered, 1)
    await delivery.add(chunkOf(['a']))
    await delivery.end(1)
    assert.equal(calls, ['begin', 'stage a-a', 'apply stage'])
  })
}

test('what has come of a delivery that is given up waits in the stage, if something has, and nothing else waits there', async () => {
  const { target, calls } = newTarget()
  const some = new Delivery(target, delivered, 1)
  await some.add(chunkOf(['a']))
  await some.abandon()
  assert.ok(some.over)
  const none = new Delivery(target, delivered, 1)
  await none.abandon()
  assert.ok(none.over)
  assert.equal(calls, ['begin', 'stage a-a'])
  const full = newTarget({ holdsStage: true })
  const beside = new Delivery(full.target, delivered, 1)
  await beside.add(chunkOf(['a']))
  await beside.abandon()
  assert.equal(full.calls, [])
})

test('of a delivery with which something was wrong nothing waits', async () => {
  const { target, calls } = newTarget()
  const small = new Delivery(target, delivered, 1)
  await small.add(chunkOf(['a']))
  assert.is((await rejection(small.end(2))).code, 'REPLICATION_PROTOCOL')
  await small.abandon()
  assert.equal(calls.splice(0), [])
  const resumed = new Delivery(target, delivered, 1, Buffer.from('a'))
  await resumed.add(chunkOf(['b']))
  await rejection(resumed.add(chunkOf(['b'])))
  await resumed.abandon()
  assert.equal(calls, ['stage b-b', 'drop'])
  const failing = newTarget({ stageFails: true })
  const kept = new Delivery(failing.target, delivered, 1)
  await kept.add(chunkOf(['a']))
  await kept.abandon()
  assert.equal(failing.calls, ['begin', 'stage a-a', 'drop'])
})

test('a delivery that is being applied is not given up, also if that fails', async () => {
  for (const position of [undefined, Buffer.from('a')]) {
    const { target, calls } = newTarget({ applyFails: true })
    const delivery = new Delivery(target, delivered, 1, position)
    await delivery.add(chunkOf(['b']))
    await rejection(delivery.end(1))
    calls.length = 0
    await delivery.abandon()
    assert.ok(delivery.over)
    assert.equal(calls, [])
  }
})

test('a delivery that goes on comes before the key at which the one before ended, or behind it, and not across', async () => {
  const add = async (...keys: string[]): Promise<string | undefined> => {
    const { target } = newTarget()
    return await new Delivery(target, delivered, 1, Buffer.from('m')).add(chunkOf(...keys.map((key): [string] => [key]))).then(() => undefined, ({ message }: Error) => message)
  }
  for (const keys of [['a', 'm'], ['m'], ['n'], ['n', 'z'], ['a', 'b']]) assert.is(await add(...keys), undefined, keys.join())
  for (const keys of [['a', 'n'], ['m', 'n'], ['l', 'm', 'n']]) assert.match(await add(...keys) ?? '', 'across the key', keys.join())
})

test('chunks are refused that are out of order, empty, or go on when they are full', async () => {
  const add = async (...chunks: Buffer[]): Promise<void> => {
    const delivery = new Delivery(newTarget().target, delivered, 1)
    for (const chunk of chunks) await delivery.add(chunk)
  }
  const filler: [string] = ['zz']
  await add(chunkOf(['', { value: '' }], ['a'], filler))
  for (const chunks of [[chunkOf(['a'], ['a'], filler)], [chunkOf(['b'], ['a'], filler)], [chunkOf(['a']), chunkOf(['a'], filler)], [chunkOf(['a'], ['b']), chunkOf(['b'], filler)], [chunkOf(['']), chunkOf([''], filler)]]) {
    assert.match((await rejection(add(...chunks))).message, 'not after the one before')
  }
  assert.match((await rejection(add(Buffer.alloc(0)))).message, 'without entries')
  const empty = chunkOf(['a', { value: '' }]).length + 2 // of a value so long its length takes two bytes more
  for (const length of [chunkBytes - 1, chunkBytes, chunkBytes + 1]) {
    const first = chunkOf(['a', { value: 'x'.repeat(length - empty) }])
    assert.is(first.length, length)
    const adding = add(Buffer.concat([first, chunkOf(['b'])]))
    if (length < chunkBytes) await adding
    else assert.match((await rejection(adding)).message, 'full')
  }
})

test('what could not be merged is refused as it comes, be it one version or one of several, and what could is not', async () => {
  const filler: [string] = ['zz'.repeat(50)]
  const add = async (...versions: Version[]): Promise<string | undefined> => await new Delivery(newTarget().target, delivered, 1).add(chunkOf(['k', ...versions], filler)).then(() => undefined, ({ message }: Error) => message)
  for (const beside of [[], [{ sequence: 9 }]] as Version[][]) {
    assert.is(await add({ sequence: 9 }, ...beside), undefined)
    assert.is(await add({ sequence: 9, type: 'del' }, ...beside), undefined)
    assert.is(await add({ sequence: 3, value: undefined }, ...beside), undefined, 'it is known here')
    assert.match(await add({ sequence: 10 }, ...beside) ?? '', 'does not know')
    assert.match(await add({ sequence: 10, type: 'del' }, ...beside) ?? '', 'does not know')
    assert.match(await add({ sequence: 4, value: undefined }, ...beside) ?? '', 'without the value')
  }
})

test.run()
