import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { decodeEntries, writeEntry } from '../../lib/codec/entry.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { chunkBytes } from '../../lib/limits.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import { chunkKey, decodeStageRecord, encodeStageRecord, replacementKey, StageReader, type StageRecord } from '../../lib/storage/stage.ts'
import { newMemory } from '../support/store.ts'

const log = newLogId(Buffer.alloc(8))
const at = (sequence: number): StageRecord['collected'] => [{ log, sequence, hlc: sequence }]

function entriesOf (keys: readonly string[], value: string): Buffer {
  const writer = new ByteWriter()
  for (const key of keys) writeEntry(writer, { key: Buffer.from(key), siblings: [{ log, sequence: 1, hlc: 1, type: 'put' }], values: [Buffer.from(value)] })
  return writer.take()
}

/** A stage of chunks with these keys, and of what replaces entries of theirs, or comes between them. */
async function stageOf (chunks: readonly string[][], replacements: readonly string[], old = 'old', changed = 'new'): Promise<Engine> {
  const engine = newMemory()
  await engine.open()
  for (const keys of chunks) await engine.put(chunkKey(Buffer.from(keys[0]!)), entriesOf(keys, old))
  for (const key of replacements) await engine.put(replacementKey(Buffer.from(key)), entriesOf([key], changed))
  return engine as unknown as Engine
}

interface Read { readonly keys: string[], readonly values: string[], readonly end: string | undefined, readonly bytes: number }

async function readAll (engine: Engine, cursor?: string): Promise<Read[]> {
  const reader = await StageReader.open(engine, cursor === undefined ? undefined : Buffer.from(cursor))
  const all: Read[] = []
  for (let chunk = await reader.next(); chunk !== undefined; chunk = await reader.next()) {
    const { scan, end } = chunk
    assert.ok(scan.key.length > 0, 'it stands at an entry')
    const bytes = scan.bytes.subarray(scan.start)
    const entries = [...decodeEntries(bytes)]
    all.push({ keys: entries.map(({ key }) => key.toString()), values: entries.map(({ values }) => Buffer.from(values[0]!).toString()), end: end?.toString(), bytes: bytes.length })
  }
  assert.is(await reader.next(), undefined)
  await reader.close()
  return all
}

const chunks = [['b', 'd', 'f'], ['h', 'j', 'l'], ['n', 'p', 'r'], ['t']]
const cases: Record<string, string[]> = {
  nothing: [],
  'the first entries of chunks': ['b', 'h', 'n', 't'],
  'the last entries of chunks': ['f', 'l', 'r'],
  'entries in the middle': ['d', 'p'],
  'what comes before, between and behind': ['a', 'c', 'g', 'm', 's', 'u'],
  'a part only': ['h'],
  'the one before a chunk': ['g'],
  'what is behind all': ['x', 'y'],
  'everything, and more': [...'abcdefghijklmnopqrstuv']
}

for (const [what, replacements] of Object.entries(cases)) {
  test(`a stage is read in key order from behind any key, where ${what} came later`, async () => {
    const engine = await stageOf(chunks, replacements)
    const keys = [...new Set([...chunks.flat(), ...replacements])].sort()
    for (const cursor of [undefined, '', 'a', ...keys, 'zz']) {
      const all = await readAll(engine, cursor)
      const left = keys.filter((key) => cursor === undefined || key > cursor)
      assert.equal(all.flatMap(({ keys }) => keys), left, `from ${cursor}`)
      assert.equal(all.flatMap(({ values }) => values), left.map((key) => replacements.includes(key) ? 'new' : 'old'), `from ${cursor}`)
      assert.equal(all.map(({ end }) => end), all.map((_, index) => all[index + 1]?.keys[0]), `from ${cursor}`)
    }
  })
}

test('chunks in which nothing is replaced are read as they are, and what is put together is about as long as one', async () => {
  const value = 'x'.repeat(chunkBytes / 4)
  const long = [...'bcdefghi'].map((key) => [key + 1, key + 2, key + 3])
  const all = await readAll(await stageOf(long, ['e1', 'e2', 'e21', 'e22', 'e23', 'e24', 'e25', 'e26', 'e27'], value, value))
  assert.equal(all.slice(0, 3).map(({ keys }) => keys), long.slice(0, 3))
  assert.equal(all.slice(-2).map(({ keys }) => keys), long.slice(-2))
  assert.ok(all.length >= long.length)
  for (const { bytes } of all) assert.ok(bytes < chunkBytes * 3 / 2, String(bytes))
  for (const replacements of [['e1', 'e3'], ['f0', 'f00', 'f000', 'f0000', 'f00000'], ['d2', 'd21', 'd22', 'd23', 'd24', 'e1'], ['i3', 'i4', 'i5', 'i6', 'i7', 'i8', 'i9']]) {
    const parts = await readAll(await stageOf(long, replacements, value, value))
    assert.equal(parts.map(({ end }) => end), parts.map((_, index) => parts[index + 1]?.keys[0]), replacements.join())
  }
})

test('without chunks, and without anything, a stage ends where it ends', async () => {
  assert.equal((await readAll(await stageOf([], ['a', 'b']))).map(({ keys }) => keys), [['a', 'b']])
  assert.equal(await readAll(await stageOf([], [])), [])
  assert.equal(await readAll(await stageOf([['a', 'b']], []), 'b'), [])
})

test('an iterator that fails is noticed where it is read, and nowhere else, and all are closed', async () => {
  const engine = await stageOf([['a'], ['b']], [])
  let fails = false
  let open = 0
  const iterator = engine.iterator.bind(engine)
  engine.iterator = ((range: object) => {
    const made = iterator(range)
    const [next, close] = [made.next.bind(made), made.close.bind(made)]
    open++
    made.next = async () => {
      if (fails) throw new Error('no file descriptors left')
      return await next()
    }
    made.close = async () => {
      open--
      await close()
    }
    return made
  }) as never
  const reader = await StageReader.open(engine, undefined)
  fails = true
  const error = await reader.next().then(() => undefined, ({ message }: Error) => message)
  assert.is(error, 'no file descriptors left')
  await reader.close()
  const unread = await StageReader.open(engine, undefined)
  await new Promise((resolve) => { setImmediate(resolve) })
  await unread.close()
  assert.is(open, 0)
})

test('a record of a stage is read as it was written', () => {
  const parts = [{ upTo: Buffer.from('f'), vector: at(9) }, { upTo: Buffer.from('k'), vector: at(5) }]
  for (const kind of ['catch-up', 'transfer'] as const) {
    const records: StageRecord[] = [
      { phase: 'staging', kind, collected: at(3), parts, bytes: 1234567, runningSeconds: 77 },
      { phase: 'applying', kind, vector: at(9), collected: at(3), cursor: undefined },
      { phase: 'applying', kind, vector: at(9), collected: [], cursor: Buffer.from('k') },
      { phase: 'applying', kind, vector: [], collected: [], cursor: Buffer.alloc(0) }
    ]
    for (const record of records) {
      const bytes = encodeStageRecord(record)
      assert.equal(decodeStageRecord(bytes), record)
    }
  }
})

test.run()
