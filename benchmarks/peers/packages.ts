/**
 * The packages of what we compare with. They are installed beside this folder's own package file, so that nobody
 * else has to: hence no types, and no imports that a compiler would look for.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

/** From the launcher: compiled, this file is somewhere else. */
function folder (): string {
  return process.env.BENCHMARKS_PEERS!
}

export function loadPackage (name: string): any {
  return createRequire(join(folder(), 'package.json'))(name)
}

export function versionOf (name: string): string {
  return (JSON.parse(readFileSync(join(folder(), 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version
}

/** Whether what the lock file says is installed in a folder, as far as the times of npm's files tell. */
export function isInstalled (directory: string): boolean {
  const installed = join(directory, 'node_modules', '.package-lock.json')
  return existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(directory, 'package-lock.json')).mtimeMs
}
