/**
 * The command line of the benchmarks, checked and completed.
 */
import { parseArgs } from 'node:util'
import type { Encoding } from './data.ts'

export interface Options {
  /** How often each measurement is made; medians are taken over rounds. */
  readonly rounds: number
  /** Entries of the first sync; the other sizes follow from it. */
  readonly entries: number
  /** Part of the name of the benchmarks to run; all if undefined. */
  readonly only: string | undefined
  readonly encoding: Encoding
  /** Where the figures go as JSON. */
  readonly json: string | undefined
  /** Whether a missed floor fails the run. */
  readonly floors: boolean
  /** Where databases are made. */
  readonly directory: string
}

/** @throws TypeError with what is wrong, for the user */
export function parseOptions (args: string[], directory: string): Options {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '5' },
      entries: { type: 'string', default: '100000' },
      only: { type: 'string' },
      encoding: { type: 'string', default: 'utf8' },
      json: { type: 'string' },
      floors: { type: 'boolean', default: false },
      limit: { type: 'string', default: '300' }
    }
  })
  const { encoding, json, only, floors } = values
  if (encoding !== 'utf8' && encoding !== 'buffer') throw new TypeError(`--encoding has to be utf8 or buffer; received ${encoding}`)
  integerFrom('limit', values.limit, 1)
  return { rounds: integerFrom('rounds', values.rounds, 1), entries: integerFrom('entries', values.entries, 100), only, encoding, json, floors, directory }
}

export function integerFrom (name: string, text: string, min: number): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < min) throw new TypeError(`--${name} has to be an integer, ${min} or more; received ${text}`)
  return number
}
