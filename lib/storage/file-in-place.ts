/**
 * A small file that is written in place, at once: what a process that ends leaves behind of it is all that was written.
 *
 * The first write opens it, and makes it if it is missing. A write that fails lets go of it, as the directory may be
 * another one by now.
 */
import { closeSync, constants, fsyncSync, openSync, writeSync } from 'node:fs'

export class FileInPlace {
  readonly path: string
  #file: number | undefined

  constructor (path: string) {
    this.path = path
  }

  /** @throws what the file system throws, also if not all can be written */
  write (bytes: Buffer, position: number): void {
    try {
      const written = writeSync(this.#open(), bytes, 0, bytes.length, position)
      if (written < bytes.length) throw new Error(`${written} of ${bytes.length} bytes have been written to ${this.path}`)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Makes durable what was written. */
  sync (): void {
    fsyncSync(this.#open())
  }

  #open (): number {
    return (this.#file ??= openSync(this.path, constants.O_RDWR | constants.O_CREAT, 0o644))
  }

  /** Lets go of it: the next write opens what is in its place then. */
  close (): void {
    const file = this.#file
    this.#file = undefined
    try { if (file !== undefined) closeSync(file) } catch {} // it was on a disk that is gone
  }
}
