/**
 * The file of the redo log in a directory. It is written in place, and not synced.
 */
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { FileInPlace } from './file-in-place.ts'
import { unlessMissing } from './identity.ts'
import { redoFileName, type RedoFile } from './redo-log.ts'

export class DirectoryRedoFile extends FileInPlace implements RedoFile {
  constructor (directory: string) {
    super(join(directory, redoFileName))
  }

  async read (): Promise<Buffer> {
    return await unlessMissing(readFile(this.path)) ?? Buffer.alloc(0)
  }

  async remove (): Promise<void> {
    this.close()
    await rm(this.path, { force: true })
  }
}
