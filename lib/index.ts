/**
 * What `import 'replicated-level'` gives.
 */
import { adopt, type AdoptOptions } from './adopt.ts'
import { BonjourDiscovery } from './network/bonjour.ts'
import { TcpTransport } from './network/tcp.ts'
import type { ReplicatedLevelOptions } from './options.ts'
import { ReplicatedLevelBase } from './replicated-level.ts'
import { system } from './system.ts'

/**
 * A Level database whose contents become the same on every replica of its group.
 *
 * ```js
 * const db = new ReplicatedLevel('./orders', { group: 'shop', peers: ['10.0.0.2:9000'] })
 * await db.put('order-1', 'two pears')
 * ```
 *
 * @template K Type of keys, unless an operation says otherwise.
 * @template V Type of values, likewise.
 */
export class ReplicatedLevel<K = string, V = string> extends ReplicatedLevelBase<K, V> {
  /**
   * @param location The directory, made if it is missing.
   * @param options classic-level's, and those of replication; see the README.
   * @throws `REPLICATION_INVALID_OPTION`, `LEVEL_NOT_SUPPORTED`
   */
  constructor (location: string, options?: ReplicatedLevelOptions<K, V> | null) {
    super({ system, transport: (protection) => new TcpTransport({ system, protection }), finder: new BonjourDiscovery({ system }) }, location, options)
  }

  /**
   * Makes a database of plain Level a replica, in its place: its entries become the first writes of a new log. For one
   * replica of a group only: two that adopt the same data have a conflict for every key. Nobody may have the database
   * open. Stopped at any moment, it is resumed by the next call; it needs as much space again meanwhile.
   *
   * @param location The directory of the database.
   * @param options `onProgress`: is told `{ entries, total }` now and then
   * @throws `REPLICATION_INVALID_OPTION`, also if it is a replica already; `REPLICATION_PATH_NOT_EMPTY` if there is something at its
   * name with `.adopted` behind it, where the original stands for a moment; `LEVEL_DATABASE_NOT_OPEN` if it cannot be opened
   */
  static async adopt (location: string, options?: AdoptOptions | null): Promise<void> {
    await adopt(location, options, system)
  }
}

export type { AdoptOptions } from './adopt.ts'
export type { ReplicationEvents } from './replicated-level.ts'
export { ReplicationError, type ReplicationErrorCode } from './errors.ts'
export type { CertificateOptions, DiscoveryOptions, PeerSet, PeersOption, ReplicatedLevelOptions, ReplicationOptions } from './options.ts'
export type { KeyRange, MemberStatus, Replication, ReplicationStatus } from './replication.ts'
export type { PeerStatus } from './network/peer-status.ts'
export type { Duplex } from './network/transport.ts'
export type { Address, DelVersion, PutVersion, Resolution, Resolver, Version } from './types.ts'
