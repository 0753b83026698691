/**
 * A database is read as it is written, and again and again opened anew without a close; what it reads is what a plain
 * database reads that is given the same. (Without `seek`, with which classic-level ends the process at times.)
 */
import fc from 'fast-check'
import { ClassicLevel } from 'classic-level'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel } from '../../lib/index.ts'
import { newDirectory } from '../support/directory.ts'
import { runs } from '../support/seed.ts'

const key = fc.constantFrom('', 'a', 'a\u0000', 'b', 'ü', '€', '😀', '\ud800', 'z')
const value = fc.constantFrom('', '1', 'ü', 'x'.repeat(2000))
const operation = fc.oneof(
  fc.record({ type: fc.constant('put' as const), key, value }),
  fc.record({ type: fc.constant('del' as const), key })
)
const bounds = fc.record({ gte: key, gt: key, lte: key, lt: key }, { requiredKeys: [] })
const reading = fc.record({ range: bounds, reverse: fc.boolean(), limit: fc.constantFrom(-1, 0, 1, 3), keyEncoding: fc.constantFrom('utf8', 'buffer', 'view'), pages: fc.boolean() })
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ write: fc.array(operation, { minLength: 1, maxLength: 4 }), awaited: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ read: reading, snapshot: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ snap: fc.constant(true) }) },
  { weight: 1, arbitrary: fc.record({ clear: bounds, limit: fc.constantFrom(-1, 2), reverse: fc.boolean(), snapshot: fc.boolean() }) }
)

type Level = ClassicLevel | ReplicatedLevel

/** One of either, whatever its keys and values are. */
interface AnyLevel {
  iterator (options: object): { nextv (size: number): Promise<unknown[][]>, next (): Promise<unknown[] | undefined>, close (): Promise<void> }
  keys (options: object): { all (): Promise<unknown[]> }
  values (options: object): { all (): Promise<unknown[]> }
}

const text = (found: unknown): unknown => found instanceof Uint8Array ? Buffer.from(found).toString('hex') : found

async function readAll (level: Level, { range, reverse, limit, keyEncoding, pages }: typeof reading extends fc.Arbitrary<infer T> ? T : never, at: object): Promise<unknown> {
  const options = { ...range, reverse, limit, ...at }
  const found: unknown[] = []
  const encoded = (some: string): string | Buffer => keyEncoding === 'utf8' ? some : Buffer.from(some)
  const iterator = (level as AnyLevel).iterator({ ...Object.fromEntries(Object.entries(options).map(([name, value]) => [name, typeof value === 'string' ? encoded(value) : value])), keyEncoding, valueEncoding: keyEncoding } as object)
  if (pages) found.push(...(await iterator.nextv(2)).flat().map(text))
  for (let entry = await iterator.next(); entry !== undefined; entry = await iterator.next()) found.push(...entry.map(text))
  await iterator.close()
  const keys = ['a', 'b', '€', '\ud800']
  return [found, await (level as AnyLevel).keys(options).all(), await (level as AnyLevel).values(options).all(),
    await level.get('a', at), level.getSync('ü', at), level.getSync('b', { ...at, valueEncoding: 'view' } as object), await level.getMany(keys, at), await level.has('z', at), await level.hasMany(keys, at)]
}

test('what is read right after it was written is what classic-level reads, and so is what is there after a crash', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
    const plain = new ClassicLevel(newDirectory())
    const ours = new ReplicatedLevel(newDirectory(), { port: false })
    const levels: Level[] = [plain, ours]
    const snapshots: object[] = [{}, {}]
    let writing: Array<Promise<unknown>> = []
    await Promise.all(levels.map(async (level) => { await level.open() }))
    for (const step of steps) {
      // What classic-level has not answered yet may be there or not.
      if (!('write' in step)) {
        await Promise.all(writing)
        writing = []
      }
      if ('write' in step) {
        for (const level of levels) writing.push((level as ClassicLevel).batch(step.write as Array<{ type: 'put', key: string, value: string }>))
        if (step.awaited) await Promise.all(writing)
      } else if ('snap' in step) {
        for (const [index, level] of levels.entries()) snapshots[index] = { snapshot: level.snapshot() }
      } else {
        const at = step.snapshot ? snapshots : [{}, {}]
        if ('read' in step) {
          const [expected, found] = await Promise.all(levels.map(async (level, index) => await readAll(level, step.read, at[index]!)))
          assert.equal(found, expected)
        } else {
          // What has changed since a snapshot is not cleared with it, and classic-level leaves the empty key.
          if (step.snapshot || Object.keys(step.clear).length > 0) continue
          await Promise.all(levels.map(async (level) => { await level.clear({ limit: step.limit, reverse: step.reverse }) }))
        }
      }
    }
    await Promise.all(writing)
    assert.equal(await ours.iterator().all(), await plain.iterator().all())
    await Promise.all(levels.map(async (level) => { await level.close() }))
  }), runs(60))
})

test.run()
