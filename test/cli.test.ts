/**
 * The command line, as scripts use it.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { runCommand } from '../lib/cli-commands.ts'
import { ReplicatedLevel } from '../lib/index.ts'
import { newDirectory } from './support/directory.ts'
import { eventually } from './support/eventually.ts'
import { rejection } from './support/rejection.ts'

const cli = fileURLToPath(new URL('../lib/cli.ts', import.meta.url))

interface Run {
  stdout: string
  stderr: string
  write (text: string): void
  end (): void
  signal (name: NodeJS.Signals): void
  /** Nobody reads its notices any more. */
  closeStderr (): void
  readonly code: Promise<number | null>
}

/** What is still there when a test fails would keep this process alive. */
const alive = new Set<ReturnType<typeof spawn>>()
test.after(() => { for (const child of alive) child.kill() })

function start (...args: string[]): Run {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), cli, ...args])
  alive.add(child)
  child.once('close', () => { alive.delete(child) })
  const run: Run = {
    stdout: '',
    stderr: '',
    write: (text) => { child.stdin.write(text) },
    end: () => { child.stdin.end() },
    closeStderr: () => { child.stderr.destroy() },
    signal: (name) => { child.kill(name) },
    code: new Promise((resolve) => { child.once('close', resolve) })
  }
  child.stdout.on('data', (text) => { run.stdout += String(text) })
  child.stderr.on('data', (text) => { run.stderr += String(text) })
  return run
}

async function script (commands: string, ...args: string[]): Promise<{ code: number | null, stdout: string, stderr: string }> {
  const run = start(...args)
  run.write(commands)
  run.end()
  return { code: await run.code, stdout: run.stdout, stderr: run.stderr }
}

test('a script runs in order, and leaves with 0', async () => {
  const { code, stdout } = await script('put a 1\nput "b c" two words\nget a\nget "b c"\nls\nls b\ncount\ndel a\ncount\nconflicts\npeers\n', newDirectory(), '--port', '0')
  assert.is(stdout, 'ok\nok\n1\ntwo words\na 1\n"b c" two words\n"b c" two words\n2\nok\n1\nno conflicts\nno peers\n')
  assert.is(code, 0)
})

test('a failed command is told, the rest runs, and the exit status is 1', async () => {
  const { code, stdout, stderr } = await script('get nothing\nfly\nput a 1\nget a\n', newDirectory(), '--port', '0')
  assert.is(stdout, 'ok\n1\n')
  assert.match(stderr, /"nothing" is not there/)
  assert.match(stderr, /unknown command "fly"/)
  assert.is(code, 1)
})

test('a key with spaces that is no JSON string is refused, and its first word is not deleted', async () => {
  const { code, stdout, stderr } = await script('put two 1\nput "two words" 2\ndel two words\nget two words\nget "two words" more\nls\ndel "two words"\nls\n', newDirectory(), '--port', '0')
  assert.is(stdout, 'ok\nok\ntwo 1\n"two words" 2\nok\ntwo 1\n')
  assert.match(stderr, /^del <key>; a key with spaces is written as a JSON string$/m)
  assert.is(code, 1)
})

test('bad usage leaves with 2, and says what is right', async () => {
  for (const args of [[], ['a', 'b'], ['a', '--port', 'x'], ['a', '--fly'], [newDirectory(), '--host', '0.0.0.0'], [newDirectory(), '--port', '0', '--peer', 'nowhere:0']]) {
    const { code, stderr } = await script('', ...args)
    assert.is(code, 2, args.join(' '))
    assert.ok(stderr.length > 0)
  }
  const { code, stderr } = await script('', newDirectory(), '--secret-file', 'nowhere')
  assert.is(code, 2)
  assert.match(stderr, /^--secret-file cannot be read: ENOENT/)
  assert.match((await script('', join(cli, 'db'), '--port', '0')).stderr, /^ENOTDIR: not a directory/)
})

test('--json answers one value a line; import takes a file', async () => {
  const directory = newDirectory()
  await mkdir(directory)
  const file = join(directory, 'entries.ndjson')
  await writeFile(file, Array.from({ length: 2500 }, (_, index) => JSON.stringify({ key: `key-${index}`, value: { index } })).join('\n'))
  const { code, stdout } = await script(`import ${file}\ncount\nget key-7\n`, join(directory, 'db'), '--port', '0', '--json')
  assert.equal(stdout.trim().split('\n').map((line) => JSON.parse(line)), [{ imported: 2500 }, { count: 2500 }, { key: 'key-7', value: '{"index":7}' }])
  assert.is(code, 0)
})

test('a file is imported however large its values are, and text may hold any line separator but an end of line', async () => {
  const directory = newDirectory()
  await mkdir(directory)
  const file = join(directory, 'entries.ndjson')
  await writeFile(file, Array.from({ length: 700 }, (_, index) => JSON.stringify({ key: `key-${index}`, value: '\u2028\u2029é'.repeat(20_000) })).join('\r\n'))
  const { code, stdout } = await script(`import ${file}\ncount\nput a one\u2028two\nget a\n`, join(directory, 'db'), '--port', '0')
  assert.equal(stdout.split('\n'), ['700 entries', '700', 'ok', 'one\u2028two', ''])
  assert.is(code, 0)
})

test('empty lines of an imported file are no entries, and a file that cannot be read is told once', async () => {
  const directory = newDirectory()
  const file = join(directory, 'entries.ndjson')
  await mkdir(directory, { recursive: true })
  await writeFile(file, '{"key":"a","value":"1"}\n\n   \n{"key":"b","value":"2"}\n')
  const { code, stdout, stderr } = await script(`import ${file}\nimport ${directory}\n`, join(directory, 'db'), '--port', '0')
  assert.is(stdout, '2 entries\n')
  assert.match(stderr, /^EISDIR: illegal operation/m)
  assert.is(code, 1)
})

test('a byte order mark before an imported file or a script is no part of it', async () => {
  const directory = newDirectory()
  const file = join(directory, 'entries.ndjson')
  await mkdir(directory)
  await writeFile(file, '\ufeff{"key":"a","value":"\ufeff1"}\n')
  const { code, stdout } = await script(`\ufeffimport ${file}\nget a\n`, join(directory, 'db'), '--port', '0')
  assert.is(stdout, '1 entries\n\ufeff1\n')
  assert.is(code, 0)
})

test('SIGTERM ends a wait for others, and an import after the entries that have been read; what follows is not run', async () => {
  const directory = newDirectory()
  const run = start(directory, '--port', '0')
  run.write('put a 1\nsync\nput a 2\n')
  await eventually(() => run.stdout === 'ok\n')
  run.signal('SIGTERM')
  assert.is(await run.code, 1)
  assert.match(run.stderr, /^stopped before all were in sync$/m)
  const db = new ReplicatedLevel(directory, { port: false })
  const file = join(directory, 'entries.ndjson')
  await writeFile(file, Array.from({ length: 1500 }, (_, index) => JSON.stringify({ key: `key-${index}`, value: '1' })).join('\n'))
  assert.is((await rejection(runCommand(db, `import ${file}`, () => {}, AbortSignal.abort())) as Error).message, 'stopped after 1000 entries')
  assert.is(await db.get('a'), '1')
  assert.is((await db.keys().all()).length, 1001)
  await db.close()
})

test('what there is of a line when SIGTERM comes is not run', async () => {
  const directory = newDirectory()
  const run = start(directory, '--port', '0')
  run.write('put a 1\nput a 2')
  await eventually(() => run.stdout === 'ok\n')
  run.signal('SIGTERM')
  assert.is(await run.code, 0)
  assert.is((await script('get a\n', directory, '--port', '0')).stdout, '1\n')
})

test('a script runs to its end where readline refuses to prompt behind the end of its input, as Node.js 24 does', async () => {
  const refusing = `import { Interface } from 'node:readline'
    const { prompt } = Interface.prototype
    Interface.prototype.prompt = function () {
      if (this.closed) throw new Error('readline was closed')
      prompt.call(this)
    }`
  process.env.NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(refusing)}`
  try {
    assert.is((await script('put a 1\nput b 2\nget b\n', newDirectory(), '--port', '0')).stdout, 'ok\nok\n2\n')
  } finally {
    delete process.env.NODE_OPTIONS
  }
})

test('with a group they find each other, and with --no-discovery nobody, until a --peer is named', async () => {
  const group = `cli-${randomBytes(4).toString('hex')}`
  const open = async (...args: string[]): Promise<{ run: Run, address: string }> => {
    const run = start(newDirectory(), '--port', '0', '--group', group, ...args)
    return { run, address: (await eventually(() => /listening on (\S+)/.exec(run.stderr)?.[1]))! }
  }
  const runs = [await open(), await open('--no-discovery'), await open()]
  const [first, hermit, second] = runs.map(({ run }) => run) as [Run, Run, Run]
  const links = async (run: Run): Promise<number> => {
    const before = run.stdout.length
    run.write('peers\ncount\n')
    const answer = await eventually(() => /^([\s\S]*)^0\n/m.exec(run.stdout.slice(before))?.[1])
    return answer!.split('\n').filter((line) => /\blive\b/.test(line)).length
  }
  await eventually(async () => await links(first) === 1 && await links(second) === 1, { message: 'they find each other' })
  assert.is(await links(hermit), 0)
  const friend = await open('--no-discovery', '--peer', runs[1]!.address)
  await eventually(async () => await links(hermit) === 1 && await links(friend.run) === 1, { message: 'a peer that is named is linked' })
  assert.equal([await links(first), await links(second)], [1, 1])
  for (const { run } of [...runs, friend]) {
    run.end()
    assert.is(await run.code, 0)
  }
})

test('two of them replicate; SIGTERM closes one, and it opens again', async () => {
  const [first, second] = [newDirectory(), newDirectory()]
  const a = start(first, '--port', '0', '--group', 'cli')
  const address = await eventually(() => /listening on (\S+)/.exec(a.stderr)?.[1])
  a.write('put from a\n')
  const b = start(second, '--port', '0', '--group', 'cli', '--peer', address!)
  b.write('sync\nget from\n')
  await eventually(() => b.stdout === 'in sync\na\n', { message: 'b has it' })
  b.signal('SIGTERM')
  assert.is(await b.code, 0)
  await eventually(() => /^disconnected from 127\.0\.0\.1:\d+: The peer left: The database was closed$/m.test(a.stderr))
  a.end()
  assert.is(await a.code, 0)
  assert.is((await script('get from\n', second, '--port', '0')).stdout, 'a\n')
})

test('notices that nobody reads any more end nothing', async () => {
  const run = start(newDirectory(), '--port', '0')
  await eventually(() => run.stderr.includes('replica '))
  run.closeStderr()
  run.write('get nothing\nput a 1\n')
  await eventually(() => run.stdout === 'ok\n')
  run.write('get nothing\nget a\n')
  run.end()
  assert.is(await run.code, 1)
  assert.is(run.stdout, 'ok\n1\n')
})

test('a secret is long, and another one each time; help and version answer', async () => {
  const [one, two] = [await script('', 'secret'), await script('', 'secret')]
  assert.ok(one.stdout.trim().length >= 32 && one.stdout !== two.stdout)
  assert.match((await script('', '--help')).stdout, /usage/)
  assert.match((await script('', '--version')).stdout, /^\d+\.\d+\.\d+\n$/)
})

test.run()
