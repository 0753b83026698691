/**
 * What users' keys hold by the transactions of one batch, before LevelDB has it: readers look here first, and a `del`
 * that has to know whether there is a value.
 *
 * Nothing is looked up in most of them, so what there is to be found is noted only when somebody asks.
 */
import type { Sibling } from '../core/siblings.ts'
import type { Advance } from '../core/version-vector.ts'
import { bytesOf, type Bytes } from './engine.ts'

/** An operation on a key; of a put that nobody is to read yet, without its value. */
interface Noted {
  readonly type: 'put' | 'del'
  readonly key: Bytes
  readonly value?: Bytes | undefined
}

/** The last operation on a key, and which write it is: the only version that the key has then. */
export interface MemtableEntry extends Noted, Sibling {}

/** What the engine may not have yet, by keys as binary strings; undefined if that is nothing. */
export type Pending = ReadonlyMap<string, MemtableEntry> | undefined

/** What has been noted: operations, and from which one on they are which writes. */
interface Notes {
  readonly operations: Noted[]
  readonly transactions: Array<{ readonly index: number, readonly first: Advance }>
}

/** The last operation of each key, among the first ones of a list. */
class Latest {
  readonly #entries = new Map<string, MemtableEntry>()
  #count = 0
  #transaction = 0

  of ({ operations, transactions }: Notes, count: number): ReadonlyMap<string, MemtableEntry> {
    for (; this.#count < count; this.#count++) {
      while (transactions[this.#transaction + 1]?.index === this.#count) this.#transaction++
      const { index, first: { log, hlc, sequence } } = transactions[this.#transaction]!
      const { type, key, value } = operations[this.#count]!
      this.#entries.set(keyText(key), { type, key, value, log, hlc, sequence: sequence + this.#count - index })
    }
    return this.#entries
  }
}

export class Memtable {
  readonly #notes: Notes = { operations: [], transactions: [] }
  #added = new Latest()
  readonly #acknowledged = new Latest()
  #acknowledgedCount = 0

  /** What is added from now on is this write and those that follow it. */
  begin (first: Advance): void {
    this.#notes.transactions.push({ index: this.#notes.operations.length, first })
  }

  /** @param operation whose bytes are its own */
  add (operation: Noted): void {
    this.#notes.operations.push(operation)
  }

  /** All that has been added counts: readers find it. */
  acknowledge (): void {
    this.#acknowledgedCount = this.#notes.operations.length
  }

  /** What has been added since then never will. */
  discard (): void {
    this.#notes.operations.length = this.#acknowledgedCount
    this.#added = new Latest()
  }

  /** The last operation on a key, for the writer. */
  latest (key: string): Noted['type'] | undefined {
    return this.#added.of(this.#notes, this.#notes.operations.length).get(key)?.type
  }

  /** The last operation on each key, of those that count. It grows with them. */
  get acknowledged (): ReadonlyMap<string, MemtableEntry> {
    return this.#acknowledged.of(this.#notes, this.#acknowledgedCount)
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
