/**
 * Replication of one open database: listens, keeps its peers connected, catches up before writes are accepted.
 *
 * What a link is worth to whom it was dialled for: an address counts as connected while any link to the replica
 * behind it lives, whoever dialled it. Addresses come from the user (`peers`, `connect`), and, with `discovery`, from
 * Bonjour and from linked replicas; all of them end in the dialer.
 */
import type { Hello } from '../codec/message.ts'
import type { ReplicaId } from '../core/ids.ts'
import { ReplicationError, toReplicationError, type ReplicationErrorCode } from '../errors.ts'
import { backOffMaxMs, linksWantedMax, timerMaxMs } from '../limits.ts'
import type { CompleteDiscovery, PeersOption } from '../options.ts'
import type { Store } from '../storage/store.ts'
import type { Address, System } from '../types.ts'
import { formatAddress } from './addresses.ts'
import { Complaints } from './complaints.ts'
import { Dialer } from './dialer.ts'
import type { ActiveDiscovery, Discovery } from './discovery.ts'
import { GroupToken, groupKey } from './group-token.ts'
import type { Link } from './link.ts'
import { Mesh } from './mesh.ts'
import { PeerExchange, dialableAddress } from './peer-exchange.ts'
import { peerStatuses, type PeerStatus } from './peer-status.ts'
import { PeerSource } from './peer-source.ts'
import { protectStream, StreamConnection } from './stream.ts'
import type { Protection } from './tls.ts'
import type { Duplex, Listener, Transport } from './transport.ts'

export interface ReplicatorOptions {
  readonly system: System
  readonly store: Store
  readonly transport: Transport
  readonly protection: Protection | undefined
  /** What an announcement is proved with; undefined without a secret. */
  readonly announcementKey: Uint8Array | undefined
  /** Finds peers without configuration; undefined where there is none. */
  readonly finder: Discovery | undefined
  readonly discovery: CompleteDiscovery
  readonly group: string
  readonly host: string
  readonly port: number | false
  readonly portIsPreference: boolean
  readonly peers: PeersOption
  readonly resolverVersion: string
  readonly transactionBytesMax: number
  readonly initialSyncMs: number
  readonly emit: (event: string, ...args: unknown[]) => void
  readonly onError: (error: ReplicationError) => void
}

/** Ends of a link that are part of ordinary life, or that `disconnect` tells. */
const quietCodes = new Set<ReplicationErrorCode>(['REPLICATION_DISCONNECTED', 'REPLICATION_DUPLICATE_LINK', 'REPLICATION_SELF', 'REPLICATION_DIAL_FAILED'])

/** Addresses whose replica is remembered. */
const addressesMetMax = 1024

export class Replicator {
  readonly #options: ReplicatorOptions
  readonly #dialer: Dialer
  readonly #peerSource: PeerSource
  readonly mesh: Mesh
  #listener: Listener | undefined
  readonly #exchange: PeerExchange | undefined
  #discovery: ActiveDiscovery | undefined
  /** Which replica was last met at an address. */
  readonly #replicaAt = new Map<string, { address: Address, replica: ReplicaId }>()
  /** Streams whose ends do not know each other yet. */
  readonly #handshakes = new Set<StreamConnection>()
  /** Links whose beginning has been told. */
  readonly #announced = new Set<Link>()
  /** Of those that never begin. */
  readonly #complaints: Complaints
  #kickedMs = -Infinity
  #isHurried = false
  #goOn = (): void => {}
  #closed = false

  constructor (options: ReplicatorOptions) {
    this.#options = options
    const { system, store, transport, group, resolverVersion, transactionBytesMax, discovery } = options
    this.#complaints = new Complaints(system)
    this.mesh = new Mesh({
      system,
      store,
      group,
      nonce: Buffer.from(system.randomBytes(16)).toString('hex'),
      resolverVersion,
      transactionBytesMax,
      address: () => this.address,
      onError: options.onError,
      onGreeted: (link, hello) => { this.#greeted(link, hello) },
      onCaughtUp: (link) => { options.emit('sync', this.peers().find(({ id }) => id === link.session.peer?.replica)) },
      onToldPeers: (link, peers) => { this.#exchange?.told(link, peers) },
      onEnded: (link, error) => { this.#ended(link, error) }
    })
    this.#dialer = new Dialer({
      transport,
      system,
      onConnection: (connection, address) => {
        if (this.mesh.add(connection, 'outbound', address) === undefined) this.#dialer.released(address)
      },
      onFailed: (address, error) => { this.#complain(error, formatAddress(address)) }
    })
    if (discovery.exchange) {
      this.#exchange = new PeerExchange({
        system,
        machineOnly: discovery.machineOnly,
        links: () => this.mesh.links,
        self: () => store.replica,
        isLinked: (replica) => this.mesh.linkTo(replica) !== undefined,
        onFound: (address) => { this.#found(address) }
      })
    }
    this.#peerSource = new PeerSource(options.peers, {
      system,
      onAddresses: (addresses, { replace }) => { this.#dialer.setAddresses(addresses, { replace }) },
      onError: options.onError
    })
  }

  /** Where it listens. */
  get address (): Address | undefined {
    return this.#listener?.address
  }

  /**
   * Listens, dials, and tries to catch up with those it reaches.
   *
   * @throws `REPLICATION_ADDRESS_IN_USE`, `REPLICATION_LISTEN_FAILED`
   */
  async open (): Promise<void> {
    await this.#listen()
    const started = this.#peerSource.start()
    this.#discover()
    const { initialSyncMs, system } = this.#options
    if (initialSyncMs === 0 || this.#isHurried) return
    let timer: unknown
    const late = new Promise<void>((resolve) => {
      timer = system.setTimer(resolve, Math.min(initialSyncMs, timerMaxMs), true)
      this.#goOn = resolve
    })
    await Promise.race([late, started.then(async () => { await this.#firstSync() })])
    system.clearTimer(timer)
  }

  /** {@link open} waits for nobody any more. */
  hurry (): void {
    this.#isHurried = true
    this.#goOn()
  }

  async #listen (): Promise<void> {
    const { transport, host, port, portIsPreference, emit } = this.#options
    if (port === false) return
    const listen = async (port: number): Promise<Listener> => await transport.listen({ host, port }, (connection) => { this.mesh.add(connection, 'inbound', connection.remote) }, (error, remote) => { this.#complain(error, remote?.host) })
    try {
      this.#listener = await listen(port)
    } catch (error) {
      if (!portIsPreference || toReplicationError(error).code !== 'REPLICATION_ADDRESS_IN_USE') throw error
      this.#listener = await listen(0)
    }
    emit('listening', this.#listener.address)
  }

  /** Begins to look for others, and to be found. Nobody is waited for. */
  #discover (): void {
    const { system, finder, discovery, group, announcementKey, onError } = this.#options
    this.#exchange?.start()
    if (!discovery.bonjour) return
    this.#discovery = finder?.start({
      ...discovery,
      token: new GroupToken(groupKey(group, announcementKey), (size) => system.randomBytes(size)),
      address: this.address,
      onFound: (address) => { this.#found(address) },
      onNetworkChanged: () => { this.#dialer.kick() },
      onError
    })
  }

  /** Somebody says that a replica of the group listens there. */
  #found (address: Address): void {
    const key = formatAddress(address)
    if (this.mesh.links.size >= linksWantedMax) return
    for (const link of this.mesh.links) {
      const known = link.session.peer === undefined ? undefined : dialableAddress(link)
      if (known !== undefined && formatAddress(known) === key) return
    }
    this.#dialer.suggest(address)
  }

  async #firstSync (): Promise<void> {
    await this.#dialer.firstAttempts()
    await this.mesh.caughtUpWithAll()
  }

  /** Adds an address to those that are kept connected. */
  connect (address: Address): void {
    this.#complaints.forget(formatAddress(address))
    this.#dialer.add(address)
  }

  /** Stops keeping an address connected, and ends the link to the replica behind it. */
  disconnect (address: Address): void {
    const key = formatAddress(address)
    this.#dialer.remove(address)
    const replica = this.#replicaAt.get(key)?.replica
    for (const link of [...this.mesh.links]) {
      if (formatAddress(link.address) === key || (replica !== undefined && link.session.peer?.replica === replica)) {
        link.end(new ReplicationError('Disconnected by hand', { code: 'REPLICATION_DISCONNECTED' }))
      }
    }
  }

  peers (): PeerStatus[] {
    return peerStatuses(this.mesh, this.#dialer.states(), this.#options.store)
  }

  /** One conversation over whatever the caller pipes this with. */
  stream (): Duplex {
    const stream = new StreamConnection()
    const { protection, system, onError } = this.#options
    if (protection === undefined) {
      this.mesh.add(stream, 'stream', stream.remote)
    } else {
      this.#handshakes.add(stream)
      protectStream(stream, protection, system)
        .finally(() => { this.#handshakes.delete(stream) })
        .then((connection) => { this.mesh.add(connection, 'stream', connection.remote) }, (error) => { if (!this.#closed) onError(toReplicationError(error, 'REPLICATION_DISCONNECTED')) })
    }
    return stream.duplex
  }

  async close (): Promise<void> {
    this.#closed = true
    for (const stream of this.#handshakes) stream.close()
    this.#peerSource.stop()
    this.#exchange?.stop()
    const goodbye = this.#discovery?.close()
    await this.#dialer.close()
    await this.#listener?.close()
    this.#listener = undefined
    await this.mesh.close()
    await goodbye
  }

  #greeted (link: Link, hello: Hello): void {
    const { host, port } = link.address
    const dialable = link.direction === 'outbound' || this.#exchange !== undefined ? dialableAddress(link) : undefined
    if (dialable !== undefined && (link.direction === 'outbound' || this.#dialer.met(dialable))) this.#meet(dialable, hello.replica)
    for (const { address } of this.#addressesOf(hello.replica)) this.#dialer.linked(address)
    this.#kick()
    this.#announced.add(link)
    this.#complaints.forget(placeOf(link))
    this.#exchange?.greeted(link)
    this.#options.emit(link.direction === 'outbound' ? 'connect' : 'connection', host, port)
  }

  /** One who is back brings the news that the way to others may be free; not so one who comes and goes. */
  #kick (): void {
    const nowMs = this.#options.system.monotonicMs()
    if (nowMs - this.#kickedMs < backOffMaxMs) return
    this.#kickedMs = nowMs
    this.#dialer.kick()
  }

  #ended (link: Link, error: ReplicationError | undefined): void {
    const { replica, nonce } = link.session.peer ?? {}
    const stays = replica === undefined ? undefined : this.mesh.linkTo(replica)
    const stillLinked = stays !== undefined
    if (link.direction === 'outbound') {
      // One that was opened anew may be somewhere else now, and somebody else here.
      const isHere = stays === undefined || stays.session.peer?.nonce === nonce
      if (error?.code === 'REPLICATION_SELF') this.#dialer.exclude(link.address)
      else if (!isHere) this.#replicaAt.delete(formatAddress(link.address))
      else if (replica !== undefined) this.#meet(link.address, replica)
      if (stillLinked && isHere) this.#dialer.linked(link.address)
      else this.#dialer.released(link.address, error)
    }
    if (replica !== undefined && !stillLinked && !this.#closed) this.#discovery?.lookAgain()
    if (replica !== undefined && !stillLinked) for (const { address } of this.#addressesOf(replica)) this.#dialer.released(address, error)
    const wasAnnounced = this.#announced.delete(link)
    if (wasAnnounced) this.#options.emit('disconnect', link.address.host, link.address.port, this.#closed ? undefined : error)
    this.#complain(error, wasAnnounced || link.direction === 'stream' ? undefined : placeOf(link))
  }

  /** With a place, what has been told of it lately is not told again. */
  #complain (error: ReplicationError | undefined, place?: string): void {
    if (error === undefined || quietCodes.has(error.code) || this.#closed) return
    if (place === undefined || this.#complaints.isNews(place, error)) this.#options.onError(error)
  }

  #meet (address: Address, replica: ReplicaId): void {
    const key = formatAddress(address)
    this.#replicaAt.delete(key)
    this.#replicaAt.set(key, { address, replica })
    if (this.#replicaAt.size > addressesMetMax) this.#replicaAt.delete(this.#replicaAt.keys().next().value!)
  }

  #addressesOf (replica: ReplicaId): Array<{ address: Address }> {
    return [...this.#replicaAt.values()].filter((met) => met.replica === replica)
  }
}

/** Who dials comes from another port each time. */
function placeOf ({ direction, address }: Link): string {
  return direction === 'outbound' ? formatAddress(address) : address.host
}
