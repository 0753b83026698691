/**
 * Guards the shape of the source. A rule takes a file's path and text and returns what is wrong with it; below,
 * each rule is first shown to fail on planted faults, then run over the repository.
 *
 * Imports go down only:
 *
 *     cli -> index -> replicated-level -> network -> storage | sync -> codec -> core
 *
 * with `errors`, `limits`, `options` and `types` open to everybody. Time, timers and randomness come from
 * `system.ts`, so that a simulation can own them; sockets and the console each have one place.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

type Rule = (path: string, text: string) => string[]

/** What each area of lib may import, beside itself and the shared modules. */
const areas: Record<string, string[]> = {
  shared: ['core'],
  core: [],
  codec: ['core'],
  storage: ['codec', 'core'],
  sync: ['codec', 'core'],
  network: ['storage', 'sync', 'codec', 'core'],
  encodings: [],
  replication: ['network', 'storage', 'sync', 'codec', 'core'],
  'replicated-level': ['replication', 'encodings', 'network', 'storage', 'sync', 'codec', 'core'],
  adopt: ['encodings', 'storage', 'codec', 'core'],
  system: [],
  index: ['replicated-level', 'adopt', 'replication', 'network', 'storage', 'sync', 'codec', 'core', 'system'],
  cli: ['index', 'replicated-level', 'adopt', 'replication', 'network', 'storage', 'sync', 'codec', 'core', 'system']
}
const sharedModules = ['errors', 'limits', 'options', 'types']

/** Words that have a place, and the files that are that place. */
const fences = [
  {
    what: 'the clock',
    words: /\bnew Date\(\)|\b(Date\.now|performance\.now|process\.hrtime)\b/,
    place: /^lib\/(system|cli[^/]*)\.ts$/
  },
  {
    what: 'a timer',
    words: /(?<![.\w])(globalThis\.)?(setTimeout|setInterval|setImmediate)\b|['"](node:)?timers(\/promises)?['"]/,
    place: /^lib\/(system|cli[^/]*)\.ts$/
  },
  {
    what: 'randomness',
    words: /\b(Math\.random|crypto\.(random\w+|getRandomValues))\b|\{[^}]*\brandom[^}]*\}\s*from ['"](node:)?crypto['"]/,
    place: /^lib\/(system|cli[^/]*)\.ts$/
  },
  {
    what: 'a socket',
    words: /^(?!\s*import type ).*['"]((node:)?(net|tls|dgram|http|https|http2)|bonjour-service|multicast-dns)['"]/m,
    place: /^lib\/network\/(tcp|tls|bonjour)\.ts$/
  },
  {
    what: 'the console',
    words: /\b(console\.\w+|process\.(stdout|stderr|stdin))\b/,
    place: /^lib\/cli[^/]*\.ts$/
  }
]

const linesMax = 500

const topLevel = [
  'lib', 'test', 'benchmarks', 'package.json', 'tsconfig.json', 'README.md', 'CHANGELOG.md',
  'package-lock.json', 'LICENSE', 'eslint.config.js'
]
/** Made by tools and never committed. */
const topLevelIgnored = /^(\..*|node_modules|dist|tmp|.*\.log|.*\.tgz)$/

/** Without comments, as far as a regular expression can tell. */
function codeOf (text: string): string {
  return text.replace(/^[ \t]*\/\*[\s\S]*?\*\/[ \t]*$/gm, '').replace(/(^|\s)\/\/.*$/gm, '')
}

/** The paths of the modules of ours that a file imports, type imports included. */
function importsOf (path: string, text: string): string[] {
  const code = codeOf(text)
  return [
    ...code.matchAll(/^\s*(?:import|export)\s+(?:[\w$*{}\s,]*?\sfrom\s+)?['"]([^'"]+)['"]/gm),
    ...code.matchAll(/\bimport\(\s*['"]([^'"]+)['"]/g)
  ].map(match => match[1]!)
    .filter(name => name.startsWith('.'))
    .map(name => posix.join(posix.dirname(path), name))
}

function areaOf (path: string): string {
  const name = path.split('/')[1]!.replace(/\.ts$/, '')
  if (sharedModules.includes(name)) return 'shared'
  return name.startsWith('cli-') ? 'cli' : name
}

function isLibSource (path: string): boolean {
  return path.startsWith('lib/') && path.endsWith('.ts')
}

const arrows: Rule = (path, text) => {
  if (!isLibSource(path)) return []
  const from = areaOf(path)
  const allowed = areas[from]
  if (allowed === undefined) return [`${from} has no place in the layers`]
  return importsOf(path, text)
    .filter(target => target.startsWith('lib/'))
    .map(areaOf)
    .filter(to => to !== from && to !== 'shared' && !allowed.includes(to))
    .map(to => `${from} must not import ${to}`)
}

const inside: Rule = (path, text) => {
  if (!isLibSource(path)) return []
  return importsOf(path, text).filter(target => !target.startsWith('lib/')).map(target => `imports ${target}`)
}

const fenced: Rule = (path, text) => {
  if (!isLibSource(path)) return []
  const code = codeOf(text)
  return fences
    .filter(({ words, place }) => words.test(code) && !place.test(path))
    .map(({ what, words }) => `${what} does not belong here: ${words.exec(code)![0].trim()}`)
}

const short: Rule = (path, text) => {
  const lines = text.trimEnd().split('\n').length
  return isLibSource(path) && lines > linesMax ? [`${lines} lines, at most ${linesMax}`] : []
}

const named: Rule = (path) => {
  return path.split('/')
    .filter(part => /^(utils?|helpers?|common|misc)(\.|$)/.test(part))
    .map(part => `${part} says nothing: name it after what it holds`)
}

const runs: Rule = (path, text) => {
  return /\.(test|long)\.ts$/.test(path) && !/\.run\(\)/.test(codeOf(text)) ? ['never calls run()'] : []
}

const namedExports: Rule = (path, text) => {
  const found = /^\s*export default\b|\bas default\b/m.exec(codeOf(text))
  return isLibSource(path) && found !== null ? [`has a default export: ${found[0].trim()}`] : []
}

// A test that depends on the machine picks its function first: `const onLinux = linux ? test : test.skip`.
const complete: Rule = (path, text) => {
  return [...codeOf(text).matchAll(/\w+\.(only|skip)\(.*/g)]
    .filter(() => path.startsWith('test/'))
    .map(match => match[0])
}

const optional: Rule = (path, text) => {
  return [...codeOf(text).matchAll(/^ {2}(?:readonly )?(\w+)\?: .*(?<! \| undefined)$/gm)]
    .filter(() => /^lib\/(adopt|options|replication)\.ts$/.test(path))
    .map(match => `${match[1]} may not be undefined`)
}

const placed: Rule = (path) => {
  const top = path.split('/')[0]!
  return topLevel.includes(top) || topLevelIgnored.test(top) ? [] : [`${top} does not belong at the top level`]
}

/** The first cycle of imports among the files, as a list of paths that ends where it began. */
function cycleIn (files: Map<string, string>): string[] {
  const done = new Set<string>()

  function visit (path: string, trail: string[]): string[] {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path]
    if (done.has(path)) return []
    for (const target of importsOf(path, files.get(path) ?? '')) {
      const cycle = visit(target, [...trail, path])
      if (cycle.length > 0) return cycle
    }
    done.add(path)
    return []
  }

  for (const path of files.keys()) {
    const cycle = visit(path, [])
    if (cycle.length > 0) return cycle
  }
  return []
}

/** All rules, each with files it must refuse and files it must let pass. */
const rules: Array<{ states: string, rule: Rule, bad: Array<[string, string]>, good: Array<[string, string]> }> = [
  {
    states: 'imports in lib go down only',
    rule: arrows,
    bad: [
      ['lib/core/hlc.ts', "import { read } from '../codec/bytes.ts'"],
      ['lib/storage/log.ts', "import type { Session } from '../sync/session.ts'"],
      ['lib/sync/session.ts', "import {\n  Store,\n  open\n} from '../storage/store.ts'"],
      ['lib/network/links.ts', "export * from '../replicated-level.ts'"],
      ['lib/replicated-level.ts', "import { system } from './system.ts'"],
      ['lib/storage/log.ts', "const system = await import('../system.ts')"],
      ['lib/errors.ts', "import './codec/bytes.ts'"],
      ['lib/index.ts', "import { main } from './cli.ts'"],
      ['lib/unknown/thing.ts', '']
    ],
    good: [
      ['lib/cli-commands.ts', "import { ReplicatedLevel } from './index.ts'\nimport { system } from './system.ts'"],
      ['lib/network/links.ts', "import { log } from '../storage/log.ts'\nimport { limit } from '../limits.ts'"],
      ['lib/core/hlc.ts', "/**\n * import { a } from '../codec/bytes.ts'\n */\n// import '../system.ts'"],
      ['lib/core/hlc.ts', "export const bytes = Uint8Array.from('../codec/bytes.ts')"]
    ]
  },
  {
    states: 'lib imports nothing of ours from outside lib',
    rule: inside,
    bad: [['lib/core/hlc.ts', "import { fake } from '../../test/support/fake.ts'"]],
    good: [['lib/core/hlc.ts', "import { fake } from './fake.ts'"]]
  },
  {
    states: 'clock, timers, randomness, sockets and console stay in their places',
    rule: fenced,
    bad: [
      ['lib/core/hlc.ts', 'const now = Date.now()'],
      ['lib/core/hlc.ts', 'const now = new Date()'],
      ['lib/storage/store.ts', 'const start = performance.now()'],
      ['lib/storage/store.ts', 'const start = process.hrtime.bigint()'],
      ['lib/sync/session.ts', 'setTimeout(retry, 10)'],
      ['lib/sync/session.ts', 'globalThis.setInterval(retry, 10)'],
      ['lib/sync/session.ts', 'await new Promise(setImmediate)'],
      ['lib/network/links.ts', "import { setTimeout as sleep } from 'node:timers/promises'"],
      ['lib/network/links.ts', 'const jitter = Math.random()'],
      ['lib/core/ids.ts', "import { randomBytes } from 'node:crypto'"],
      ['lib/core/ids.ts', 'const id = crypto.randomUUID()'],
      ['lib/network/links.ts', "import { connect } from 'node:net'"],
      ['lib/network/links.ts', "import tls from 'node:tls'"],
      ['lib/network/peers.ts', "import { Bonjour } from 'bonjour-service'"],
      ['lib/network/peers.ts', "const { createSocket } = await import('node:dgram')"],
      ['lib/replicated-level.ts', "console.log('open')"],
      ['lib/replicated-level.ts', "process.stderr.write('open')"]
    ],
    good: [
      ['lib/system.ts', 'const now = Date.now(), id = randomBytes(16), timer = setTimeout(done, 1)'],
      ['lib/cli.ts', 'console.log(Date.now())'],
      ['lib/network/tcp.ts', "import { connect } from 'node:net'\nimport tls from 'node:tls'"],
      ['lib/network/bonjour.ts', "import { Bonjour } from 'bonjour-service'"],
      ['lib/network/tcp.ts', 'socket.setTimeout(idleTimeoutMs)'],
      ['lib/network/links.ts', "import type { Socket } from 'node:net'"],
      ['lib/types.ts', 'randomBytes (length: number): Uint8Array'],
      ['lib/core/hlc.ts', '/** Never Date.now(): time is an argument. */\nconst a = 1 // not Math.random()'],
      ['test/core/hlc.test.ts', 'const now = Date.now()']
    ]
  },
  {
    states: `no file in lib is over ${linesMax} lines`,
    rule: short,
    bad: [['lib/core/hlc.ts', 'a\n'.repeat(linesMax + 1)]],
    good: [['lib/core/hlc.ts', 'a\n'.repeat(linesMax)]]
  },
  {
    states: 'files and folders are named after what they hold',
    rule: named,
    bad: [['lib/utils.ts', ''], ['lib/core/helpers/bytes.ts', ''], ['test/common.ts', ''], ['lib/misc/a.ts', '']],
    good: [['lib/core/common-prefix.ts', '']]
  },
  {
    states: 'every test file calls run()',
    rule: runs,
    bad: [['test/a.test.ts', "test('a', () => {})"], ['test/a.long.ts', '// test.run()']],
    good: [['test/a.test.ts', 'test.run()'], ['test/support/a.ts', '']]
  },
  {
    states: 'exports are named',
    rule: namedExports,
    bad: [['lib/a.ts', 'export default class {}'], ['lib/a.ts', 'export { a as default }']],
    good: [['lib/a.ts', 'export const a = 1'], ['eslint.config.js', 'export default []']]
  },
  {
    states: 'no test is skipped or singled out',
    rule: complete,
    bad: [['test/a.test.ts', "test.only('a', () => {})"], ['test/a.test.ts', "suite.skip('a', () => {})"]],
    good: [['test/a.test.ts', 'const onLinux = linux ? test : test.skip']]
  },
  {
    states: 'options may be given as undefined, as those of every Level: TypeScript can be told to refuse that otherwise',
    rule: optional,
    bad: [['lib/options.ts', 'export interface Options {\n  /** Where. */\n  host?: string\n}']],
    good: [['lib/options.ts', 'export interface Options {\n  host?: string | undefined\n}'], ['lib/core/hlc.ts', 'interface Options {\n  host?: string\n}']]
  },
  {
    states: 'the top level holds only what it must',
    rule: placed,
    bad: [['src/a.ts', ''], ['NOTES.md', ''], ['tsconfig.build.json', '']],
    good: [['lib/a.ts', ''], ['.gitignore', ''], ['node_modules', ''], ['LICENSE', '']]
  }
]

/** Every file of ours by its path, and every other name at the top level with an empty text. */
function readRepository (): Map<string, string> {
  const files = new Map(readdirSync('.').map(name => [name, '']))
  for (const folder of ['lib', 'test', 'benchmarks']) {
    if (!files.delete(folder)) continue
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      const path = posix.join(entry.parentPath.replaceAll('\\', '/'), entry.name)
      if (entry.isFile() && !path.includes('/node_modules/')) files.set(path, path.endsWith('.ts') ? readFileSync(path, 'utf8') : '')
    }
  }
  return files
}

// The rules are not for this file's own planted faults.
const own = 'test/tidy.test.ts'
const repository = readRepository()
const sources = [...repository].filter(([path]) => path !== own)

for (const { states, rule, bad, good } of rules) {
  test(`${states}: planted faults are found`, () => {
    for (const [path, text] of bad) assert.is.not(rule(path, text).length, 0, `missed in ${path}: ${text}`)
    for (const [path, text] of good) assert.equal(rule(path, text), [], `refused ${path}: ${text}`)
  })

  test(states, () => {
    assert.equal(sources.flatMap(([path, text]) => rule(path, text).map(fault => `${path}: ${fault}`)), [])
  })
}

test('no imports go in a circle: a planted one is found', () => {
  const files = new Map([
    ['lib/a.ts', "import { b } from './core/b.ts'"],
    ['lib/core/b.ts', "import { c } from './c.ts'"],
    ['lib/core/c.ts', "export { d } from '../d.ts'"],
    ['lib/d.ts', '']
  ])
  assert.equal(cycleIn(files), [])
  files.set('lib/d.ts', "import type { B } from './core/b.ts'")
  assert.equal(cycleIn(files), ['lib/core/b.ts', 'lib/core/c.ts', 'lib/d.ts', 'lib/core/b.ts'])
})

test('no imports go in a circle', () => {
  assert.equal(cycleIn(new Map(sources.filter(([path]) => path.endsWith('.ts')))), [])
})

test('the repository was read', () => {
  assert.ok(repository.has('package.json'))
  assert.ok(sources.filter(([path]) => /^lib\/.+\.ts$/.test(path)).length > 0)
})

test.run()
