/**
 * Whether this directory is the one whose log it continues.
 *
 * A directory that was copied or restored must not write on in the same log: the same dot would name two writes.
 * Each open replaces a small file inside the directory and remembers, in the database, what it was: its nonce, inode
 * and birth time, and its change time. If nonce, inode or birth time differ at the next open, the directory is a copy
 * or was restored: new replica id, new log. If only the change time differs (chown does that), or the machine
 * restarted since an unclean close, the end of the log may be gone: new log, same replica. A process that ends between
 * the two leaves a new file that nothing remembers: so until then a third file says which one it is, and how the one was
 * found whose place it has taken.
 *
 * While the machine runs, a process that is killed loses nothing. A file system may still lose the end of LevelDB's
 * write-ahead log, which nobody could tell from a shorter one. So another small file says up to where data of the log has
 * been sent to peers: if less than that is here, the same dot would name two writes; and if a peer has more than that,
 * somebody else writes in the log, too. It is synced by a clean close only, since a restart of the machine after any
 * other is noticed. Where it is missing, the log is not written on.
 */
import { mkdir, readFile, readlink, realpath, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { uptime } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { logIdFrom } from '../core/ids.ts'
import type { Advance } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import type { System } from '../types.ts'
import { roomFileName } from './disk.ts'
import { FileInPlace } from './file-in-place.ts'
import { dotBytes, readSequence, writeDot } from './keyspaces.ts'
import { redoFileName } from './redo-log.ts'

export const identityFileName = 'REPLICA'
const toldFileName = 'REPLICA.told'
const followsFileName = 'REPLICA.follows'
/** Where a plain database is being made a replica: the name of its directory, and this. */
export const adoptingSuffix = '.adopting'
/** A dot, and its time. */
const toldBytes = dotBytes + 7
/** Bytes on their way there. */
const dot = Buffer.alloc(dotBytes)
const told = new ByteWriter(toldBytes)
const bootIdFile = '/proc/sys/kernel/random/boot_id'
/** What a boot id begins with that is the second in which the machine was started. */
const startedAt = '@'
/** That second moves when the clock is set; two runs of a machine do not begin so close to each other. */
const startToleranceSeconds = 10

export interface Identity {
  readonly nonce: string
  readonly inode: string
  readonly birthTime: string
  readonly changeTime: string
  /** Which run of the machine it was written in. */
  readonly bootId: string
  /** The one whose place it has taken, until {@link IdentityStore.remembered}. */
  readonly follows?: Followed | undefined
}

/** One that is not there any more, as it was found last. */
export type Followed = Pick<Identity, 'nonce' | 'changeTime'>

export type Verdict = 'same' | 'new-log' | 'new-replica'

/** Where identities are kept: a directory, or a simulator's stand-in. */
export interface IdentityStore {
  /** What stands there now; undefined if nothing does. */
  read (): Promise<Identity | undefined>
  /** Makes ready to {@link renew}: lays a new identity down beside the one that is there, durably. */
  draft (nonce: string): Promise<void>
  /**
   * Puts the new identity there that has been drafted, and returns what {@link read} would.
   *
   * @param follows what is remembered, if what is there is no copy
   */
  renew (nonce: string, follows: Followed | undefined): Promise<Identity>
  /** What was renewed is remembered. */
  remembered (): Promise<void>
  /** How far peers have been told of a log. */
  told (): Promise<Advance | undefined>
  /** Remembers that peers are told of a log up to here, before they are. */
  tell (told: Advance): void
  /** Lets go of what is written in place: the directory may be in another place now, or another one in its place. */
  letGo (): void
  /** Makes what was told durable, and lets go of it. */
  close (): void
}

/** Compares what the database remembers with what is there. */
export function judge (remembered: Identity | undefined, found: Identity | undefined, closedCleanly: boolean): Verdict {
  if (remembered === undefined || found === undefined) return 'new-replica'
  const last = lastFound(remembered, found)
  if (last === found && (remembered.nonce !== found.nonce || remembered.inode !== found.inode || remembered.birthTime !== found.birthTime)) return 'new-replica'
  if (remembered.changeTime !== last.changeTime) return 'new-log'
  if (!closedCleanly && !isSameRun(remembered.bootId, found.bootId)) return 'new-log'
  return 'same'
}

/** How the one that is remembered was found last: nothing has been written since another one took its place. */
export function lastFound (remembered: Identity, found: Identity): Followed {
  return found.follows?.nonce === remembered.nonce ? found.follows : found
}

function isSameRun (one: string, other: string): boolean {
  if (!one.startsWith(startedAt) || !other.startsWith(startedAt)) return one === other && one !== ''
  return Math.abs(Number(one.slice(startedAt.length)) - Number(other.slice(startedAt.length))) <= startToleranceSeconds
}

export class IdentityFile implements IdentityStore {
  readonly #directory: string
  readonly #path: string
  readonly #system: Pick<System, 'nowMs'>
  readonly #toldFile: FileInPlace

  constructor (directory: string, system: Pick<System, 'nowMs'>) {
    this.#directory = directory
    this.#path = join(directory, identityFileName)
    this.#toldFile = new FileInPlace(join(directory, toldFileName))
    this.#system = system
  }

  /**
   * Refuses a directory that holds a database which is not a replica; nothing in it is changed. For an empty one,
   * lays the file down before LevelDB writes anything, so that no replica is ever without.
   *
   * @throws `REPLICATION_NOT_A_REPLICA`, `REPLICATION_ADOPTION_UNFINISHED`
   */
  async prepare (createIfMissing: boolean): Promise<void> {
    if (await exists(await placeOf(this.#directory) + adoptingSuffix)) throw new ReplicationError(`The adoption of ${this.#directory} has begun and is not finished`, { code: 'REPLICATION_ADOPTION_UNFINISHED' })
    if (await exists(join(this.#directory, 'CURRENT'))) {
      if (await exists(this.#path)) return
      throw new ReplicationError(`${this.#directory} holds a LevelDB database that is not a replica (it has no file ${identityFileName}); nothing was changed`, { code: 'REPLICATION_NOT_A_REPLICA' })
    }
    if (!createIfMissing) return
    await mkdir(this.#directory, { recursive: true })
    await layDownIdentity(this.#directory)
  }

  async read (): Promise<Identity | undefined> {
    const found = await unlessMissing(Promise.all([readFile(this.#path, 'utf8'), stat(this.#path, { bigint: true }), readBootId(this.#system.nowMs())]))
    if (found === undefined) return undefined
    const [text, { ino, birthtimeNs, ctimeNs }, bootId] = found
    const identity = { nonce: text.trim(), inode: String(ino), birthTime: String(birthtimeNs), changeTime: String(ctimeNs), bootId }
    const [followed = '', changeTime = '', ...renewed] = (await unlessMissing(readFile(this.#followsPath, 'utf8')))?.trim().split(' ') ?? []
    return renewed.join() === [identity.nonce, identity.inode, identity.birthTime].join() ? { ...identity, follows: { nonce: followed, changeTime } } : identity
  }

  async draft (nonce: string): Promise<void> {
    await writeFile(this.#draftPath, `${nonce}\n`, { flush: true })
  }

  async renew (nonce: string, follows: Followed | undefined): Promise<Identity> {
    const { ino, birthtimeNs } = await stat(this.#draftPath, { bigint: true })
    if (follows === undefined) await this.remembered()
    else await writeFile(this.#followsPath, `${follows.nonce} ${follows.changeTime} ${nonce} ${ino} ${birthtimeNs}\n`)
    await rename(this.#draftPath, this.#path)
    return (await this.read())!
  }

  async remembered (): Promise<void> {
    await rm(this.#followsPath, { force: true })
  }

  get #draftPath (): string {
    return `${this.#path}.next`
  }

  get #followsPath (): string {
    return join(this.#directory, followsFileName)
  }

  async told (): Promise<Advance | undefined> {
    const bytes = await unlessMissing(readFile(this.#toldFile.path))
    return bytes === undefined ? undefined : decodeTold(bytes)
  }

  tell ({ log, sequence, hlc }: Advance): void {
    writeDot(dot, 0, log, sequence)
    this.#toldFile.write(told.reset().raw(dot).hlc(hlc).view(), 0)
  }

  letGo (): void {
    this.#toldFile.close()
  }

  close (): void {
    try {
      this.#toldFile.sync()
    } finally {
      this.#toldFile.close()
    }
  }
}

/** From now on the directory counts as a replica's. */
export async function layDownIdentity (directory: string): Promise<void> {
  await writeFile(join(directory, identityFileName), '', { flag: 'a', flush: true })
}

/** Removes what {@link IdentityFile} laid down, the directory included if nothing else is left in it. */
export async function removeIdentityFile (directory: string): Promise<void> {
  if (!await exists(join(directory, identityFileName))) return
  for (const name of [identityFileName, `${identityFileName}.next`, followsFileName, toldFileName, roomFileName, redoFileName]) await rm(join(directory, name), { force: true })
  await rmdir(directory).catch(() => {})
}

export function encodeIdentity ({ nonce, inode, birthTime, changeTime, bootId }: Identity): Buffer {
  return new ByteWriter().text(nonce).text(inode).text(birthTime).text(changeTime).text(bootId).take()
}

export function decodeIdentity (bytes: Buffer): Identity {
  const reader = new ByteReader(bytes)
  const text = (): string => reader.text(256)
  return { nonce: text(), inode: text(), birthTime: text(), changeTime: text(), bootId: text() }
}

/** Undefined if it makes no sense: as if it were not there. */
function decodeTold (bytes: Buffer): Advance | undefined {
  try {
    const told = { log: logIdFrom(bytes.subarray(0, 8)), sequence: readSequence(bytes, 8), hlc: new ByteReader(bytes.subarray(dotBytes)).hlc() }
    return bytes.length === toldBytes && Number.isSafeInteger(told.sequence) ? told : undefined
  } catch {
    return undefined
  }
}

/** Where a directory really is, or is to be: links lead there, also while nothing is there. Without a separator at its end. */
export async function placeOf (location: string): Promise<string> {
  const path = resolve(location)
  const place = await unlessMissing(realpath(path))
  if (place !== undefined) return place
  const target = await unlessMissing(readlink(path))
  return target === undefined ? path : await placeOf(resolve(await realpath(dirname(path)), target))
}

/** Whether there is a file or directory of that name. */
export async function exists (path: string): Promise<boolean> {
  return await unlessMissing(stat(path)) !== undefined
}

/** What is found at a path; undefined if nothing is there, nor can be, below a file. */
export async function unlessMissing<T> (finding: Promise<T>): Promise<T | undefined> {
  try {
    return await finding
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}

/** Which run of the machine this is: by Linux's boot id, elsewhere by when the machine was started. */
export async function readBootId (nowMs: number, file = bootIdFile): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch {
    return `${startedAt}${Math.round(nowMs / 1000 - uptime())}`
  }
}
