/**
 * In which order an apply phase merges what is staged with what is held, and how much of that it reads.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { writeEntry } from '../../lib/codec/entry.ts'
import type { EntryScan } from '../../lib/codec/entry-scan.ts'
import { newLogId } from '../../lib/core/ids.ts'
import { applyBatchBytes } from '../../lib/limits.ts'
import { ApplyPhase } from '../../lib/storage/apply-phase.ts'
import { inKeyspace, keyspace } from '../../lib/storage/keyspaces.ts'
import { chunkKey } from '../../lib/storage/stage.ts'
import { storedSet } from '../../lib/storage/stored-sets.ts'
import { newMemory, type FaultyMemory } from '../support/store.ts'

const version = { log: newLogId(Buffer.alloc(8)), sequence: 1, hlc: 1, type: 'put' } as const

/** An engine in which these keys are staged, chunk by chunk, and those are held: some as a version record, some as a value with a stamp. */
async function engineWith (chunks: readonly string[][], recorded: readonly string[], stamped: readonly string[]): Promise<FaultyMemory> {
  const engine = newMemory()
  await engine.open()
  for (const keys of chunks) {
    const writer = new ByteWriter()
    for (const key of keys) writeEntry(writer, { key: Buffer.from(key), siblings: [version], values: [Buffer.from('value')] })
    await engine.put(chunkKey(Buffer.from(keys[0]!)), writer.take())
  }
  const record = new ByteWriter().byte(1).byte(0).stamp(version).take()
  for (const key of recorded) await engine.put(inKeyspace(keyspace.version, Buffer.from(key)), record)
  const value = Buffer.concat([Buffer.from('value'), new ByteWriter().stamp(version).take()])
  for (const key of stamped) await engine.put(inKeyspace(keyspace.data, Buffer.from(key)), value)
  return engine
}

interface Applied {
  /** What was merged, in its order: the key, and how it was found. */
  readonly merged: string[]
  readonly cursors: string[]
  readonly logs: number
  readonly iterators: number
}

interface Options { cursor?: string, deletes?: boolean, coversAll?: boolean, entryBytes?: number }

/** Goes through an apply phase with a merger that says what it is asked. */
async function apply (engine: FaultyMemory, { cursor, deletes = false, coversAll = false, entryBytes = 100 }: Options): Promise<Applied> {
  const merged: string[] = []
  const cursors: string[] = []
  let logs = 0
  let iterators = 0
  let open = 0
  const iterator = engine.iterator.bind(engine)
  engine.iterator = ((range: { lt: Buffer }) => {
    if (range.lt[0] !== keyspace.stage) iterators++
    const made = iterator(range)
    const close = made.close.bind(made)
    open++
    made.close = async () => {
      open--
      await close()
    }
    return made
  }) as never
  const batch = { bytes: 0 }
  const heldAs = (record: Buffer | undefined): string => record === undefined ? 'new' : storedSet(record, undefined)[0]!.type === 'put' ? 'stamped' : 'recorded'
  const merger = {
    coversAll: () => coversAll,
    mergeChunk: async (scan: EntryScan) => {
      do merged.push(`${scan.key.toString()} looked up`)
      while (scan.next())
    },
    mergeScanned: (scan: EntryScan, _context: unknown, record: Buffer | undefined) => {
      merged.push(`${scan.key.toString()} ${heldAs(record)}`)
      batch.bytes += entryBytes
    },
    mergeOne: ({ key, siblings }: { key: Buffer, siblings: unknown[] }, _context: unknown, record: Buffer | undefined) => {
      assert.is(siblings.length, 0)
      merged.push(`${key.toString()} ${heldAs(record)} gone`)
      batch.bytes += entryBytes
    },
    writeLog: async () => { logs++ }
  }
  const phase = await ApplyPhase.open(engine as never, { phase: 'applying', kind: 'transfer', vector: [], collected: [], cursor: cursor === undefined ? undefined : Buffer.from(cursor) }, deletes)
  try {
    while (await phase.step(merger as never, batch as never)) {
      cursors.push(phase.cursor?.toString() ?? '')
      batch.bytes = 0
    }
  } finally {
    await phase.close()
    Reflect.deleteProperty(engine, 'iterator')
  }
  assert.is(open, 0)
  return { merged, cursors, logs, iterators }
}

const chunks = [['b', 'd', 'f'], ['h', 'j', 'l'], ['n']]
const recorded = ['a', 'd', 'g', 'l', 'z']
const stamped = ['b', 'c', 'i', 'n', 'y']
const staged = chunks.flat()
const held = (key: string): string => recorded.includes(key) ? 'recorded' : stamped.includes(key) ? 'stamped' : 'new'

test('of a source that had seen all that is known here nothing that is held is read', async () => {
  const { merged, cursors, logs, iterators } = await apply(await engineWith(chunks, recorded, stamped), { coversAll: true })
  assert.equal(merged, staged.map((key) => `${key} looked up`))
  assert.equal([cursors, logs, iterators], [['f', 'l', 'n'], 3, 0])
})

for (const deletes of [false, true]) {
  test(`else each key is merged with what is held of it${deletes ? ', and what is held and was not sent is deleted' : ''}, in their order, from any cursor, however little goes at once`, async () => {
    const engine = await engineWith(chunks, recorded, stamped)
    const keys = [...new Set([...staged, ...deletes ? [...recorded, ...stamped] : []])].sort()
    for (const cursor of [undefined, ...keys]) {
      const expected = keys.filter((key) => cursor === undefined || key > cursor).map((key) => `${key} ${held(key)}${staged.includes(key) ? '' : ' gone'}`)
      for (const entryBytes of [100, applyBatchBytes]) {
        const { merged, cursors, logs } = await apply(engine, { deletes, entryBytes, ...(cursor === undefined ? {} : { cursor }) })
        assert.equal(merged, expected, `from ${cursor}`)
        assert.is(logs, cursors.length)
        if (entryBytes > 100) assert.equal(cursors.filter((key, index) => key !== (cursors[index - 1] ?? cursor)), merged.map((text) => text.split(' ')[0]))
      }
    }
  })
}

test('of a source that has nothing left all goes', async () => {
  const { merged, cursors } = await apply(await engineWith([], ['a', 'c'], ['b']), { deletes: true })
  assert.equal([merged, cursors.at(-1)], [['a recorded gone', 'b stamped gone', 'c recorded gone'], 'c'])
  assert.equal((await apply(await engineWith([], ['a'], []), {})).merged, [])
})

test('where much more is held than staged each key is looked up, for some chunks; what is to be deleted is found all the same', async () => {
  const many = Array.from({ length: 5000 }, (_, index) => `b${String(index).padStart(4, '0')}`)
  const sparse = [['a', 'c'], ...Array.from({ length: 20 }, (_, index) => [`d${String(index).padStart(2, '0')}`])]
  const engine = await engineWith(sparse, many, [])
  const { merged, iterators } = await apply(engine, {})
  assert.equal(merged.map((text) => text.split(' ')[0]), sparse.flat())
  const lookedUp = merged.filter((text) => text.endsWith('looked up')).length
  assert.ok(lookedUp > 2 && lookedUp < sparse.length, String(lookedUp))
  assert.is(iterators, 2 + 2 * (merged.length - lookedUp), 'those that showed it, and those of the chunks after')
  const all = await apply(engine, { deletes: true })
  assert.equal(all.merged, ['a new', ...many.map((key) => `${key} recorded gone`), 'c new', ...sparse.slice(1).map(([key]) => `${key} new`)])
})

test.run()
