/**
 * `db.replication`: everything about replication that is not in options and events.
 */
import { formatLogId } from './core/ids.ts'
import type { ReadonlyVersionVector } from './core/version-vector.ts'
import { ReplicationError } from './errors.ts'
import { assertPath, invalidOption } from './options.ts'
import { parseAddress } from './network/addresses.ts'
import type { PeerStatus } from './network/peer-status.ts'
import type { Replicator } from './network/replicator.ts'
import type { Duplex } from './network/transport.ts'
import type { RangeOptions } from './storage/range.ts'
import type { Store } from './storage/store.ts'
import type { Address, Version } from './types.ts'

/** What is there while the database is open. */
export interface OpenReplica {
  readonly backUp: (directory: string) => Promise<void>
  readonly store: Store
  readonly replicator: Replicator
}

/** Keys of the database from and to bytes. */
export interface KeyCodec<K> {
  encode (key: K): Buffer
  decode (bytes: Uint8Array): unknown
}

export interface ReplicationStatus {
  /** Replica id. */
  readonly id: string
  /** The log that this replica writes now: the `origin` of its versions. */
  readonly log: string
  readonly group: string
  readonly address: Address | undefined
  /** What this replica knows: for each log, how many operations. */
  readonly vector: Readonly<Record<string, number>>
  /** What of it would survive a power loss. */
  readonly durable: Readonly<Record<string, number>>
  /** Tombstones up to here have been forgotten. */
  readonly collected: Readonly<Record<string, number>>
  /** The replicas of the group that this one knows of. */
  readonly members: readonly MemberStatus[]
  /** What deletes have left, until every member has them on disk. */
  readonly tombstones: {
    /** How many there are, at most. */
    readonly count: number
    /** How many stand in conflict with a value, and hold back others after them. */
    readonly conflicts: number
    /** The members that are waited for. */
    readonly blockedBy: readonly string[]
  }
  /** Operations in the log: those that the last sweep found to be in use, those written and deletes forgotten since. */
  readonly operations: { readonly live: number, readonly written: number, readonly forgotten: number }
  /** Whether a long catch-up or state transfer is being applied. */
  readonly applying: boolean
}

export interface MemberStatus {
  readonly id: string
  /** What it has said to hold durably: for each log, how many operations. */
  readonly acknowledged: Readonly<Record<string, number>>
  /** How many operations of this replica it is not known to hold durably. */
  readonly behind: number
  readonly linked: boolean
  /** For how long it has not been seen, in time that this replica was open. */
  readonly unseenMs: number
  /** Whether it is waited for: it was neither retired, nor unseen for `memberTtlMs`. */
  readonly counted: boolean
}

/** A range of keys, as iterators take it. */
export interface KeyRange<K> {
  gt?: K | undefined
  gte?: K | undefined
  lt?: K | undefined
  lte?: K | undefined
  limit?: number | undefined
  reverse?: boolean | undefined
}

export class Replication<K = string, V = string> {
  readonly #open: () => OpenReplica | undefined
  readonly #group: string
  readonly #keys: KeyCodec<K>

  constructor (group: string, keys: KeyCodec<K>, open: () => OpenReplica | undefined) {
    this.#group = group
    this.#keys = keys
    this.#open = open
  }

  get #replica (): OpenReplica {
    const replica = this.#open()
    if (replica === undefined) throw new ReplicationError('Database is not open', { code: 'LEVEL_DATABASE_NOT_OPEN' })
    return replica
  }

  /** Replica id: 32 hexadecimal digits, kept over restarts. A directory that was copied gets one of its own. */
  get id (): string {
    return this.#replica.store.replica
  }

  /** Where this replica listens; undefined if it does not. */
  get address (): Address | undefined {
    return this.#open()?.replicator.address
  }

  /** The status of each peer: of those linked, and of those that are to be. */
  peers (): PeerStatus[] {
    return this.#replica.replicator.peers()
  }

  /**
   * Keeps an address connected from now on, besides those of the option `peers`. Returns at once; the event
   * `connect` tells when it is.
   *
   * @param address `'host:port'`, or `'[::1]:9000'`
   * @throws `REPLICATION_INVALID_OPTION`
   */
  connect (address: string): void {
    this.#replica.replicator.connect(parseAddress(address))
  }

  /** Stops keeping an address connected, and ends the link to the replica behind it. */
  disconnect (address: string): void {
    this.#replica.replicator.disconnect(parseAddress(address))
  }

  /**
   * Resolves when every linked peer has durably (on disk, not only in memory) what this replica had at the call, and
   * this replica what they had. With no link it waits for one.
   *
   * @param options `timeoutMs`: how long to wait, default 30,000
   * @throws `REPLICATION_TIMEOUT`, `REPLICATION_INVALID_OPTION`
   */
  async synced (options?: { timeoutMs?: number | undefined } | null): Promise<void> {
    const { timeoutMs = 30_000 } = options ?? {}
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) throw invalidOption('timeoutMs', timeoutMs, 'a number of milliseconds, 0 or more')
    await this.#replica.replicator.mesh.synced(timeoutMs)
  }

  /**
   * All concurrent versions of a key, the visible one first. Empty if it was never written, or long deleted.
   *
   * @throws `LEVEL_INVALID_KEY` if it is undefined or null
   */
  async versions (key: K): Promise<Array<Version<K, V>>> {
    return await this.#replica.store.versions(this.#keys.encode(key)) as Array<Version<K, V>>
  }

  /** Keys with more than one version, at least one of them a value, in key order. */
  async * conflicts (range?: KeyRange<K> | null): AsyncGenerator<{ key: K, versions: Array<Version<K, V>> }> {
    range ??= {}
    const bytes: Record<string, unknown> = { limit: range.limit, reverse: range.reverse }
    for (const bound of ['gt', 'gte', 'lt', 'lte'] as const) if (range[bound] !== undefined) bytes[bound] = this.#keys.encode(range[bound])
    for await (const { key, versions } of this.#replica.store.conflicts(bytes as RangeOptions)) {
      yield { key: this.#keys.decode(key) as K, versions: versions as Array<Version<K, V>> }
    }
  }

  /**
   * Makes a consistent copy, of the moment of the call, while reads and writes go on. Opened as a database it is
   * another replica, with a log of its own.
   *
   * @param directory its place; made if it is missing, and has to be empty
   * @throws `REPLICATION_PATH_NOT_EMPTY`; `REPLICATION_INVALID_OPTION` if it is no text; `LEVEL_IO_ERROR` if it cannot be made or
   * written; `LEVEL_DATABASE_NOT_OPEN` if this database is closed meanwhile
   */
  async backup (directory: string): Promise<void> {
    assertPath(directory, "argument 'directory'")
    await this.#replica.backUp(directory)
  }

  /**
   * One conversation, as an it-pipe duplex of bytes, to be piped with the `stream()` of another replica over anything
   * that carries bytes in order. It has no heartbeat of its own transport: end it to end the conversation.
   */
  stream (): Duplex {
    return this.#replica.replicator.stream()
  }

  /**
   * Stops waiting for a replica that will not return: what was deleted may be forgotten without it. Should it return
   * all the same, it is brought up to date and waited for again, and nothing deleted comes back with it. One replica
   * of the group has to be told. Resolves when that is on disk.
   *
   * @param replicaId an `id` of the members in {@link status}
   * @throws `REPLICATION_MEMBER` if that is no member, this replica itself, or one that is linked
   */
  async retire (replicaId: string): Promise<void> {
    const { store, replicator } = this.#replica
    const refused = replicaId === store.replica
      ? 'is this replica itself'
      : !store.members.has(replicaId) ? 'is not a member of the group that this replica knows of' : replicator.mesh.linkTo(replicaId) !== undefined ? 'is linked: it is there' : undefined
    if (refused !== undefined) throw new ReplicationError(`Replica ${String(replicaId)} ${refused}`, { code: 'REPLICATION_MEMBER' })
    await store.retire(replicaId)
  }

  /** One plain object: who this is, what it knows and of whom, and what deletes still wait for. */
  status (): ReplicationStatus {
    const { store, replicator } = this.#replica
    const members = [...store.members].map(({ replica, acknowledged, unseenMs, counted }) => {
      const self = replica === store.replica
      return { id: replica, acknowledged: plain(acknowledged), behind: store.vector.operationsBeyond(acknowledged), linked: self || replicator.mesh.linkTo(replica) !== undefined, unseenMs: Math.floor(unseenMs), counted }
    })
    const { tombstones, log } = store.garbage
    return {
      id: store.replica,
      log: formatLogId(store.ownLog),
      group: this.#group,
      address: this.address,
      vector: plain(store.vector),
      durable: plain(store.durable),
      collected: plain(store.collected),
      members,
      tombstones: { ...tombstones, blockedBy: tombstones.count === 0 ? [] : members.filter(({ id, counted, behind }) => counted && behind > 0 && id !== store.replica).map(({ id }) => id) },
      operations: log,
      applying: store.applying
    }
  }
}

function plain (vector: ReadonlyVersionVector): Record<string, number> {
  return Object.fromEntries([...vector].map(({ log, sequence }) => [formatLogId(log), sequence]))
}
