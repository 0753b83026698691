/**
 * A database is read as it is written, by iterators and snapshots that stay open meanwhile, too, and is again and again
 * opened anew, after a close or a crash. What it reads is what a plain database reads that is given the same.
 */
import { cpSync } from 'node:fs'
import { setImmediate, setTimeout } from 'node:timers/promises'
import fc from 'fast-check'
import { ClassicLevel } from 'classic-level'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel } from '../../lib/index.ts'
import { groupBytes, redoAreaBytes, redoPace } from '../../lib/limits.ts'
import { newDirectory } from '../support/directory.ts'
import { runs } from '../support/seed.ts'

const keys = ['', 'a', 'a\u0000', 'b', 'ü', '€', '😀', '\ud800', 'z']
/** Some that get to LevelDB at once, or are too long for the redo log. */
const lengths = [0, 1, 2000, groupBytes + 1, redoAreaBytes / 2 + 1]
/** Is there always: in an empty database classic-level's `seek` ends the process. */
const guard = 'y'

const key = fc.constantFrom(...keys)
const value = fc.oneof({ weight: 8, arbitrary: fc.constantFrom('', '1', 'ü', '\ud800') }, { weight: 1, arbitrary: fc.constantFrom(...lengths).map((length) => 'x'.repeat(length)) })
/** The database itself, a sublevel, or one of that. */
const place = fc.constantFrom(0, 0, 1, 2)
const operation = fc.oneof(
  fc.record({ type: fc.constant('put' as const), key, value }),
  fc.record({ type: fc.constant('del' as const), key })
)
const encoding = fc.constantFrom('utf8', 'buffer', 'view', 'hex', 'base64')
const bounds = fc.record({ gte: key, gt: key, lte: key, lt: key }, { requiredKeys: [] })
const range = fc.record({ bounds, reverse: fc.boolean(), limit: fc.constantFrom(-1, -1, 0, 1, 3) })
const reading = fc.record({
  range,
  kind: fc.constantFrom('iterator' as const, 'keys' as const, 'values' as const),
  parts: fc.record({ keys: fc.boolean(), values: fc.boolean() }, { requiredKeys: [] }),
  keyEncoding: encoding,
  valueEncoding: encoding,
  highWaterMarkBytes: fc.constantFrom(undefined, 1, 100, 100_000)
})
const use = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ next: true as const }) },
  { weight: 3, arbitrary: fc.record({ nextv: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ seek: key }) },
  { weight: 1, arbitrary: fc.constantFrom({ all: true as const }, { close: true as const }) }
)
type Use = typeof use extends fc.Arbitrary<infer T> ? T : never
/** Which of those that there are, and undefined if there are none. */
const which = fc.nat({ max: 20 })
const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ write: fc.array(operation, { minLength: 1, maxLength: 4 }), place, how: fc.constantFrom('batch', 'chained', 'single', 'through'), sync: fc.constantFrom(false, false, false, true), awaited: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ waitTurns: fc.nat({ max: 10 }) }) },
  { weight: 1, arbitrary: fc.constant({ waitMs: redoPace.keptMs + 1 }) },
  { weight: 3, arbitrary: fc.record({ get: fc.array(key, { maxLength: 4 }), place, encoding, snapshot: fc.option(which) }) },
  { weight: 4, arbitrary: fc.record({ open: reading, place, snapshot: fc.option(which) }) },
  { weight: 8, arbitrary: fc.record({ iterator: which, use: fc.array(use, { minLength: 1, maxLength: 3 }) }) },
  { weight: 2, arbitrary: fc.constant({ snap: true as const }) },
  { weight: 1, arbitrary: fc.record({ unsnap: which }) },
  { weight: 2, arbitrary: fc.record({ clear: range, place, snapshot: fc.option(which) }) },
  { weight: 1, arbitrary: fc.constantFrom({ compact: true as const }, { reopen: true as const }, { crash: true as const }) }
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** One of either, or of its sublevels, whatever its keys and values are. */
interface AnyLevel {
  open (): Promise<void>
  put (key: string, value: string, options: object): Promise<void>
  del (key: string, options: object): Promise<void>
  batch (operations: object[], options: object): Promise<void>
  batch (): AnyChain
  get (key: string, options: object): Promise<unknown>
  getSync (key: string, options: object): unknown
  getMany (keys: string[], options: object): Promise<unknown[]>
  has (key: string, options: object): Promise<boolean>
  hasMany (keys: string[], options: object): Promise<boolean[]>
  clear (options: object): Promise<void>
  sublevel (name: string): AnyLevel
  iterator (options: object): AnyIterator
  keys (options: object): AnyIterator
  values (options: object): AnyIterator
}

interface AnyChain {
  put (key: string, value: string): AnyChain
  del (key: string): AnyChain
  write (options: object): Promise<void>
}

interface AnyIterator {
  next (): Promise<unknown>
  nextv (size: number): Promise<unknown[]>
  all (): Promise<unknown[]>
  seek (target: unknown, options: object): void
  close (): Promise<void>
}

type Snapshot = ReturnType<ClassicLevel['snapshot']>

/** What it gave, to be compared; of an error its code. */
async function outcomeOf (work: () => unknown): Promise<unknown> {
  try {
    return plainly(await work())
  } catch (error) {
    return { code: (error as { code?: string }).code, name: (error as Error).name }
  }
}

function plainly (found: unknown): unknown {
  if (found instanceof Uint8Array) return `bytes ${Buffer.from(found).toString('hex')}`
  return Array.isArray(found) ? found.map(plainly) : found
}

/** A database, and all that is done with it. */
class Side {
  readonly level: ClassicLevel | ReplicatedLevel
  readonly #isPlain: boolean
  #writing: Promise<unknown> = Promise.resolve()
  #places: AnyLevel[] = []
  #snapshots: Snapshot[] = []
  #iterators: AnyIterator[] = []

  constructor (level: ClassicLevel | ReplicatedLevel) {
    this.level = level
    this.#isPlain = level instanceof ClassicLevel && !(level instanceof ReplicatedLevel)
  }

  async open (): Promise<void> {
    const level = this.level as unknown as AnyLevel
    await level.open()
    const sublevel = level.sublevel('s')
    this.#places = [level, sublevel, sublevel.sublevel('t')]
    for (const place of this.#places) await place.open()
    this.#snapshots = []
    this.#iterators = []
    await level.put(guard, '', {})
  }

  #in (index: number | null): object {
    const snapshot = index === null ? undefined : this.#snapshots[index % this.#snapshots.length]
    return snapshot === undefined ? {} : { snapshot }
  }

  /** classic-level is handed one write after another, which may come in any order otherwise. */
  async write (step: Extract<Step, { write: unknown }>): Promise<void> {
    const writing = this.#isPlain ? this.#writing.then(async () => { for (const write of this.#writes(step)) await write() }) : Promise.all(this.#writes(step).map(async (write) => { await write() }))
    this.#writing = writing
    await writing
  }

  #writes ({ write, place, how, sync }: Extract<Step, { write: unknown }>): Array<() => Promise<void>> {
    const level = this.#places[place]!
    if (how === 'batch') return [async () => { await level.batch(write, { sync }) }]
    if (how === 'through') return [async () => { await this.#places[0]!.batch(write.map((operation) => ({ ...operation, sublevel: place === 0 ? undefined : level })), { sync }) }]
    if (how === 'single') return write.map((operation) => async () => { await (operation.type === 'put' ? level.put(operation.key, operation.value, { sync }) : level.del(operation.key, { sync })) })
    const chain = level.batch()
    for (const operation of write) if (operation.type === 'put') chain.put(operation.key, operation.value); else chain.del(operation.key)
    return [async () => { await chain.write({ sync }) }]
  }

  async get ({ get, place, encoding, snapshot }: Extract<Step, { get: unknown }>): Promise<unknown> {
    const level = this.#places[place]!
    const options = { valueEncoding: encoding, ...this.#in(snapshot) }
    return await Promise.all([
      ...get.flatMap((key) => [async () => level.getSync(key, options), async () => await level.get(key, options), async () => await level.has(key, this.#in(snapshot))]),
      async () => await level.getMany(get, options),
      async () => await level.hasMany(get, this.#in(snapshot))
    ].map(outcomeOf))
  }

  iterate ({ open: { range, kind, parts, ...options }, place, snapshot }: Extract<Step, { open: unknown }>): void {
    const encode = (key: string): string | Buffer => options.keyEncoding === 'utf8' ? key : options.keyEncoding === 'hex' || options.keyEncoding === 'base64' ? Buffer.from(key).toString(options.keyEncoding) : Buffer.from(key)
    const { bounds, reverse, limit } = range
    const encoded = Object.fromEntries(Object.entries(bounds).map(([name, key]) => [name, encode(key)]))
    this.#iterators.push(this.#places[place]![kind]({ ...encoded, reverse, limit, ...(kind === 'iterator' ? parts : {}), ...options, ...this.#in(snapshot) }))
  }

  async use ({ iterator, use }: Extract<Step, { iterator: unknown }>): Promise<unknown> {
    const used = this.#iterators[iterator % this.#iterators.length]
    const found: unknown[] = []
    if (used === undefined) return found
    for (const one of use) found.push(await outcomeOf(async () => await this.#useOnce(used, one)))
    return found
  }

  async #useOnce (iterator: AnyIterator, use: Use): Promise<unknown> {
    if ('next' in use) return await iterator.next()
    if ('seek' in use) return iterator.seek(use.seek, { keyEncoding: 'utf8' })
    if ('all' in use) return await iterator.all()
    if ('close' in use) return await iterator.close()
    const items: unknown[] = []
    while (items.length < use.nextv) { // it may give less, of large ones
      const page = await iterator.nextv(use.nextv - items.length)
      if (page.length === 0) break
      items.push(...page)
    }
    return items
  }

  snap (): void {
    this.#snapshots.push((this.level as ClassicLevel).snapshot())
  }

  /** With a closed one, a new iterator of classic-level's ends the process. */
  async unsnap (index: number): Promise<void> {
    const [snapshot] = this.#snapshots.splice(index % this.#snapshots.length, 1)
    await snapshot?.close()
  }

  /** classic-level's own leaves the empty key at times. */
  async clear ({ clear: { bounds, ...range }, place, snapshot }: Extract<Step, { clear: unknown }>): Promise<unknown> {
    const level = this.#places[place]!
    const options = { ...bounds, ...range, ...this.#in(snapshot) }
    const outcome = await outcomeOf(async () => {
      if (!this.#isPlain || range.limit === 0) return await level.clear(options)
      const keys = await level.keys({ ...options, keyEncoding: 'buffer', ...Object.fromEntries(Object.entries(bounds).map(([name, key]) => [name, Buffer.from(key)])) }).all()
      await level.batch(keys.map((key) => ({ type: 'del', key })), { keyEncoding: 'buffer' })
    })
    await this.level.put(guard, '')
    return outcome
  }

  async reopen (): Promise<void> {
    await this.level.close()
    await this.open()
  }

  async all (): Promise<unknown> {
    return await outcomeOf(async () => await (this.level as ClassicLevel).iterator({ keyEncoding: 'buffer', valueEncoding: 'buffer' }).all())
  }
}

test('what is read is what classic-level reads, from the moment it was written, and so is what is there after a crash', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
    const location = newDirectory()
    const ours = new Side(new ReplicatedLevel(location, { port: false }))
    const sides = [new Side(new ClassicLevel(newDirectory())), ours]
    let writing: Array<Promise<unknown>> = []
    const written = async (): Promise<void> => {
      await Promise.all(writing)
      writing = []
    }
    const same = async (found: (side: Side) => unknown): Promise<void> => {
      const [expected, actual] = await Promise.all(sides.map(async (side) => await found(side)))
      assert.equal(actual, expected)
    }
    for (const side of sides) await side.open()
    for (const step of steps) {
      // What classic-level has not answered yet may be there or not.
      if ('write' in step) {
        for (const side of sides) writing.push(side.write(step))
        if (step.awaited) await written()
      } else if ('iterator' in step) {
        await same(async (side) => await side.use(step))
      } else if ('waitTurns' in step) {
        for (let turn = 0; turn < step.waitTurns; turn++) await setImmediate()
      } else if ('waitMs' in step) {
        await setTimeout(step.waitMs)
      } else {
        await written()
        if ('get' in step) await same(async (side) => await side.get(step))
        else if ('open' in step) for (const side of sides) side.iterate(step)
        else if ('snap' in step) for (const side of sides) side.snap()
        else if ('unsnap' in step) await same(async (side) => { await side.unsnap(step.unsnap) })
        else if ('clear' in step) await same(async (side) => await side.clear(step))
        else if ('compact' in step) await Promise.all([ours.level.compactRange('', 'z'), ours.level.approximateSize('', 'z')])
        else if ('reopen' in step) await same(async (side) => { await side.reopen() })
        else await afterCrash(location, sides[0]!)
      }
    }
    await written()
    await same(async (side) => await side.all())
    await Promise.all(sides.map(async ({ level }) => { await level.close() }))
  }), runs(60))
})

/** The process has ended, and another one opens what is there. */
async function afterCrash (location: string, plain: Side): Promise<void> {
  const copy = newDirectory()
  cpSync(location, copy, { recursive: true })
  const opened = new Side(new ReplicatedLevel(copy, { port: false }))
  await opened.level.open()
  assert.equal(await opened.all(), await plain.all())
  await opened.level.close()
}

test.run()
