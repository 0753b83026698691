/**
 * Random writes to keys that all replicas share: put, del, batch and clear, in several encodings and sublevels.
 */
import type { ReplicatedLevel } from '../../lib/index.ts'
import { VirtualSystem } from './virtual-system.ts'

export type Db = ReplicatedLevel<any, any>
export type EncodingName = 'utf8' | 'json' | 'buffer' | 'view'

export const encodingNames: readonly EncodingName[] = ['utf8', 'json', 'buffer', 'view']

/** The writing half of a database or of a sublevel. */
interface Writable {
  put (key: unknown, value: unknown): Promise<void>
  del (key: unknown): Promise<void>
  batch (operations: unknown[]): Promise<void>
  clear (range: object): Promise<void>
}

interface Space {
  readonly level: Writable
  readonly keys: readonly unknown[]
  readonly value: (text: string) => unknown
}

const spaceKeys = 200
/** Keys in all spaces together: the database itself and a sublevel for each encoding. */
export const workloadKeys = spaceKeys * 5

/** What stands for a text in an encoding; in the order of the texts, as long as they are of one length. */
export function encoded (encoding: EncodingName, text: string): unknown {
  switch (encoding) {
    case 'utf8': return text
    case 'json': return { text }
    case 'buffer': return Buffer.concat([Buffer.of(0xff, 0), Buffer.from(text)])
    case 'view': return new Uint8Array(Buffer.concat([Buffer.of(0, 0xfe), Buffer.from(text)]))
  }
}

export function rootKeys (encoding: EncodingName): unknown[] {
  return keysOf(encoding)
}

function keysOf (encoding: EncodingName): unknown[] {
  return Array.from({ length: spaceKeys }, (_, index) => encoded(encoding, `k${String(index).padStart(4, '0')}`))
}

function spacesOf (db: Db, root: EncodingName): Space[] {
  const space = (level: unknown, encoding: EncodingName): Space => ({ level: level as Writable, keys: keysOf(encoding), value: (text) => encoded(encoding, text) })
  return [
    space(db, root),
    ...encodingNames.map((encoding) => space(db.sublevel(encoding === 'view' ? ['nested', encoding] : encoding, { keyEncoding: encoding, valueEncoding: encoding } as object), encoding))
  ]
}

export interface WorkloadOptions {
  readonly seed: number
  /** Operations, those of batches counted one by one. */
  readonly operations: number
  /** Encoding of keys and values of the database itself. */
  readonly encoding: EncodingName
  /** Is in every value, so that no two replicas write the same. */
  readonly name: string
  readonly concurrency?: number
}

/** Writes, several writes at once, and resolves when all are acknowledged. */
export async function runWorkload (db: Db, { seed, operations, encoding, name, concurrency = 24 }: WorkloadOptions): Promise<void> {
  const random = new VirtualSystem({ seed })
  const below = (limit: number): number => Math.floor(random.random() * limit)
  const pick = <T>(items: readonly T[]): T => items[below(items.length)]!
  const spaces = spacesOf(db, encoding)
  const flying = new Set<Promise<void>>()
  let count = 0
  const value = (space: Space): unknown => space.value(`${name} ${count} ${'x'.repeat(below(60))}`)
  while (count < operations) {
    const space = pick(spaces)
    const dice = random.random()
    let write: Promise<void>
    if (dice < 0.55) {
      count++
      write = space.level.put(pick(space.keys), value(space))
    } else if (dice < 0.75) {
      count++
      write = space.level.del(pick(space.keys))
    } else if (dice < 0.99) {
      const operations = Array.from({ length: 2 + below(12) }, () => {
        count++
        const to = pick(spaces)
        const key = pick(to.keys)
        return { type: random.random() < 0.7 ? 'put' : 'del', key, value: value(to), ...(to === spaces[0] ? {} : { sublevel: to.level }) }
      })
      write = (db as unknown as Writable).batch(operations)
    } else {
      count++
      const from = below(spaceKeys - 8)
      write = space.level.clear({ gte: space.keys[from], lt: space.keys[from + 1 + below(7)] })
    }
    const settled = write.finally(() => { flying.delete(settled) })
    flying.add(settled)
    if (flying.size >= concurrency) await Promise.race(flying)
    if (count % 50 === 0) await new Promise((resolve) => { setImmediate(resolve) })
  }
  await Promise.all(flying)
}
