/**
 * Runs the test files, each in a process of its own, and says how many tests passed.
 *
 *     node --import tsx test/support/run.ts [--long] [filter ...]
 *
 * uvu alone is too trusting: a file that forgets `test.run()` runs nothing and exits 0, a leaked handle hangs for
 * ever, and a `before` hook that throws skips its suite and exits 0. So a file passes only if it exits 0, printed
 * exactly one uvu summary, ran at least one test, passed as many as it has, and ended soon after its summary.
 *
 * Files named `*.test.ts` run always, `*.long.ts` only with `--long`. A filter is a part of a path. The last line
 * is `N passed, N failed`, with `, N skipped` if any; the exit status is 1 if anything failed.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseArgs, stripVTControlCharacters } from 'node:util'

const concurrency = 2

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    directory: { type: 'string', default: 'test' },
    long: { type: 'boolean', default: false },
    'time-limit': { type: 'string' },
    'exit-limit': { type: 'string', default: '60' }
  }
})

/** How long one file may take, and how long its process may live on after its last test. */
const timeLimitSeconds = Number(options['time-limit'] ?? (options.long ? 3600 : 600))
const exitLimitSeconds = Number(options['exit-limit'])

interface Result {
  path: string
  passed: number
  failed: number
  skipped: number
  seconds: number
  faults: string[]
  output: string
}

const alive = new Set<ChildProcess>()

function findFiles (): string[] {
  const suffix = options.long ? '.long.ts' : '.test.ts'
  return readdirSync(options.directory, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith(suffix))
    .map(name => join(options.directory, name))
    .filter(path => filters.length === 0 || filters.some(filter => path.includes(filter)))
    .sort()
}

/** Kills a test file with all the processes it started. */
function kill (child: ChildProcess): void {
  try {
    if (process.platform === 'win32') child.kill('SIGKILL')
    else process.kill(-child.pid!, 'SIGKILL')
  } catch {
    // It ended by itself just now.
  }
}

/** The sum of one field over all uvu summaries in the output, for example `  Total:     12`. */
function sumOf (field: string, output: string): number {
  const lines = output.matchAll(new RegExp(`^  ${field}: +(\\d+)$`, 'gm'))
  return [...lines].reduce((sum, line) => sum + Number(line[1]), 0)
}

function summariesIn (output: string): number {
  return [...output.matchAll(/^ {2}Duration: +\S+$/gm)].length
}

function runFile (path: string): Promise<Result> {
  return new Promise(resolve => {
    const start = performance.now()
    const faults: string[] = []
    const chunks: Buffer[] = []
    let exitTimer: NodeJS.Timeout | undefined

    // A group of its own, so that what a test has started dies with it.
    const child = spawn(process.execPath, ['--import', 'tsx', path], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: process.platform !== 'win32'
    })
    alive.add(child)

    const stop = (fault: string) => {
      faults.push(fault)
      kill(child)
    }
    const timer = setTimeout(() => {
      stop(`not done after ${timeLimitSeconds} s, killed`)
    }, timeLimitSeconds * 1000)

    const read = (chunk: Buffer) => {
      chunks.push(chunk)
      if (exitTimer === undefined && summariesIn(text()) > 0) {
        clearTimeout(timer)
        exitTimer = setTimeout(() => {
          stop(`leaked handle: still running ${exitLimitSeconds} s after its last test, killed`)
        }, exitLimitSeconds * 1000)
      }
    }
    const text = () => stripVTControlCharacters(Buffer.concat(chunks).toString())

    child.stdout.on('data', read)
    child.stderr.on('data', read)
    child.on('error', err => { faults.push(err.message) })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      clearTimeout(exitTimer)
      alive.delete(child)

      const output = text()
      const total = sumOf('Total', output)
      const passed = sumOf('Passed', output)
      const skipped = sumOf('Skipped', output)
      const summaries = summariesIn(output)

      if (faults.length === 0) {
        if (passed !== total) faults.push(`${total - passed} of ${total} tests failed or did not run`)
        else if (summaries === 0) faults.push('no test reported: is `test.run()` missing, or did it crash?')
        else if (summaries > 1) faults.push(`${summaries} summaries: call every \`run()\` in the same tick`)
        else if (total + skipped === 0) faults.push('no tests')
        if (code !== 0) faults.push(signal === null ? `exit status ${code}` : `killed by ${signal}`)
      }

      resolve({
        path: relative('.', path),
        passed,
        failed: faults.length === 0 ? 0 : Math.max(1, total - passed),
        skipped,
        seconds: (performance.now() - start) / 1000,
        faults,
        output
      })
    })
  })
}

function report (result: Result): void {
  const { path, passed, skipped, seconds, faults, output } = result
  const counts = `${passed} passed${skipped > 0 ? `, ${skipped} skipped` : ''}, ${seconds.toFixed(1)} s`

  if (faults.length === 0) {
    console.log(`ok    ${path} (${counts})`)
  } else {
    console.log(`\n${output.trimEnd()}\n`)
    console.log(`FAIL  ${path} (${counts})`)
    for (const fault of faults) console.log(`      ${fault}`)
    console.log()
  }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const child of alive) kill(child)
    process.exit(1)
  })
}

const waiting = findFiles()
if (waiting.length === 0) console.log(`no test files in ${options.directory} match`)

let passed = 0
let failed = waiting.length === 0 && !options.long ? 1 : 0
let skipped = 0

await Promise.all(Array.from({ length: concurrency }, async () => {
  for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) {
    const result = await runFile(path)
    passed += result.passed
    failed += result.failed
    skipped += result.skipped
    report(result)
  }
}))

console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exitCode = failed > 0 ? 1 : 0
