/**
 * A file system of a few megabytes that a test can fill: a tmpfs, where the machine allows to mount one.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { newDirectory } from './directory.ts'

export class SmallDisk {
  readonly directory: string

  private constructor (directory: string) {
    this.directory = directory
  }

  /** Mounts one; undefined, and a word about it, where that is not allowed. */
  static mount (megabytes: number): SmallDisk | undefined {
    const directory = newDirectory()
    mkdirSync(directory)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', directory], { stdio: 'pipe' })
    } catch {
      console.log('SKIPPED: no file system can be mounted here')
      return undefined
    }
    process.prependOnceListener('exit', () => { try { execFileSync('umount', ['-l', directory], { stdio: 'pipe' }) } catch {} })
    return new SmallDisk(directory)
  }

  get #filler (): string {
    return join(this.directory, 'filler')
  }

  /** Leaves so many bytes free. */
  fill (leave: number): void {
    const { bavail, bsize } = statfsSync(this.directory)
    writeFileSync(this.#filler, Buffer.alloc(Math.max(0, bavail * bsize - leave)))
  }

  free (): void {
    truncateSync(this.#filler, 0)
    rmSync(this.#filler)
  }

  readOnly (value: boolean): void {
    execFileSync('mount', ['-o', `remount,${value ? 'ro' : 'rw'}`, this.directory], { stdio: 'pipe' })
  }
}
