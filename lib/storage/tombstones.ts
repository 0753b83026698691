/**
 * Tombstones in the log: which deletes a stretch of it names.
 *
 * A transaction is collected as a whole, and is read as a whole: where it came by a transfer its operations may be
 * spread over several records, which follow each other and share its time.
 */
import type { Hlc } from '../core/hlc.ts'
import type { LogId } from '../core/ids.ts'
import type { Engine } from './engine.ts'
import { readSequence } from './keyspaces.ts'
import { readLogRecords, type StoredLogRecord } from './sweeper.ts'

const recordsAtOnce = 500

export interface Tombstone {
  readonly log: LogId
  readonly sequence: number
  readonly key: Buffer
}

/** What a transaction has deleted, as far as the log names it. */
export interface LoggedTransaction {
  readonly log: LogId
  /** The last operation that the log names. */
  readonly sequence: number
  readonly hlc: Hlc
  readonly deletes: readonly Tombstone[]
}

/** The transactions of a log that begin after one sequence and not after another. */
export async function * transactions (engine: Engine, log: LogId, after: number, to: number): AsyncGenerator<LoggedTransaction> {
  let open: StoredLogRecord[] = []
  for (let from = after + 1; ;) {
    const records = await readLogRecords(engine, log, from, to, recordsAtOnce)
    for (const record of records) {
      if (open.length > 0 && open[0]!.hlc !== record.hlc) {
        yield transactionOf(log, open)
        open = []
      }
      open.push(record)
    }
    if (records.length === 0) break
    from = readSequence(records.at(-1)!.key, 9) + 1
  }
  if (open.length > 0) yield transactionOf(log, open)
}

function transactionOf (log: LogId, records: readonly StoredLogRecord[]): LoggedTransaction {
  const operations = records.flatMap(({ operations }) => operations)
  return {
    log,
    sequence: operations.reduce((last, { sequence }) => Math.max(last, sequence), 0),
    hlc: records[0]!.hlc,
    deletes: operations.filter(({ type }) => type === 'del').map(({ sequence, key }) => ({ log, sequence, key }))
  }
}
