/**
 * Directories for tests: made under the system's own place for such things, and gone when the process ends.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

let root: string | undefined
let made = 0

/** The path of a directory that does not exist yet, in a place that is removed at the end. */
export function newDirectory (): string {
  if (root === undefined) {
    const created = mkdtempSync(join(tmpdir(), 'replicated-level-'))
    process.once('exit', () => { rmSync(created, { recursive: true, force: true, maxRetries: 3 }) })
    root = created
  }
  return join(root, String(++made))
}
