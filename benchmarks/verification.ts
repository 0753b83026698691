/**
 * No figure without proof that the work was done: counts of everything, and what samples read as.
 */
import { keyOf, valueOf, type Datum, type Encoding } from './data.ts'

/** What was looked at, and found right. */
export interface Checked {
  /** Entries that were counted. */
  readonly entries: number
  /** Values that were compared. */
  readonly samples: number
}

/** What can be counted and read. */
export interface Readable {
  keys (): AsyncIterable<unknown>
  get (key: Datum): Promise<Datum | undefined>
}

export const samplesMax = 500

/**
 * Counts all entries of a database, and compares up to 500 of those with index 0 to `total`.
 *
 * @throws Error if one is missing, wrong or too many
 */
export async function verify (database: Readable, encoding: Encoding, total: number): Promise<Checked> {
  let entries = 0
  for await (const _ of database.keys()) entries++
  if (entries !== total) throw new Error(`${entries} entries, expected ${total}`)
  const step = Math.max(1, Math.floor(total / samplesMax))
  let samples = 0
  for (let index = 0; index < total && samples < samplesMax; index += step, samples++) {
    assertSame(await database.get(keyOf(index, encoding)), valueOf(index, encoding), index)
  }
  return { entries, samples }
}

/** @throws Error if a value that was read is not what was written */
export function assertSame (value: Datum | undefined, expected: Datum, index: number): void {
  const same = typeof expected === 'string' ? value === expected : value !== undefined && expected.equals(value as Buffer)
  if (!same) throw new Error(`The value with index ${index} is ${value === undefined ? 'missing' : `wrong: ${value.toString()}`}`)
}

/** @throws Error unless both are equal */
export function assertCount (what: string, count: number, expected: number): void {
  if (count !== expected) throw new Error(`${count} ${what}, expected ${expected}`)
}
