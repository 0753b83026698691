/**
 * The benchmarks run, give every figure, and prove that the work was done. Their speed is not judged here.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { assertCount, assertSame, verify } from '../benchmarks/verification.ts'
import { makeDatabase } from '../benchmarks/databases.ts'
import { putsOf } from '../benchmarks/data.ts'
import { figureOf, type Figure } from '../benchmarks/figures.ts'
import { Expectation } from '../benchmarks/peers/expectation.ts'
import { units } from '../benchmarks/peers/jobs.ts'
import { newDirectory } from './support/directory.ts'

const rounds = 1
const entries = 1000

function bench (...args: string[]): { status: number | null, output: string } {
  return run('benchmarks/index.ts', args)
}

function benchPeers (...args: string[]): { status: number | null, output: string } {
  return run('benchmarks/peers/index.ts', args)
}

function run (program: string, args: string[]): { status: number | null, output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', program, '--limit', '300', ...args], { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

function figuresIn (file: string): Figure[] {
  return (JSON.parse(readFileSync(file, 'utf8')) as { figures: Figure[] }).figures
}

function namesOf (figures: Figure[]): string[] {
  return figures.map(({ benchmark, name }) => `${benchmark}: ${name}`)
}

test('a run gives all figures, each with its samples and what was checked', () => {
  const file = newDirectory()
  const { status, output } = bench('--rounds', String(rounds), '--entries', String(entries), '--json', file)
  assert.is(status, 0, output)
  const figures = figuresIn(file)
  assert.equal(namesOf(figures), [
    ...['sequential put', 'concurrent put', 'batch', 'compactRange', 'get', 'getSync', 'getMany', 'iterator.all', 'for await'].map((name) => `single process: ${name}`),
    ...['', ', not linked'].flatMap((how) => ['sequential put', 'concurrent put', 'batch'].map((name) => `live peer: ${name}${how}`)),
    ...['rate', 'rate once warm', 'wire', 'peak memory of sender', 'peak memory of sender, mapped files aside', 'peak memory of receiver', 'peak memory of receiver, mapped files aside'].filter((name) => process.platform === 'linux' || !name.includes('aside')).map((name) => `first sync: ${name}`),
    'latency: p50', 'latency: p99', 'latency: p50 once warm', 'latency: p99 once warm',
    ...['nothing of 10', 'nothing of 1000'].flatMap((what) => [`reconnect: ${what} changed, time`, `reconnect: ${what} changed, wire`]),
    ...['time', 'time once warm', 'wire'].map((what) => `reconnect: 10 of 1000 changed, ${what}`),
    'both write: rate',
    'mesh of ten: 10 writes, time', 'mesh of ten: wire, for each write and replica',
    ...['open after writes', 'open after writes, beyond classic-level', 'open at rest', 'open at rest, beyond classic-level', 'disk', 'sequential put', 'batch', "classic-level's own sequential put", "classic-level's own batch"].map((name) => `growth: ${name}`)
  ])
  for (const figure of figures) {
    const what = `${figure.benchmark}: ${figure.name}`
    assert.is(figure.samples.length, rounds, what)
    assert.ok(figure.min >= 0 && figure.min <= figure.median && figure.median <= figure.max, what)
    const isAlone = figure.name.endsWith('beyond classic-level') || figure.name === '10 writes, time' || (!what.startsWith('first sync: rate') && !['single process', 'live peer', 'latency', 'mesh of ten', 'growth'].includes(figure.benchmark))
    assert.is(figure.ratio === undefined, isAlone, what)
    assert.ok(output.includes(figure.name), `${what} is not in the table`)
  }
  const checked = (benchmark: string): number[] => figures.filter((figure) => figure.benchmark === benchmark).map((figure) => figure.checked.entries)
  const written = 200 + 200 + 200
  assert.equal(new Set(checked('single process')), new Set([(rounds + 1) * 2 * written]))
  assert.equal(new Set(checked('live peer')), new Set([(rounds + 1) * 3 * (1 + 2 + 2) * entries / 2]))
  assert.equal(new Set(checked('first sync')), new Set([2 * rounds * entries]))
  assert.equal(new Set(checked('latency')), new Set([(1 + rounds + 4 + rounds) * 10]))
  assert.equal(checked('reconnect'), [10, 10, entries, entries, entries, entries, entries])
  assert.equal(checked('both write'), [(rounds + 1) * 2 * 2 * 200])
  assert.equal(new Set(checked('mesh of ten')), new Set([(rounds + 1) * (2 + 10) * 10]))
  assert.equal(new Set(checked('growth')), new Set([2 * (10 * entries + entries) + (rounds + 1) * 4 * (200 + 200)]))
  for (const { samples } of figures.map(({ checked }) => checked)) assert.ok(samples > 0)
})

test('bad usage is told apart from a failure', () => {
  for (const { status, output } of [bench('--only', 'nothing of this name'), benchPeers('--peers', 'nothing of this name')]) {
    assert.is(status, 2, output)
  }
})

test('a comparison gives all figures, those of another database beside ours, and installs nothing that it does not need', () => {
  const file = newDirectory()
  const { status, output } = benchPeers('--rounds', String(rounds), '--entries', String(entries), '--peers', 'classic-level', '--json', file)
  assert.is(status, 0, output)
  assert.not.match(output, /Installing/)
  const figures = figuresIn(file)
  assert.equal(namesOf(figures), [
    ...Object.keys(units).map((name) => `ReplicatedLevel: ${name}`),
    ...['sequential put', 'concurrent put', 'batch', 'disk of sender'].map((name) => `against classic-level: ${name}`)
  ])
  for (const figure of figures) {
    const what = `${figure.benchmark}: ${figure.name}`
    assert.is(figure.samples.length, rounds, what)
    assert.ok(figure.min > 0 && figure.min <= figure.median && figure.median <= figure.max, what)
    assert.is(figure.ratio !== undefined, figure.benchmark !== 'ReplicatedLevel', what)
    assert.ok(output.includes(figure.name), `${what} is not in the table`)
  }
  const written = { synced: entries, single: 50, both: 2 * entries / 5 + 2 }
  assert.is(figures[0]!.checked.entries, written.synced + written.synced + written.single + 2 * written.both)
  assert.is(figures.at(-1)!.checked.entries, entries)
})

test('a peer that fails or takes too long keeps nobody from being measured, and fails the run', () => {
  const file = newDirectory()
  const { status, output } = benchPeers('--rounds', '1', '--entries', '100000', '--round-limit', '1', '--peers', 'classic-level', '--json', file)
  assert.is(status, 1, output)
  assert.match(output, /replicated-level, round 1: Not done after 1 s/)
  assert.match(output, /Round 1, classic-level/)
})

test('a value is seen when it is read, not when something changes', async () => {
  const values = new Map([['a', 'old']])
  const expectation = new Expectation({ get: async (key) => values.get(key) })
  expectation.begin([{ type: 'put', key: 'a', value: 'new' }, { type: 'put', key: 'b', value: 'new' }])
  let met = false
  expectation.met.then(() => { met = true })
  const look = async (key?: string): Promise<void> => {
    expectation.look(key)
    await setImmediate()
  }
  await look('a')
  values.set('b', 'new')
  await look()
  assert.is(met, false)
  values.set('a', 'new')
  await look('b')
  assert.is(met, false)
  await look('a')
  assert.is(met, true)
})

test('a check fails if an entry is missing, too many or wrong', async () => {
  const database = makeDatabase({ engine: 'classic', directory: newDirectory(), encoding: 'utf8' })
  await database.batch(putsOf(0, 10, 'utf8'))
  assert.equal(await verify(database, 'utf8', 10), { entries: 10, samples: 10 })
  const rejects = async (total: number, message: RegExp): Promise<void> => {
    const error = await verify(database, 'utf8', total).then(() => undefined, (error: Error) => error)
    assert.match(error?.message ?? 'no error', message)
  }
  await rejects(9, /10 entries, expected 9/)
  await rejects(11, /10 entries, expected 11/)
  await database.batch(putsOf(3, 1, 'utf8', 1))
  await rejects(10, /The value with index 3 is wrong/)
  await database.close()
  assert.throws(() => { assertCount('writes', 1, 2) }, /1 writes, expected 2/)
  assert.throws(() => { assertSame(undefined, Buffer.from('a'), 0) }, /missing/)
})

test('a floor is missed below its ratio or rate, or above its time', () => {
  const checked = { entries: 1, samples: 1 }
  const put = (samples: number[]) => figureOf('single process', { name: 'sequential put', unit: 'entries/s', samples, against: { name: 'classic-level', samples: [10, 10, 10] }, checked })
  assert.is(put([9, 1, 9]).missed, false)
  assert.is(put([8, 8, 20]).missed, true)
  const other = (benchmark: string, name: string, sample: number) => figureOf(benchmark, { name, unit: '', samples: [sample], checked }).missed
  assert.is(other('first sync', 'rate', 60_000), false)
  assert.is(other('first sync', 'rate', 59_999), true)
  assert.is(other('latency', 'p50', 1), false)
  assert.is(other('latency', 'p50', 1.1), true)
  assert.is(other('latency', 'p99', 1.1), undefined)
})

test.run()
