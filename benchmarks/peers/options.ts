/**
 * The command line of the comparison, checked and completed.
 */
import { parseArgs } from 'node:util'
import { integerFrom } from '../options.ts'
import { kinds, ours } from './kinds.ts'

export interface Options {
  readonly rounds: number
  /** Entries that the host writes; the other sizes follow from it. */
  readonly entries: number
  /** Names of what is compared, ours first. */
  readonly peers: readonly string[]
  /** Where the figures go as JSON. */
  readonly json: string | undefined
  /** How long one peer may take for one round. */
  readonly roundLimitMs: number
}

/** @throws TypeError with what is wrong, for the user */
export function parseOptions (args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '3' },
      entries: { type: 'string', default: '100000' },
      peers: { type: 'string', default: Object.keys(kinds).join() },
      json: { type: 'string' },
      'round-limit': { type: 'string', default: '300' },
      limit: { type: 'string', default: '1' }
    }
  })
  const peers = values.peers.split(',')
  for (const name of peers) {
    if (kinds[name] === undefined) throw new TypeError(`--peers takes ${Object.keys(kinds).join()}; received ${name}`)
  }
  integerFrom('limit', values.limit, 1)
  return {
    rounds: integerFrom('rounds', values.rounds, 1),
    entries: integerFrom('entries', values.entries, 100),
    peers: [...new Set([ours, ...peers])],
    json: values.json,
    roundLimitMs: integerFrom('round-limit', values['round-limit'], 1) * 1000
  }
}
