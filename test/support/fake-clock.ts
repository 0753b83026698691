/**
 * Clocks that are wrong, by libfaketime: wall-clock time of a process is moved, monotonic time and what the file system
 * says of its files are not.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { newDirectory } from './directory.ts'

const libraries = '/usr/lib'

function findLibrary (): string | undefined {
  if (process.platform !== 'linux' || !existsSync(libraries)) return undefined
  const candidates = [libraries, ...readdirSync(libraries).map((name) => join(libraries, name))].map((directory) => join(directory, 'faketime', 'libfaketimeMT.so.1'))
  return candidates.find((path) => existsSync(path))
}

const library = findLibrary()

export class FakeClock {
  readonly #file = newDirectory()

  /** @param offset as libfaketime has it, such as `+100d` */
  private constructor (offset: string) {
    this.set(offset)
  }

  /** Undefined, and a word about it, where there is no libfaketime. */
  static at (offset: string): FakeClock | undefined {
    if (library !== undefined) return new FakeClock(offset)
    console.log('SKIPPED: to move a clock takes libfaketime (faketime)')
    return undefined
  }

  /** Moves the clock of processes that run already, too. */
  set (offset: string): void {
    writeFileSync(this.#file, `${offset}\n`)
  }

  get env (): NodeJS.ProcessEnv {
    return { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: this.#file, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1', NO_FAKE_STAT: '1' }
  }
}
