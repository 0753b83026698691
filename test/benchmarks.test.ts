/**
 * The benchmarks run, give every figure, and prove that the work was done. Their speed is not judged here.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { assertCount, assertSame, verify } from '../benchmarks/verification.ts'
import { makeDatabase } from '../benchmarks/databases.ts'
import { putsOf } from '../benchmarks/data.ts'
import { figureOf, type Figure } from '../benchmarks/figures.ts'
import { newDirectory } from './support/directory.ts'

const rounds = 1
const entries = 1000

function bench (...args: string[]): { status: number | null, output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'benchmarks/index.ts', '--limit', '60', ...args], { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

test('a run gives all figures, each with its samples and what was checked', () => {
  const file = newDirectory()
  const { status, output } = bench('--rounds', String(rounds), '--entries', String(entries), '--json', file)
  assert.is(status, 0, output)
  const { figures } = JSON.parse(readFileSync(file, 'utf8')) as { figures: Figure[] }
  assert.equal(figures.map(({ benchmark, name }) => `${benchmark}: ${name}`), [
    ...['sequential put', 'concurrent put', 'batch', 'get', 'getSync', 'getMany', 'iterator.all', 'for await'].map((name) => `single process: ${name}`),
    ...['sequential put', 'concurrent put', 'batch'].map((name) => `live peer: ${name}`),
    ...['rate', 'wire', 'peak memory of sender', 'peak memory of receiver'].map((name) => `first sync: ${name}`),
    'latency: p50', 'latency: p99',
    ...['nothing of 10', 'nothing of 1000', '10 of 1000'].flatMap((what) => [`reconnect: ${what} changed, time`, `reconnect: ${what} changed, wire`]),
    'both write: rate'
  ])
  for (const figure of figures) {
    const what = `${figure.benchmark}: ${figure.name}`
    assert.is(figure.samples.length, rounds, what)
    assert.ok(figure.min > 0 && figure.min <= figure.median && figure.median <= figure.max, what)
    assert.is(figure.ratio !== undefined, ['single process', 'live peer', 'latency'].includes(figure.benchmark), what)
    assert.ok(output.includes(figure.name), `${what} is not in the table`)
  }
  const checked = (benchmark: string): number[] => figures.filter((figure) => figure.benchmark === benchmark).map((figure) => figure.checked.entries)
  const written = 50 + 200 + 200
  assert.equal(new Set(checked('single process')), new Set([(rounds + 1) * 2 * written]))
  assert.equal(new Set(checked('live peer')), new Set([(rounds + 1) * 3 * written]))
  assert.equal(new Set(checked('first sync')), new Set([rounds * entries]))
  assert.equal(new Set(checked('latency')), new Set([(rounds + 1) * 10]))
  assert.equal(checked('reconnect'), [10, 10, entries, entries, entries, entries])
  assert.equal(checked('both write'), [(rounds + 1) * 2 * 2 * 200])
  for (const { samples } of figures.map(({ checked }) => checked)) assert.ok(samples > 0)
})

test('bad usage is told apart from a failure', () => {
  const { status, output } = bench('--only', 'nothing of this name')
  assert.is(status, 2, output)
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
