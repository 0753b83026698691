/**
 * What a directory takes on disk: the blocks of its files, or their length where there are no blocks.
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

const blockBytes = 512

export function diskBytes (directory: string): number {
  let bytes = 0
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const { blocks, size } = statSync(join(entry.parentPath, entry.name))
    bytes += blocks === undefined ? size : blocks * blockBytes
  }
  return bytes
}
