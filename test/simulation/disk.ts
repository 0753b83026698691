/**
 * A machine's disk: what LevelDB holds and what stands in the redo log, what of it would survive a power loss, and batches
 * that fail when told to.
 *
 * memory-level's tree is immutable, so that a state of the disk is one reference, and saving or restoring it costs
 * nothing. A batch is never torn. A killed process loses nothing; a power loss goes back to the last synced batch,
 * or to any batch after it, and keeps any of the redo log's records. What an open would make of both is kept as a tree, too:
 * that is what counts.
 */
import { MemoryLevel } from 'memory-level'
import type { Advance } from '../../lib/core/version-vector.ts'
import { ByteReader } from '../../lib/codec/bytes.ts'
import { redoAreaBytes } from '../../lib/limits.ts'
import { decodeIdentity, type Followed, type Identity, type IdentityStore } from '../../lib/storage/identity.ts'
import { keyspace, meta } from '../../lib/storage/keyspaces.ts'
import { decodeRecord, missingChanges, seedOf, type RedoFile } from '../../lib/storage/redo-log.ts'
import type { Dice } from './dice.ts'
import type { Scheduler } from './scheduler.ts'

export interface Tree {
  get (key: Buffer): Buffer | undefined
  readonly keys: Buffer[]
  forEach (visit: (key: Buffer, value: Buffer) => void): void
  find (key: Buffer): { readonly valid: boolean, update (value: Buffer): Tree, remove (): Tree }
  insert (key: Buffer, value: Buffer): Tree
}

export interface RawOperation {
  readonly type: 'put' | 'del'
  readonly key: Buffer
  readonly value?: Buffer
}

/** Sees every batch at the moment at which it is there. */
export type BatchObserver = (operations: readonly RawOperation[], before: Tree, after: Tree, sync: boolean) => void

type PrivateIterator = Record<'_next' | '_nextv' | '_all', (...args: unknown[]) => Promise<unknown>>

interface PrivateMemory {
  _get (key: Buffer, options: object): Promise<Buffer | undefined>
  _getSync (key: Buffer, options: object): Buffer | undefined
  _getMany (keys: Buffer[], options: object): Promise<Array<Buffer | undefined>>
  _has (key: Buffer, options: object): Promise<boolean>
  _hasMany (keys: Buffer[], options: object): Promise<boolean[]>
  _iterator (options: object): PrivateIterator
  _keys (options: object): PrivateIterator
  _values (options: object): PrivateIterator
  _snapshot (options: object): Record<symbol, Tree>
}

const memory = MemoryLevel.prototype as unknown as PrivateMemory
const pristine = memory._snapshot.call(new MemoryLevel(), { owner: new MemoryLevel() })
const [treeSymbol] = Object.getOwnPropertySymbols(pristine) as [symbol]
export const emptyTree: Tree = pristine[treeSymbol]!

export type Contents = Pick<Disk, 'levelTree' | 'redo' | 'identity' | 'told'>

/** Bytes that have been written to the file of the redo log at once. */
export interface RedoPiece {
  readonly position: number
  readonly bytes: Buffer
}

/** What of the redo log LevelDB does not have: the changes of a batch, so far. */
interface Pending {
  readonly number: number
  readonly changes: RawOperation[]
}

export class Disk {
  /** What counts: LevelDB's tree, and the changes that it lacks and the redo log holds. */
  tree: Tree = emptyTree
  levelTree: Tree = emptyTree
  /** What the file of the redo log holds, the last pieces over the first ones. */
  redo: readonly RedoPiece[] = []
  #pending: Pending[] = []
  identity: Identity | undefined
  bootId = 'boot 1'
  /** Batches, from now on, that fail. */
  failures = 0
  /** How often the identity file was replaced. */
  renewals = 0
  /** What the file says up to which data of the log has been sent. */
  told: Advance | undefined
  #toldSynced: Advance | undefined
  #synced: Tree = emptyTree
  #afterSync: Tree[] = []

  get synced (): Tree {
    return this.#synced
  }

  /** A disk that cannot be told from the one of which this is a snapshot. */
  static with (saved: Contents): Disk {
    const disk = new Disk()
    disk.rollBack(saved)
    return disk
  }

  /** Another directory with the same content. */
  static copyOf (saved: Contents, number: number): Disk {
    const disk = new Disk()
    disk.restore(saved, number)
    return disk
  }

  /** What a snapshot holds. */
  get contents (): Contents {
    const { levelTree, redo, identity, told } = this
    return { levelTree, redo, identity, told }
  }

  /** Goes back to a snapshot; nothing shows it. */
  rollBack (saved: Contents): void {
    Object.assign(this, saved)
    this.settle()
    this.settleTold()
    this.recover()
  }

  /** LevelDB writes a batch. */
  write (operations: readonly RawOperation[], sync: boolean): Tree {
    const before = this.tree
    this.levelTree = applied(this.levelTree, operations)
    if (sync) this.settle()
    else this.#afterSync.push(this.levelTree)
    const number = lastNumber(operations)
    this.#pending = this.#pending.filter((pending) => pending.number > number)
    this.#redoPending()
    return before
  }

  /** The redo log's file is written to; these are the changes of a batch that are in it. */
  writeRedo (piece: RedoPiece, number: number, changes: readonly RawOperation[]): Tree {
    const before = this.tree
    this.addRedo(piece)
    const pending = this.#pending.find((pending) => pending.number === number)
    if (pending === undefined) this.#pending.push({ number, changes: [...changes] })
    else pending.changes.push(...changes)
    this.tree = applied(before, changes)
    return before
  }

  /** Something is written to its file, whatever that is. Of what an area held before the last two batches in it nothing is kept. */
  addRedo (piece: RedoPiece): void {
    const { position } = piece
    const area = this.redo.filter((other) => areaOf(other.position) === areaOf(position))
    const begun = position % redoAreaBytes === 0 ? area.findLastIndex((other) => other.position === position) : 0
    this.redo = [...this.redo.filter((other) => areaOf(other.position) !== areaOf(position) || area.indexOf(other) >= begun), piece]
  }

  /** What the file of the redo log holds. */
  get redoBytes (): Buffer {
    const bytes = Buffer.alloc(Math.max(0, ...this.redo.map(({ position, bytes }) => position + bytes.length)))
    for (const piece of this.redo) piece.bytes.copy(bytes, piece.position)
    return bytes
  }

  #redoPending (): void {
    this.tree = this.#pending.reduce((tree, { changes }) => applied(tree, changes), this.levelTree)
  }

  /** Finds out what the next open will make of it. */
  recover (): void {
    const remembered = this.levelTree.get(meta.identity)
    this.#pending = []
    if (remembered !== undefined && this.redo.length > 0) {
      let last = 0
      this.levelTree.forEach((key, value) => { if (isJournal(key)) last = Math.max(last, numberOf(value)) })
      for (const changes of missingChanges(this.redoBytes, seedOf(decodeIdentity(remembered).nonce), last)) this.#pending.push({ number: ++last, changes: [...changes] })
    }
    this.#redoPending()
  }

  /** Everything is on the medium. */
  settle (): void {
    this.#synced = this.levelTree
    this.#afterSync = []
  }

  /** The file is on the medium. */
  settleTold (): void {
    this.#toldSynced = this.told
  }

  losePower (dice: Dice): void {
    const kept = dice.pick([0, 0.5, 1])
    this.redo = this.redo.filter(() => dice.chance(kept))
    this.loseTail(dice)
    this.told = dice.pick([this.told, this.#toldSynced])
    this.settleTold()
    this.bootId = `boot ${dice.below(1e9)}`
  }

  /**
   * The end of the write-ahead log is gone, though the machine has been running all the time. What the next open will find in
   * the redo log is decided here: what was overwritten there does not come back with a power loss before that open.
   */
  loseTail (dice: Dice): void {
    this.levelTree = dice.pick([this.#synced, ...this.#afterSync])
    const { redoBytes } = this
    this.redo = [0, redoAreaBytes].map((position) => ({ position, bytes: redoBytes.subarray(position, position + redoAreaBytes) })).filter(({ bytes }) => bytes.length > 0)
    this.settle()
    this.recover()
  }

  /** Puts back a copy, as new files. */
  restore ({ levelTree, redo, identity, told }: Contents, number: number): void {
    this.levelTree = levelTree
    this.redo = redo
    this.told = told
    this.identity = identity === undefined ? undefined : { ...identity, follows: undefined, inode: `copy ${number}`, birthTime: `copied ${number}`, changeTime: `copied ${number}` }
    this.settle()
    this.settleTold()
    this.recover()
  }
}

function areaOf (position: number): number {
  return Math.floor(position / redoAreaBytes)
}

function isJournal (key: Buffer): boolean {
  return key[0] === keyspace.meta && key[1] === journalLetter
}

function numberOf (journalRecord: Buffer): number {
  return new ByteReader(journalRecord).varint()
}

/** The number of the last inner batch that is in a batch of LevelDB; 0 if there is none. */
function lastNumber (operations: readonly RawOperation[]): number {
  return Math.max(0, ...operations.flatMap(({ type, key, value }) => type === 'put' && isJournal(key) ? [numberOf(value!)] : []))
}

const journalLetter = 'J'.charCodeAt(0)

export function applied (tree: Tree, operations: readonly RawOperation[]): Tree {
  for (const { type, key, value } of operations) {
    const found = tree.find(key)
    if (type === 'del') tree = found.valid ? found.remove() : tree
    else tree = found.valid ? found.update(value!) : tree.insert(key, value!)
  }
  return tree
}

/** The identity file of the directory that a disk holds. */
export class DiskIdentity implements IdentityStore {
  readonly #disk: Disk

  constructor (disk: Disk) {
    this.#disk = disk
  }

  async read (): Promise<Identity | undefined> {
    const { identity, bootId } = this.#disk
    return identity === undefined ? undefined : { ...identity, bootId }
  }

  async draft (): Promise<void> {}

  async renew (nonce: string, follows: Followed | undefined): Promise<Identity> {
    const number = String(++this.#disk.renewals)
    this.#disk.identity = { nonce, follows, inode: number, birthTime: '1', changeTime: number, bootId: this.#disk.bootId }
    return this.#disk.identity
  }

  async remembered (): Promise<void> {
    const { identity } = this.#disk
    if (identity !== undefined) this.#disk.identity = { ...identity, follows: undefined }
  }

  async told (): Promise<Advance | undefined> {
    return this.#disk.told
  }

  tell (told: Advance): void {
    if (this.#disk.failures > 0) throw ioError('the file cannot be written')
    this.#disk.told = told
  }

  letGo (): void {}

  close (): void {
    this.#disk.settleTold()
  }
}

/** The file of the redo log, as one process writes to it. */
export class DiskRedoFile implements RedoFile {
  readonly #disk: Disk
  readonly #dice: Dice
  readonly #observe: BatchObserver
  readonly #isDead: () => boolean
  readonly #takesWrites: boolean

  constructor (disk: Disk, dice: Dice, observe: BatchObserver, isDead: () => boolean) {
    this.#disk = disk
    this.#dice = dice
    this.#takesWrites = dice.chance(0.7)
    this.#observe = observe
    this.#isDead = isDead
  }

  async read (): Promise<Buffer> {
    return this.#disk.redoBytes
  }

  write (bytes: Buffer, position: number): void {
    if (this.#isDead() || !this.#takesWrites) throw new Error('simulated: nothing is written here')
    const piece = { position, bytes: Buffer.from(bytes) }
    if (this.#disk.failures > 0 && this.#dice.chance(0.5)) {
      this.#disk.addRedo({ position, bytes: piece.bytes.subarray(0, this.#dice.below(bytes.length)) })
      throw ioError('no space left on device')
    }
    const { number, changes } = decodeRecord(piece.bytes.subarray(8))
    const before = this.#disk.writeRedo(piece, number, changes)
    this.#observe(changes, before, this.#disk.tree, false)
  }

  async remove (): Promise<void> {
    if (!this.#isDead()) this.#disk.redo = []
  }

  close (): void {}
}

/** The engine of one process. Once it is dead, nothing that it asked for comes. */
export class SimulatedLevel extends MemoryLevel<Buffer, Buffer> {
  readonly #disk: Disk
  readonly #scheduler: Scheduler
  readonly #dice: Dice
  readonly #observe: BatchObserver
  /** Resolves when its process runs. */
  readonly #running: () => Promise<void>
  readonly #pauseMs: number
  /** How many reads take time too. */
  slowReads: number
  dead = false

  constructor (disk: Disk, scheduler: Scheduler, dice: Dice, observe: BatchObserver, running: () => Promise<void>) {
    super({ keyEncoding: 'buffer', valueEncoding: 'buffer', storeEncoding: 'buffer' })
    this.#disk = disk
    this.#scheduler = scheduler
    this.#dice = dice
    this.#observe = observe
    this.#running = running
    this.#pauseMs = dice.pick([0.1, 1, 10])
    this.slowReads = dice.pick([0, 0.1, 0.5])
  }

  #at<T extends { snapshot?: object }> (options: T): T {
    return options.snapshot === undefined ? { ...options, snapshot: { ref () {}, unref () {}, [treeSymbol]: this.#disk.levelTree } } : options
  }

  async _get (key: Buffer, options: object): Promise<Buffer | undefined> {
    return await this.#read(() => memory._get.call(this, key, this.#at(options)))
  }

  _getSync (key: Buffer, options: object): Buffer | undefined {
    return memory._getSync.call(this, key, this.#at(options))
  }

  async _getMany (keys: Buffer[], options: object): Promise<Array<Buffer | undefined>> {
    return await this.#read(() => memory._getMany.call(this, keys, this.#at(options)))
  }

  async _has (key: Buffer, options: object): Promise<boolean> {
    return await this.#read(() => memory._has.call(this, key, this.#at(options)))
  }

  async _hasMany (keys: Buffer[], options: object): Promise<boolean[]> {
    return await this.#read(() => memory._hasMany.call(this, keys, this.#at(options)))
  }

  _iterator (options: object): unknown {
    return this.#slowed(memory._iterator.call(this, this.#at(options)))
  }

  _keys (options: object): unknown {
    return this.#slowed(memory._keys.call(this, this.#at(options)))
  }

  _values (options: object): unknown {
    return this.#slowed(memory._values.call(this, this.#at(options)))
  }

  /** LevelDB's threads may come to a read late, and what they have read may be heard late. */
  async #read<T> (read: () => Promise<T>): Promise<T> {
    if (this.#dice.chance(this.slowReads)) await this.#pause()
    const result = await read()
    if (this.#dice.chance(this.slowReads)) await this.#pause()
    return await this.#alive(Promise.resolve(result))
  }

  /** An iterator reads as of when it was made, however long that takes. */
  #slowed (iterator: PrivateIterator): PrivateIterator {
    for (const name of ['_next', '_nextv', '_all'] as const) {
      const read = iterator[name]
      iterator[name] = async (...args) => await this.#read(async () => await read.apply(iterator, args))
    }
    return iterator
  }

  _snapshot (options: object): object {
    const snapshot = memory._snapshot.call(this, options)
    snapshot[treeSymbol] = this.#disk.levelTree
    return snapshot
  }

  async _batch (operations: RawOperation[], { sync = false }: { sync?: boolean }): Promise<void> {
    await this.#alive(this.#pause())
    if (this.#disk.failures > 0) {
      this.#disk.failures--
      // What a failed write has written is there all the same, sometimes.
      if (this.#dice.chance(0.3)) this.#write(operations, sync)
      throw ioError('no space left on device')
    }
    this.#write(operations, sync)
    if (this.#dice.chance(0.3)) await this.#alive(this.#pause())
  }

  #write (operations: readonly RawOperation[], sync: boolean): void {
    const before = this.#disk.write(operations, sync)
    this.#observe(operations, before, this.#disk.tree, sync)
  }

  async #pause (): Promise<void> {
    await this.#scheduler.pause(this.#dice.exponential(this.#pauseMs))
  }

  async #alive<T> (result: Promise<T>): Promise<T> {
    const value = await result
    await this.#running()
    if (this.dead) await new Promise(() => {})
    return value
  }
}

/** What an operating system throws, and LevelDB's binding. */
function ioError (what: string): Error {
  return Object.assign(new Error(`simulated: ${what}`), { code: 'ENOSPC' })
}
