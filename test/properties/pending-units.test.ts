/**
 * A database is read while it is written by itself and by a linked one, and LevelDB takes batches now and then only. What
 * it reads, by iterators and snapshots that stay open meanwhile, too, and what is there after a crash and in a backup, is
 * what a plain database reads that is given the same.
 */
import { cpSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { ClassicLevel } from 'classic-level'
import { pipe } from 'it-pipe'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ReplicatedLevel, type Version } from '../../lib/index.ts'
import { recordedUnitsBytesMax, stampedValueMax } from '../../lib/limits.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { runs } from '../support/seed.ts'

const keys = ['', 'a', 'b', 'c', 'd']
/** Is written by both without having seen the other. */
const contested = 'e'
/** What each of them has written last says how much that was; in an empty database classic-level's `seek` ends the process. */
const ourMark = '~l'
const theirMark = '~r'

const key = fc.constantFrom(...keys)
const value = fc.constantFrom('', '1', '2', 'x'.repeat(stampedValueMax + 1), 'x'.repeat(recordedUnitsBytesMax))
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ type: fc.constant('put' as const), key, value }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('del' as const), key: fc.constantFrom(...keys, contested) }) }
)
const operations = fc.array(operation, { minLength: 1, maxLength: 3 })
const bounds = fc.record({ gte: key, gt: key, lte: key, lt: key }, { requiredKeys: [] })
const alone = { port: false, discovery: false } as const

const which = fc.nat({ max: 20 })
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ write: operations }) },
  { weight: 10, arbitrary: fc.record({ receive: fc.array(operations, { minLength: 1, maxLength: 3 }), hold: fc.boolean() }) },
  { weight: 3, arbitrary: fc.constant({ hold: true as const }) },
  { weight: 2, arbitrary: fc.constant({ release: true as const }) },
  { weight: 2, arbitrary: fc.record({ waitTurns: fc.nat({ max: 10 }) }) },
  { weight: 4, arbitrary: fc.record({ open: bounds, reverse: fc.boolean(), snapshot: fc.option(which) }) },
  { weight: 6, arbitrary: fc.record({ iterator: which, nextv: fc.integer({ min: 1, max: 3 }), seek: fc.option(key) }) },
  { weight: 2, arbitrary: fc.constantFrom({ snap: true as const }, { dispute: true as const }) },
  { weight: 2, arbitrary: fc.oneof(fc.record({ clear: bounds }), fc.constantFrom({ crash: true as const }, { backup: true as const }, { reopen: true as const })) }
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never
type Operations = typeof operations extends fc.Arbitrary<infer T> ? T : never

type Level = ClassicLevel<string, string>
type Iterator = ReturnType<Level['iterator']>
type Snapshot = ReturnType<Level['snapshot']>

/** Of the batches that LevelDB is handed those of one directory wait as long as there is something to be waited for. */
class Gate {
  readonly #location: string
  #opened: Promise<void> | undefined
  #open = (): void => {}

  constructor (location: string) {
    this.#location = location
  }

  get holds (): boolean {
    return this.#opened !== undefined
  }

  hold (): void {
    this.#opened ??= new Promise((resolve) => { this.#open = resolve })
  }

  release (): void {
    this.#open()
    this.#opened = undefined
  }

  /** @param level any that is open: all have these batches. */
  watch (level: ClassicLevel): () => void {
    const batch = level.batch()
    const prototype = Object.getPrototypeOf(batch) as { _write (options: object): Promise<void> }
    const write = prototype._write
    const location = this.#location
    const opened = (): Promise<void> | undefined => this.#opened
    prototype._write = async function (this: { db: Level }, options) {
      if (this.db.location === location) await opened()
      return await write.call(this, options)
    }
    void batch.close()
    return () => { prototype._write = write }
  }
}

class Side {
  readonly level: Level
  #snapshots: Snapshot[] = []
  #iterators: Iterator[] = []

  constructor (level: Level) {
    this.level = level
  }

  forget (): void {
    this.#snapshots = []
    this.#iterators = []
  }

  snap (): void {
    this.#snapshots.push(this.level.snapshot())
  }

  #in (index: number | null): { snapshot?: Snapshot } {
    const snapshot = index === null ? undefined : this.#snapshots[index % this.#snapshots.length]
    return snapshot === undefined ? {} : { snapshot }
  }

  iterate ({ open, reverse, snapshot }: Extract<Step, { open: unknown }>): void {
    this.#iterators.push(this.level.iterator({ ...open, reverse, ...this.#in(snapshot) }))
  }

  async use ({ iterator, nextv, seek }: Extract<Step, { iterator: unknown }>): Promise<unknown> {
    const used = this.#iterators[iterator % this.#iterators.length]
    if (used === undefined) return undefined
    if (seek !== null) used.seek(seek)
    const items: unknown[] = []
    while (items.length < nextv) { // it may give less, of large ones
      const page = await used.nextv(nextv - items.length)
      if (page.length === 0) break
      items.push(...page)
    }
    return items
  }

  /** All that is there now, found in every way. */
  async all (): Promise<unknown> {
    const { level } = this
    const all = [...keys, contested]
    const now = [level.iterator().all(), level.iterator({ reverse: true }).all(), level.getMany(all), level.hasMany(all), ...all.map(async (key) => await level.get(key))]
    return [all.map((key) => level.getSync(key)), ...await Promise.all<unknown>(now), ...await Promise.all(this.#snapshots.map(async (snapshot) => await level.getMany(all, { snapshot })))]
  }
}

class History {
  readonly #directory = newDirectory()
  readonly #gate = new Gate(this.#directory)
  readonly #plain = new Side(new ClassicLevel(newDirectory()))
  readonly #ours = new Side(new ReplicatedLevel(this.#directory, alone) as unknown as Level)
  readonly #theirs = new ReplicatedLevel(newDirectory(), alone)
  #count = 0
  #mark: Record<string, string | undefined> = {}
  #broken: unknown
  /** Units that counted while LevelDB took nothing. */
  pending = 0

  get #sides (): Side[] {
    return [this.#plain, this.#ours]
  }

  get #replica (): ReplicatedLevel {
    return this.#ours.level as unknown as ReplicatedLevel
  }

  async run (steps: readonly Step[]): Promise<this> {
    await Promise.all([this.#plain, this.#ours].map(async ({ level }) => { await level.open() }))
    const unwatch = this.#gate.watch(this.#plain.level)
    try {
      this.#replica.on('replicate', (versions) => { this.#toldOf(versions) })
      await this.#write([])
      await this.#theirs.open()
      this.#link()
      await this.#receive([[]], false)
      for (const step of steps) {
        await this.#take(step)
        await this.#compare()
      }
      this.#gate.release()
      await this.#theyHave()
      assert.equal(await this.#theirs.iterator().all(), await this.#plain.level.iterator().all())
    } finally {
      this.#gate.release()
      await Promise.all([this.#plain.level, this.#ours.level, this.#theirs].map(async (level) => { await level.close() }))
      unwatch()
    }
    return this
  }

  #link (): void {
    const stream = this.#replica.replication.stream()
    void pipe(stream, this.#theirs.replication.stream(), stream)
  }

  async #take (step: Step): Promise<void> {
    if ('write' in step) await this.#write(step.write)
    else if ('receive' in step) await this.#receive(step.receive, step.hold)
    else if ('hold' in step) this.#gate.hold()
    else if ('release' in step) this.#gate.release()
    else if ('waitTurns' in step) for (let turn = 0; turn < step.waitTurns; turn++) await setImmediate()
    else if ('open' in step) for (const side of this.#sides) side.iterate(step)
    else if ('iterator' in step) await this.#same(async (side) => await side.use(step))
    else if ('snap' in step) for (const side of this.#sides) side.snap()
    else if ('dispute' in step) await this.#dispute()
    else if ('clear' in step) await this.#clear(step.clear)
    else if ('crash' in step) await this.#crash()
    else if ('backup' in step) await this.#backUp()
    else await this.#reopen()
  }

  async #same (found: (side: Side) => Promise<unknown>): Promise<void> {
    const [expected, actual] = await Promise.all(this.#sides.map(found))
    assert.equal(actual, expected)
  }

  async #compare (): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken
    await this.#same(async (side) => await side.all())
    for (const key of keys) {
      const versions = await this.#replica.replication.versions(key)
      assert.equal(versions.map(({ value }) => value).filter((value) => value !== undefined), [this.#plain.level.getSync(key)].filter((value) => value !== undefined))
    }
  }

  #marked (writes: Operations, mark: string): Array<Operations[number]> {
    return [...writes, { type: 'put', key: mark, value: (this.#mark[mark] = String(++this.#count)) }]
  }

  /** LevelDB gets what there is, if nothing moves without. */
  async #moves (fact: () => boolean): Promise<void> {
    for (let turn = 0; turn < 200 && !fact(); turn++) await setImmediate()
    if (!fact()) this.#gate.release()
    await eventually(fact)
  }

  async #write (writes: Operations): Promise<void> {
    const marked = this.#marked(writes, ourMark)
    let isDone = false
    const writing = this.#replica.batch(marked).finally(() => { isDone = true })
    await this.#moves(() => isDone)
    await writing
    await this.#plain.level.batch(marked)
  }

  /** They have seen all that is here. */
  async #theyHave (): Promise<void> {
    await this.#moves(() => this.#theirs.getSync(ourMark) === this.#mark[ourMark])
  }

  async #weHave (): Promise<void> {
    await this.#moves(() => this.#replica.getSync(theirMark) === this.#mark[theirMark])
  }

  /** @param hold whether LevelDB has all that comes before, and takes nothing from then on */
  async #receive (units: readonly Operations[], hold: boolean): Promise<void> {
    await this.#theyHave()
    if (hold) {
      this.#gate.release()
      await this.#replica.compactRange(ourMark, ourMark)
      this.#gate.hold()
    }
    const marked = units.map((writes) => this.#marked(writes, theirMark))
    await Promise.all(marked.map(async (writes) => { await this.#theirs.batch(writes) }))
    await this.#weHave()
    if (this.#gate.holds) this.pending++
    for (const writes of marked) await this.#plain.level.batch(writes)
  }

  async #dispute (): Promise<void> {
    await this.#theyHave()
    const ours = this.#marked([{ type: 'put', key: contested, value: `ours ${this.#count}` }], ourMark)
    const theirs = this.#marked([{ type: 'put', key: contested, value: `theirs ${this.#count}` }], theirMark)
    this.#gate.release()
    await Promise.all([this.#replica.batch(ours), this.#theirs.batch(theirs)])
    await this.#theyHave()
    await this.#weHave()
    const value = this.#replica.getSync(contested)!
    assert.is(this.#theirs.getSync(contested), value)
    await this.#plain.level.batch([...ours, ...theirs, { type: 'put', key: contested, value }])
  }

  async #clear (range: object): Promise<void> {
    this.#gate.release()
    const bounded = { lt: ourMark, ...range }
    await this.#replica.clear(bounded)
    const gone = await this.#plain.level.keys(bounded).all()
    await this.#plain.level.batch(gone.map((key) => ({ type: 'del', key })))
    await this.#write([])
  }

  /** The process has ended, and another one opens what is there. */
  async #crash (): Promise<void> {
    const copy = newDirectory()
    cpSync(this.#directory, copy, { recursive: true })
    await this.#holdsAll(copy)
  }

  async #backUp (): Promise<void> {
    const copy = newDirectory()
    let isDone = false
    const copying = this.#replica.replication.backup(copy).finally(() => { isDone = true })
    await this.#moves(() => isDone)
    await copying
    await this.#holdsAll(copy)
  }

  async #holdsAll (copy: string): Promise<void> {
    const opened = new ReplicatedLevel(copy, alone)
    await opened.open()
    assert.equal(await opened.iterator().all(), await this.#plain.level.iterator().all())
    await opened.close()
  }

  async #reopen (): Promise<void> {
    this.#gate.release()
    for (const side of this.#sides) {
      side.forget()
      await side.level.close()
      await side.level.open()
    }
    this.#link()
  }

  /** What is told is what is read, the last of each key. */
  #toldOf (versions: ReadonlyArray<Version<string, string>>): void {
    try {
      for (const { key, value } of new Map(versions.map((version) => [version.key, version])).values()) assert.is(this.#replica.getSync(key), value, key)
    } catch (error) {
      this.#broken ??= error
    }
  }
}

test('what a linked database writes is read from the moment it counts as classic-level reads it, and so is what is there after a crash and in a backup', async () => {
  let pending = 0
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
    pending += (await new History().run(steps)).pending
  }), runs(20))
  assert.ok(pending > 5, `${pending} times units counted while LevelDB took nothing`)
})

test.run()
