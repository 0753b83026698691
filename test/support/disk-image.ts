/**
 * A file system in a file: a copy of that file is what a snapshot of the whole disk is, with inodes and all times.
 *
 * What was written and not synced is in memory only, and not in the file: so the copy is also what a loss of power
 * leaves.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, constants, mkdirSync } from 'node:fs'
import { newDirectory } from './directory.ts'

const mounted = new Set<DiskImage>()
process.once('exit', () => { for (const disk of mounted) disk.remove() })

function run (command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: 'pipe' })
}

export class DiskImage {
  readonly directory: string
  #file: string

  private constructor (file: string) {
    this.#file = file
    this.directory = newDirectory()
    mkdirSync(this.directory)
    this.#mount()
    mounted.add(this)
  }

  #mount (): void {
    // What is dirty stays in memory for half a minute, as long as nobody syncs.
    run('mount', '-o', 'loop,commit=300', this.#file, this.directory)
  }

  /** What an error of the medium does: it is read-only from now on, for files that are open too. */
  abort (): void {
    run('mount', '-o', 'remount,abort', this.directory)
  }

  /** Is mended, and mounted in the same place again; as a copy, as the old one is in use as long as a file of it is open. */
  mend (): void {
    run('umount', '-l', this.directory)
    this.#copyFile()
    spawnSync('e2fsck', ['-p', this.#file], { stdio: 'pipe' })
    this.#mount()
  }

  #copyFile (): void {
    const file = newDirectory()
    copyFileSync(this.#file, file, constants.COPYFILE_FICLONE)
    this.#file = file
  }

  /** Makes one; undefined, and a word about it, where that is not allowed. */
  static make (megabytes: number): DiskImage | undefined {
    const file = newDirectory()
    try {
      run('truncate', '-s', `${megabytes}M`, file)
      run('mkfs.ext4', '-q', file)
      return new DiskImage(file)
    } catch {
      console.log('SKIPPED: no file system in a file can be made and mounted here')
      return undefined
    }
  }

  /** What is on the medium, as another disk. */
  copy (): DiskImage {
    const file = newDirectory()
    copyFileSync(this.#file, file, constants.COPYFILE_FICLONE)
    return new DiskImage(file)
  }

  remove (): void {
    mounted.delete(this)
    try { run('umount', '-l', this.directory) } catch {}
  }
}
