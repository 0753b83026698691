/**
 * A chained batch: operations that are taken one by one, and committed as one transaction.
 *
 * As LevelDB's own, it has the bytes of an operation when that is added: a caller may fill one buffer again and again.
 * abstract-level's default would keep the buffer, and write what stands in it at the end.
 */
import { AbstractChainedBatch, type AbstractLevel } from 'abstract-level'
import type { Bytes } from './engine.ts'
import { copyOperation, inBytes, type Operation } from './local.ts'

type Database = AbstractLevel<Bytes, unknown, unknown>
type Commit = (operations: Operation[], options: object) => Promise<void>

export class DataBatch extends AbstractChainedBatch<Database, unknown, unknown> {
  readonly #commit: Commit
  #operations: Operation[] = []

  constructor (db: Database, commit: Commit) {
    super(db)
    this.#commit = commit
  }

  _put (key: Bytes, value: Bytes): void {
    this.#operations.push(copyOperation(inBytes({ type: 'put', key, value })))
  }

  _del (key: Bytes): void {
    this.#operations.push(copyOperation(inBytes({ type: 'del', key })))
  }

  _clear (): void {
    this.#operations = []
  }

  _write (options: object): Promise<void> {
    return this.#commit(this.#operations, options)
  }
}
