/**
 * The command line, as a person at a terminal sees it. The terminal is made by Python, since Node.js makes none.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from './support/directory.ts'
import { eventually } from './support/eventually.ts'
import { closeGates, openGate } from './support/gate.ts'
import { closeAll, openDatabase } from './support/replicas.ts'

const cli = fileURLToPath(new URL('../lib/cli.ts', import.meta.url))
const inTerminal = ['-c', 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)']
const hasTerminals = spawnSync('python3', [...inTerminal, 'true']).status === 0
if (!hasTerminals) console.log('SKIPPED: a terminal takes Python (python3)')
const atTerminal = hasTerminals ? test : test.skip

interface Terminal {
  /** All that was shown, with what moves the cursor. */
  shown: string
  type (text: string): void
  readonly code: Promise<number | null>
}

/** What is still there when a test fails would keep this process alive. */
const alive = new Set<ReturnType<typeof spawn>>()
test.after(async () => {
  for (const child of alive) child.kill('SIGKILL')
  closeGates()
  await closeAll()
})

function open (...args: string[]): Terminal {
  const command = [process.execPath, '--import', import.meta.resolve('tsx'), cli, ...args]
  const child = spawn('python3', [...inTerminal, ...command], { env: { ...process.env, TERM: 'xterm' } })
  alive.add(child)
  child.once('close', () => { alive.delete(child) })
  const terminal: Terminal = {
    shown: '',
    type: (text) => { child.stdin.write(text) },
    code: new Promise((resolve) => { child.once('close', resolve) })
  }
  child.stdout.on('data', (text) => { terminal.shown += String(text) })
  return terminal
}

/** Resolves once that is shown, and not before what was shown already. */
async function shows ({ shown: before }: Terminal, terminal: Terminal, what: RegExp): Promise<void> {
  await eventually(() => what.test(terminal.shown.slice(before.length)), { message: `${what} is shown` })
    .catch((error) => { throw new Error(`${error.message}, but ${JSON.stringify(terminal.shown)}`) })
}

atTerminal('there is a prompt; commands are completed, their answers shown, and what fails is told and changes no exit status', async () => {
  const terminal = open(newDirectory(), '--port', '0')
  await shows({ ...terminal, shown: '' }, terminal, /^listening on [\s\S]*^replica [0-9a-f]{32}[\s\S]*> /m)
  const ask = async (text: string, answer: RegExp): Promise<void> => {
    const before = { ...terminal }
    terminal.type(text)
    await shows(before, terminal, answer)
  }
  await ask('put milk 2 litres\r', /^ok\r\n[\s\S]*> /m)
  await ask('ge', /ge/)
  await ask('\t', /t/) // which is no key to complete with when it comes together with others
  await ask(' milk\r', /^2 litres\r\n[\s\S]*> /m)
  await ask('get nothing\r', /"nothing" is not there[\s\S]*> /)
  terminal.type('exit\r')
  assert.is(await terminal.code, 0)
})

atTerminal('an import shows how far it has come', async () => {
  const directory = newDirectory()
  await mkdir(directory)
  const file = join(directory, 'entries.ndjson')
  await writeFile(file, Array.from({ length: 5000 }, (_, index) => JSON.stringify({ key: `key-${index}`, value: 'x' })).join('\n'))
  const terminal = open(join(directory, 'db'), '--port', '0')
  await shows({ ...terminal, shown: '' }, terminal, /replica [0-9a-f]{32}[\s\S]*> /)
  terminal.type(`import ${file}\rexit\r`)
  assert.is(await terminal.code, 0)
  const parts = [...terminal.shown.matchAll(/import \[#*\.*\] (\d+)%/g)].map(([, part]) => Number(part))
  assert.equal(parts, [...parts].sort((a, b) => a - b))
  assert.ok(parts.length >= 5 && parts[0]! < 50 && parts.at(-1) === 100, parts.join())
  assert.match(terminal.shown, /^(?:.*\x1b\[K)?5000 entries\r$/m) // eslint-disable-line no-control-regex
})

atTerminal('a first sync that takes longer than open() shows how far it has come until it is over, while commands are typed', async () => {
  const source = await openDatabase()
  for (let start = 0; start < 20_000; start += 1000) await source.batch(Array.from({ length: 1000 }, (_, index) => ({ type: 'put', key: `key-${start + index}`, value: 'x'.repeat(200) })))
  const way = await openGate(source.replication.address!.port, 1024 * 1024)
  const terminal = open(newDirectory(), '--port', '0', '--peer', way.address)
  await shows({ ...terminal, shown: '' }, terminal, /replica [0-9a-f]{32}[\s\S]*sync \[#+\.+\] [1-9]\d?% > /m)
  const before = { ...terminal }
  terminal.type('put a 1\r')
  await shows(before, terminal, /^ok\r\n[\s\S]*sync \[#+\.+\] [1-9]\d?% > /m)
  const held = { ...terminal }
  way.open()
  await shows(held, terminal, /\x1b\[0J> /) // eslint-disable-line no-control-regex
  terminal.type('count\r')
  await shows(held, terminal, /^20001\r\n/m)
  assert.is(await source.get('a'), '1')
  terminal.type('exit\r')
  assert.is(await terminal.code, 0)
})

test.run()
