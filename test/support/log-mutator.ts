/**
 * Damage to LevelDB's write-ahead log, as disks and file systems do it.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const pageBytes = 4096

export type Damage = 'cut' | 'zeroed tail' | 'zeroed page' | 'flipped bit' | 'lost page' | 'garbage tail'
export const damages: readonly Damage[] = ['cut', 'zeroed tail', 'zeroed page', 'flipped bit', 'lost page', 'garbage tail']

/** Damages the largest write-ahead log of a database; `random` gives numbers below 1. */
export function damageLog (directory: string, damage: Damage, random: () => number): void {
  const paths = readdirSync(directory).filter((name) => name.endsWith('.log')).map((name) => join(directory, name))
  const [path] = paths.sort((a, b) => readFileSync(b).length - readFileSync(a).length)
  const bytes = readFileSync(path!)
  const at = Math.floor(random() * bytes.length)
  const page = Math.floor(at / pageBytes) * pageBytes
  writeFileSync(path!, damaged(bytes, damage, at, page))
}

function damaged (bytes: Buffer, damage: Damage, at: number, page: number): Buffer {
  switch (damage) {
    case 'cut': return bytes.subarray(0, at)
    case 'zeroed tail': return bytes.fill(0, at)
    case 'zeroed page': return bytes.fill(0, page, Math.min(bytes.length, page + pageBytes))
    case 'flipped bit': {
      bytes[at]! ^= 1 << (at % 8)
      return bytes
    }
    case 'lost page': return Buffer.concat([bytes.subarray(0, page), bytes.subarray(page + pageBytes)])
    case 'garbage tail': return Buffer.concat([bytes, bytes.subarray(0, at).map((byte) => byte ^ 0x5a)])
  }
}
