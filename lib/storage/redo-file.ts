/**
 * The file of the redo log in a directory. It is written in place, and not synced.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { unlessMissing } from './identity.ts'
import { redoFileName, type RedoFile } from './redo-log.ts'

export class DirectoryRedoFile implements RedoFile {
  readonly #path: string
  #file: number | undefined

  constructor (directory: string) {
    this.#path = join(directory, redoFileName)
  }

  async read (): Promise<Buffer> {
    return await unlessMissing(readFile(this.#path)) ?? Buffer.alloc(0)
  }

  write (bytes: Buffer, position: number): void {
    const file = this.#file ??= openSync(this.#path, constants.O_RDWR | constants.O_CREAT, 0o644)
    const written = writeSync(file, bytes, 0, bytes.length, position)
    if (written < bytes.length) throw new Error(`${written} of ${bytes.length} bytes have been written`)
  }

  async remove (): Promise<void> {
    this.close()
    await rm(this.#path, { force: true })
  }

  close (): void {
    const file = this.#file
    this.#file = undefined
    if (file !== undefined) closeSync(file)
  }
}
