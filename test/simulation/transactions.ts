/**
 * What the user of one process asked for, in that order, and what came of it.
 *
 * The transactions of a batch have to be the next ones, each whole, each operation in its place; a `del` is there if
 * and only if a put was among the siblings at its place. A promise resolves only for what has been committed, and was
 * synced if that was asked.
 */
import type { ReplicationError } from '../../lib/errors.ts'
import type { Store } from '../../lib/storage/store.ts'
import type { Dice } from './dice.ts'
import type { Disk, Tree } from './disk.ts'
import type { Write } from './oracle.ts'
import { dataOf, setOf, type OwnDot, type Witness } from './witness.ts'
import type { World } from './world.ts'

export type TextOperation =
  | { readonly type: 'put', readonly key: string, readonly value: string }
  | { readonly type: 'del', readonly key: string }

interface Transaction {
  /** Its number among all that was asked for. */
  readonly asked: number
  readonly operations: readonly TextOperation[]
  readonly sync: boolean
  /** The number of its batch; 0 if it was none, undefined while it waits. */
  batch: number | undefined
}

/** Those of a range that are to be deleted: so many at most, from one end or the other. */
export interface ClearedRange {
  readonly from: string
  readonly to: string
  readonly sync: boolean
  readonly limit: number
  readonly reverse: boolean
}

interface Clear extends ClearedRange {
  readonly asked: number
  readonly seen: bigint
  /** Those that it has deleted. */
  readonly cleared: Set<string>
  /** The last batch that it was a part of. */
  batch: number
}

const refusalsOfDisks = new Set(['LEVEL_IO_ERROR', 'REPLICATION_WRITE_INDETERMINATE', 'LEVEL_DATABASE_NOT_OPEN'])

export interface TransactionsOptions {
  readonly world: World
  readonly name: string
  readonly disk: Disk
  readonly witness: Witness
  readonly isSpecial: () => boolean
  readonly isClosing: () => boolean
  readonly store: () => Store
}

export class Transactions {
  readonly #options: TransactionsOptions
  readonly #waiting: Transaction[] = []
  readonly #clears = new Set<Clear>()
  #asked = 0
  /** How much of it is not answered yet. */
  unanswered = 0
  batches = 0
  synced = 0
  #hlc = 0

  constructor (options: TransactionsOptions) {
    this.#options = options
  }

  write (operations: readonly TextOperation[], sync: boolean): void {
    const { world, name, store } = this.#options
    const transaction: Transaction = { asked: ++this.#asked, operations, sync, batch: undefined }
    this.#waiting.push(transaction)
    this.unanswered++
    world.log(() => `${name} is asked for ${operations.map(({ type, key }) => `${type} ${key}`).join(', ')}${sync ? ', synced' : ''}`)
    const encoded = operations.map((operation) => operation.type === 'put'
      ? { type: 'put' as const, key: Buffer.from(operation.key, 'latin1'), value: Buffer.from(operation.value, 'latin1') }
      : { type: 'del' as const, key: Buffer.from(operation.key, 'latin1') })
    store().commit(encoded, sync).then(() => {
      this.unanswered--
      world.guard(() => { this.#acknowledged(transaction) })
    }, (error: ReplicationError) => {
      world.guard(() => { this.#rejected(error) })
      const index = this.#waiting.indexOf(transaction)
      if (index !== -1) this.#waiting.splice(index, 1)
      else if (error.code !== 'REPLICATION_WRITE_INDETERMINATE') world.guard(() => { world.fail('rejected', `${name} rejects a transaction that it has committed: ${error.message}`) })
      world.count('writes rejected')
    })
  }

  clear (range: ClearedRange): void {
    const { world, name, store, witness } = this.#options
    const clear: Clear = { ...range, asked: ++this.#asked, seen: witness.seen, cleared: new Set(), batch: 0 }
    const { from, to, sync, limit, reverse } = range
    this.#clears.add(clear)
    this.unanswered++
    world.log(`${name} clears from ${from} to ${to}, ${limit} at most${reverse ? ', the last ones' : ''}${sync ? ', synced' : ''}`)
    store().clear({ gte: Buffer.from(from, 'latin1'), lt: Buffer.from(to, 'latin1'), keyEncoding: 'buffer', limit: limit === Infinity ? -1 : limit, reverse }, sync).then(() => {
      this.#clears.delete(clear)
      this.unanswered--
      world.guard(() => { this.#cleared(clear) })
    }, (error: ReplicationError) => {
      this.#clears.delete(clear)
      world.guard(() => { this.#rejected(error) })
      world.count('clears rejected')
    })
  }

  /** What is asked for is refused only where a disk fails, or the database is closed. */
  #rejected ({ code, message }: ReplicationError): void {
    const { world, name, isClosing } = this.#options
    this.unanswered--
    if (!isClosing() && !(world.faultyDisks && refusalsOfDisks.has(code))) world.fail('rejected', `${name} rejects what it is asked for, and its disk is well: ${code} ${message}`)
  }

  #acknowledged (transaction: Transaction): void {
    const { world, name, disk } = this.#options
    if (transaction.batch === undefined) {
      // It wrote nothing, or nothing of it is on the disk. One that is synced may be answered after one that came later, which has passed over it.
      if (!this.#waiting.includes(transaction)) return
      const overlay = new Map<string, 'put' | 'del'>()
      while (this.#waiting.length > 0) {
        const first = this.#waiting[0]!
        if (effective(first, disk.tree, overlay).length > 0) world.fail('acknowledged-early', `${name} acknowledges ${describe(first)} before it is committed`)
        this.#waiting.shift()
        if (first === transaction) return
      }
      return
    }
    world.count('writes acknowledged')
    if (transaction.sync && transaction.batch > this.synced) world.fail('acknowledged-early', `${name} acknowledges ${describe(transaction)} before it is synced`)
  }

  #cleared ({ from, to, seen, sync, limit, cleared, batch }: Clear): void {
    const { world, name, disk, witness } = this.#options
    if (sync && batch > this.synced) world.fail('acknowledged-early', `${name} has cleared from ${from} to ${to} before that is synced`)
    if (cleared.size > limit) world.fail('clear', `${name} has cleared ${[...cleared].join(', ')}, more than ${limit}`)
    if (limit !== Infinity) return
    for (const key of world.oracle.keys) {
      if (key < from || key >= to || dataOf(disk.tree, key) === undefined) continue
      const left = setOf(disk.tree, key).map(({ log, sequence }) => witness.at(log, sequence)!)
      if (left.every(({ bit }) => (bit & seen) !== 0n)) world.fail('clear', `${name} has cleared from ${from} to ${to}, and ${key} is still there`)
    }
  }

  /** A batch holds these operations of the machine's own log. */
  place (dots: readonly OwnDot[], before: Tree): void {
    const { world, name } = this.#options
    const overlay = new Map<string, 'put' | 'del'>()
    let earlier = 0n
    const cleared = this.#mayBeCleared(dots)
    for (let index = 0; index < dots.length;) {
      const next = cleared ? undefined : this.#next(dots, index, before, overlay)
      if (next === undefined) {
        earlier |= this.#write(dots[index]!, this.#unasked(dots[index]!, before), earlier).bit
        index++
        continue
      }
      const { transaction, operations } = next
      transaction.batch = this.batches
      const writes = operations.map((operation, offset) => {
        const dot = dots[index + offset]!
        if (dot.hlc !== dots[index]!.hlc || dot.sequence !== dots[index]!.sequence + offset) world.fail('transaction', `${name} gives ${describe(transaction)} times or sequences that do not belong together`)
        const write = this.#write(dot, operation, earlier)
        earlier |= write.bit
        return write
      })
      const together = writes.reduce((bits, { bit }) => bits | bit, 0n)
      for (const write of writes) write.together = together
      index += operations.length
      if (dots[index - 1]!.hlc <= this.#hlc) world.fail('clock', `${name} gives a second transaction the time ${this.#hlc}`)
      this.#hlc = dots[index - 1]!.hlc
    }
  }

  /** Whether a `clear` may have written this batch, which was asked for before all that waits: then a `del` that waits is still to come. */
  #mayBeCleared (dots: readonly OwnDot[]): boolean {
    const next = this.#waiting[0]?.asked ?? Infinity
    return [...this.#clears].some(({ asked, from, to }) => asked < next && dots.every((dot) => dot.key >= from && dot.key < to && dot.hlc === dots[0]!.hlc && this.#isAt(dot, { type: 'del', key: dot.key })))
  }

  /** The first transaction that waits and writes something, if its operations are the ones at `index`. */
  #next (dots: readonly OwnDot[], index: number, before: Tree, overlay: Map<string, 'put' | 'del'>): { transaction: Transaction, operations: TextOperation[] } | undefined {
    for (const [skipped, transaction] of this.#waiting.entries()) {
      const after = new Map(overlay)
      const operations = effective(transaction, before, after)
      if (operations.length === 0) continue
      if (!operations.every((operation, offset) => this.#isAt(dots[index + offset], operation))) return undefined
      for (const nothing of this.#waiting.splice(0, skipped + 1)) nothing.batch = 0
      for (const [key, type] of after) overlay.set(key, type)
      return { transaction, operations }
    }
    return undefined
  }

  #isAt (dot: OwnDot | undefined, { type, key }: TextOperation): boolean {
    if (dot?.key !== key) return false
    const there = setOf(this.#options.disk.tree, key).find(({ log, sequence }) => log === dot.log && sequence === dot.sequence)
    return there === undefined || there.type === type
  }

  /** A tombstone of `clear`, or the outcome of a conflict, written by the store itself. */
  #unasked (dot: OwnDot, before: Tree): TextOperation {
    const { world, name, disk } = this.#options
    const { key } = dot
    const clears = [...this.#clears].filter(({ from, to }) => key >= from && key < to)
    const now = setOf(disk.tree, key)
    const type = now.length === 1 && now[0]!.sequence === dot.sequence ? now[0]!.type : undefined
    if (clears.length > 0 && type === 'del' && dataOf(before, key) !== undefined) {
      if (clears.length === 1) clears[0]!.cleared.add(key)
      for (const clear of clears) clear.batch = this.batches
      return { type, key }
    }
    if (setOf(before, key).length > 1 && type !== undefined) {
      if (dataOf(before, key) !== dataOf(disk.tree, key)) world.fail('settled', `${name} writes ${key}, which nobody asked for, and it reads ${dataOf(disk.tree, key)} instead of ${dataOf(before, key)}`)
      world.count('conflicts settled')
      return type === 'del' ? { type, key } : { type, key, value: dataOf(disk.tree, key)! }
    }
    const next = this.#waiting[0]
    return world.fail('unasked', `${name} writes ${key} at ${dot.sequence}, and nobody asked for it; next would be ${next === undefined ? 'nothing' : describe(next)}`)
  }

  #write (dot: OwnDot, operation: TextOperation, earlier: bigint): Write {
    const { world, name, witness, isSpecial, store } = this.#options
    const past = witness.contextOf(dot.key) | earlier
    const old = witness.at(dot.log, dot.sequence)
    if (old !== undefined && world.isReachable(old)) world.fail('one-dot-two-contents', `${name} writes ${operation.type} ${operation.key} at ${dot.sequence}, which is ${old.type} ${old.key} already`)
    const named = witness.nameOf(dot.log, dot.sequence)
    for (const { hlc, log } of world.oracle.list(past & world.oracle.mask(dot.key))) if (hlc > dot.hlc || (hlc === dot.hlc && log !== named)) world.fail('clock', `${name} writes ${dot.key} at a time that is not after what it has seen`)
    return world.oracle.write({
      ...dot,
      log: named,
      type: operation.type,
      value: operation.type === 'put' ? operation.value : undefined,
      replica: store().replica,
      author: name,
      special: isSpecial()
    }, past)
  }
}

/** The operations of a transaction that write something, at their place. */
function effective ({ operations }: Transaction, before: Tree, overlay: Map<string, 'put' | 'del'>): TextOperation[] {
  return operations.filter(({ type, key }) => {
    const holdsPut = overlay.has(key) ? overlay.get(key) === 'put' : setOf(before, key).some((sibling) => sibling.type === 'put')
    if (type === 'del' && !holdsPut) return false
    overlay.set(key, type)
    return true
  })
}

function describe ({ operations }: Transaction): string {
  return operations.map(({ type, key }) => `${type} ${key}`).join(', ')
}

/** A transaction of one to a few operations. */
export function randomOperations (dice: Dice, keys: readonly string[], count: number, valueOf: () => string): TextOperation[] {
  return Array.from({ length: count }, () => {
    const key = dice.pick(keys)
    return dice.chance(0.35) ? { type: 'del', key } : { type: 'put', key, value: valueOf() }
  })
}
