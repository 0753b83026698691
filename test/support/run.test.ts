/** The test runner, on planted files: it must notice every way in which a file can fail to test anything. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const head = `
import { test } from '${import.meta.resolve('uvu')}'
import * as assert from '${import.meta.resolve('uvu/assert')}'
`
const passing = `${head}
test('one', () => {})
test('two', () => {})
test.run()
`

/** Runs the runner on a directory that holds just these files. */
function run (files: Record<string, string>, ...args: string[]) {
  const directory = mkdtempSync(join(tmpdir(), 'run-test-'))
  try {
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }')
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(directory, name, '..'), { recursive: true })
      writeFileSync(join(directory, name), text)
    }
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', 'test/support/run.ts', '--directory', directory, ...args],
      { encoding: 'utf8', env: { ...process.env, SEED: '42' } }
    )
    assert.is(stderr, '')
    return { status, output: stdout, lastLine: stdout.trimEnd().split('\n').at(-1) }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('passing files give a line each and a count', () => {
  const { status, output, lastLine } = run({ 'a.test.ts': passing, 'b/c.test.ts': passing, 'd.ts': 'throw 1' })
  assert.is(lastLine, '4 passed, 0 failed')
  assert.is(status, 0)
  assert.match(output, /^ok .*a\.test\.ts \(2 passed, \d+\.\d s\)$/m)
  assert.match(output, /^ok .*c\.test\.ts/m)
})

test('a failing test fails the run and shows the whole output', () => {
  const { status, output, lastLine } = run({
    'a.test.ts': passing,
    'b.test.ts': `${head}
      console.log('a hint')
      test('good', () => {})
      test('bad', () => assert.is(1, 2))
      test.run()`
  })
  assert.is(lastLine, '3 passed, 1 failed')
  assert.is(status, 1)
  assert.match(output, 'a hint')
  assert.match(output, '"bad"')
  assert.match(output, '1 of 2 tests failed')
})

test('a file that never calls run() fails', () => {
  const { status, output, lastLine } = run({ 'a.test.ts': `${head} test('one', () => {})` })
  assert.is(lastLine, '0 passed, 1 failed')
  assert.is(status, 1)
  assert.match(output, 'no test reported')
})

test('a file without tests fails', () => {
  const { lastLine, output } = run({ 'a.test.ts': `${head} test.run()` })
  assert.is(lastLine, '0 passed, 1 failed')
  assert.match(output, 'no tests')
})

test('a suite whose before hook throws fails', () => {
  const { lastLine } = run({
    'a.test.ts': `${head}
      test.before(() => { throw new Error('no') })
      test('one', () => {})
      test.run()`
  })
  assert.is(lastLine, '0 passed, 1 failed')
})

test('a test that never settles fails', () => {
  const { lastLine, output } = run({
    'a.test.ts': `${head}
      test('one', () => new Promise(() => {}))
      test.run()`
  })
  assert.is(lastLine, '0 passed, 1 failed')
  assert.match(output, 'Exiting early')
})

test('a file that crashes after its tests fails', () => {
  const { lastLine, output } = run({
    'a.test.ts': `${head}
      test('one', () => { setTimeout(() => { throw new Error('late') }, 50) })
      test.run()`
  })
  assert.is(lastLine, '1 passed, 1 failed')
  assert.match(output, 'exit status 1')
})

test('a leaked handle fails', () => {
  const { lastLine, output } = run({
    'a.test.ts': `${head}
      test('one', () => { setInterval(() => {}, 1000) })
      test.run()`
  }, '--exit-limit', '0.3')
  assert.is(lastLine, '1 passed, 1 failed')
  assert.match(output, 'leaked handle: still running 0.3 s after its last test')
})

test('a file over the time limit is killed', () => {
  const { lastLine, output } = run({
    'a.test.ts': `${head}
      test('one', () => new Promise(resolve => setTimeout(resolve, 60_000)))
      test.run()`
  }, '--time-limit', '1')
  assert.is(lastLine, '0 passed, 1 failed')
  assert.match(output, 'not done after 1 s, killed')
})

test('skipped tests are counted as skipped', () => {
  const { status, lastLine } = run({
    'a.test.ts': `${head}
      const onMars = test['skip']
      test('one', () => {})
      onMars('two', () => {})
      test.run()`
  })
  assert.is(lastLine, '1 passed, 0 failed, 1 skipped')
  assert.is(status, 0)
})

test('filters, --long and SEED select what runs and how', () => {
  const files = {
    'a.test.ts': passing,
    'b.test.ts': 'throw 1',
    'c.long.ts': `${head}
      test('the seed', () => assert.is(process.env.SEED, '42'))
      test.run()`
  }
  assert.is(run(files, 'a.te').lastLine, '2 passed, 0 failed')
  assert.is(run(files, '--long').lastLine, '1 passed, 0 failed')
  assert.is(run(files, 'nothing').status, 1)
})

test.run()
