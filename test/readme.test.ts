/**
 * The README is true: its examples run and print what they say, and it names every option, event and error.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { commands } from '../lib/cli-commands.ts'
import { Replication } from '../lib/replication.ts'
import { newDirectory } from './support/directory.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const readme = await readFile(join(root, 'README.md'), 'utf8')
const source = async (name: string): Promise<string> => await readFile(join(root, 'lib', name), 'utf8')

const examples = [...readme.matchAll(/```js\n([^`]+)```/g)].map(([, code]) => code!)

for (const [index, code] of examples.entries()) {
  test(`example ${index + 1} prints what it says`, async () => {
    const directory = newDirectory()
    await mkdir(directory)
    const file = join(directory, 'example.mts')
    await writeFile(file, code.replace("'replicated-level'", JSON.stringify(join(root, 'lib/index.ts')))
      // They find each other by it, and nobody else who runs this test.
      .replaceAll(/group: '(\w+)'/g, `group: '$1-${process.pid}-${index}'`))
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', import.meta.resolve('tsx'), file], { cwd: directory, timeout: 240_000, env: { ...process.env, HOME_SECRET: randomBytes(32).toString('base64url') } })
    const expected = [...code.matchAll(/\/\/ => (.+)/g)].map(([, line]) => line!)
    assert.ok(expected.length > 0)
    assert.equal(stdout.trim().split('\n'), expected)
  })
}

test('there are examples', () => { assert.is(examples.length, 4) })

test('every error code has a line, and no other', async () => {
  const codes = [...(await source('errors.ts')).matchAll(/\| '([A-Z_]+)'/g)].map(([, code]) => code!)
  const described = [...readme.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code]) => code!)
  assert.equal(described.sort(), codes.sort())
})

test('every option has a line, and no other', async () => {
  const text = await source('options.ts')
  const options = [.../interface ReplicationOptions[^{]*\{(.+?)\n\}/s.exec(text)![1]!.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name!)
  const table = readme.slice(readme.indexOf('## Options'), readme.indexOf('## Events'))
  const described = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name!)
  assert.equal(described.sort(), options.sort())
})

test('every event of replication has a line', async () => {
  const code = await source('replicated-level.ts') + await source('network/replicator.ts')
  const emitted = new Set([...code.matchAll(/emit\((?:link\.direction === 'outbound' \? )?'(\w+)'(?: : '(\w+)')?/g)].flatMap(([, a, b]) => b === undefined ? [a!] : [a!, b]))
  const table = readme.slice(readme.indexOf('## Events'), readme.indexOf('## `db.replication`'))
  const described = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name!)
  assert.equal(described.sort(), [...emitted].sort())
})

test('every member of db.replication has a line, and no other', () => {
  const members = Object.getOwnPropertyNames(Replication.prototype).filter((name) => name !== 'constructor')
  const table = readme.slice(readme.indexOf('## `db.replication`'), readme.indexOf('## Command line'))
  const described = [...table.matchAll(/^\| (`[^|]+`) \|/gm)].flatMap(([, names]) => [...names!.matchAll(/`(\w+)/g)].map(([, name]) => name!))
  assert.equal(described.sort(), members.sort())
})

test('every option and command of the command line is named', async () => {
  const section = readme.slice(readme.indexOf('## Command line'), readme.indexOf('## Errors'))
  const usages = [...Object.values(commands).map(({ usage }) => usage.split(' ')[0]!), 'exit']
  const named = [...section.slice(section.indexOf('opens a replica')).matchAll(/`(\w+)[^`]*`/g)].map(([, name]) => name!)
  assert.equal(usages.filter((name) => !named.includes(name)), [])
  const options = [.../^const usage = `([^`]+)`/m.exec(await source('cli.ts'))![1]!.matchAll(/--[\w-]+/g)].map(([name]) => name)
  assert.ok(options.length >= 8)
  assert.equal(options.filter((name) => !section.includes(name)), [])
})

test.run()
