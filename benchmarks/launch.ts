/**
 * Compiles library and benchmarks to plain JavaScript and runs one of them from there: what a loader adds to
 * TypeScript (tsx names every closure when it is made) must not be measured. All that a run makes, processes and
 * directories, ends with it, also if it hangs: then after `--limit` seconds, with exit status 1.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const args = process.argv.slice(2)

/** @param main path of the program in this folder, without extension; gets the arguments of this process */
export function launch (main: string, limitDefaultSeconds: number): void {
  // Inside the repository, so that packages are found; named at random, so that two runs do not meet.
  mkdirSync(join(root, 'tmp'), { recursive: true })
  const built = mkdtempSync(join(root, 'tmp', 'benchmarks-'))
  const data = mkdtempSync(join(tmpdir(), 'replicated-level-benchmarks-'))
  process.once('exit', () => {
    for (const directory of [built, data]) rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  })
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
  const build = spawnSync(process.execPath, [tsc, '-p', join(root, 'benchmarks'), '--outDir', built], { stdio: 'inherit' })
  if (build.status === 0) run(join(built, 'benchmarks', `${main}.js`), data, limitSeconds(limitDefaultSeconds))
  else process.exitCode = 1
}

function run (path: string, data: string, seconds: number): void {
  const child = spawn(process.execPath, [path, ...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    detached: process.platform !== 'win32',
    env: { ...process.env, BENCHMARKS_DIRECTORY: data }
  })
  const kill = (): void => {
    try {
      if (process.platform === 'win32') child.kill('SIGKILL')
      else process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // It has ended already.
    }
  }
  const limit = setTimeout(() => {
    console.error(`Not done after ${seconds} s: stopped`)
    kill()
  }, seconds * 1000)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, kill)
  child.once('error', (error) => { console.error(error.message) })
  child.once('close', (code) => {
    clearTimeout(limit)
    // Its own workers end when it does; the group is killed in case one hangs.
    kill()
    process.exitCode = code ?? 1
  })
}

function limitSeconds (defaultSeconds: number): number {
  const index = args.indexOf('--limit')
  const seconds = index === -1 ? defaultSeconds : Number(args[index + 1])
  return seconds > 0 ? seconds : defaultSeconds
}
