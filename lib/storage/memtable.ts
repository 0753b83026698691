/**
 * What users' keys hold by the transactions of one batch, before LevelDB has it: readers look here first, and a `del`
 * that has to know whether there is a value.
 *
 * Nothing is looked up in most of them, so what there is to be found is noted only when somebody asks.
 */
import { bytesOf, type Bytes } from './engine.ts'

/** An operation on a key; of a put that nobody is to read yet, without its value. */
export interface MemtableEntry {
  readonly type: 'put' | 'del'
  readonly key: Bytes
  readonly value?: Bytes | undefined
}

/** What the engine may not have yet, by keys as binary strings; undefined if that is nothing. */
export type Pending = ReadonlyMap<string, MemtableEntry> | undefined

/** The last operation of each key, among the first ones of a list. */
class Latest {
  readonly #operations = new Map<string, MemtableEntry>()
  #count = 0

  of (operations: readonly MemtableEntry[], count: number): ReadonlyMap<string, MemtableEntry> {
    for (; this.#count < count; this.#count++) {
      const operation = operations[this.#count]!
      this.#operations.set(keyText(operation.key), operation)
    }
    return this.#operations
  }
}

export class Memtable {
  readonly #operations: MemtableEntry[] = []
  #added = new Latest()
  readonly #acknowledged = new Latest()
  #acknowledgedCount = 0

  /** @param operation whose bytes are its own */
  add (operation: MemtableEntry): void {
    this.#operations.push(operation)
  }

  /** All that has been added counts: readers find it. */
  acknowledge (): void {
    this.#acknowledgedCount = this.#operations.length
  }

  /** What has been added since then never will. */
  discard (): void {
    this.#operations.length = this.#acknowledgedCount
    this.#added = new Latest()
  }

  get isAcknowledged (): boolean {
    return this.#acknowledgedCount > 0
  }

  /** The last operation on a key, for the writer. */
  latest (key: string): MemtableEntry['type'] | undefined {
    return this.#added.of(this.#operations, this.#operations.length).get(key)?.type
  }

  /** The last operation on each key, of those that count. It grows with them. */
  get acknowledged (): ReadonlyMap<string, MemtableEntry> {
    return this.#acknowledged.of(this.#operations, this.#acknowledgedCount)
  }
}

/** The bytes of a key as a binary string. */
export function keyText (key: Bytes): string {
  return Buffer.from(bytesOf(key) as string).latin1Slice()
}

/** A key or value in the encoding in which it is asked for: as the engine would give it, which keeps no half of a pair of surrogates. */
export function valueIn (bytes: Bytes, encoding: string | undefined): Bytes {
  const copy = Buffer.from(bytes as string)
  return encoding === 'utf8' ? copy.toString() : copy
}

/** The value of an entry, likewise; undefined if it is a delete. */
export function valueOfEntry ({ type, value }: MemtableEntry, encoding: string | undefined): Bytes | undefined {
  return type === 'put' ? valueIn(value!, encoding) : undefined
}
