/**
 * Replicas that are linked tell each other of others, so that one who knows one finds all.
 *
 * Whoever takes part says so with its first `peers` message, and only of those others are told. That first message is
 * answered with what is known: of two that come to a third at the same moment, at least the later one hears of the
 * other. What was missed so is made good in time, by telling one linked replica, taken by chance, every now and then.
 *
 * What must always hold: only what members of the group have said is used, and only members are told; an address of
 * this machine is told to this machine only; nobody is sent to itself or to whom it is linked with; each message has a
 * limit, and none is answered with more than one.
 */
import type { Peer } from '../codec/message.ts'
import type { ReplicaId } from '../core/ids.ts'
import { exchangeIntervalMs, peersPerMessageMax } from '../limits.ts'
import { isLoopback } from '../options.ts'
import type { Address, System, Timer } from '../types.ts'
import { formatAddress, parseAddress } from './addresses.ts'
import type { Link } from './link.ts'

export interface PeerExchangeOptions {
  readonly system: System
  /** Whether to believe in addresses of this machine only. */
  readonly machineOnly: boolean
  readonly links: () => Iterable<Link>
  /** This replica. */
  readonly self: () => ReplicaId
  readonly isLinked: (replica: ReplicaId) => boolean
  /** A member of the group says that a replica can be dialled there. */
  readonly onFound: (address: Address) => void
}

export class PeerExchange {
  readonly #options: PeerExchangeOptions
  /** Links whose peers take part. */
  readonly #taking = new WeakSet<Link>()
  #timer: Timer | undefined

  constructor (options: PeerExchangeOptions) {
    this.#options = options
  }

  start (): void {
    const { system } = this.#options
    this.#timer = system.setTimer(() => {
      const links = [...this.#options.links()].filter((link) => this.#taking.has(link))
      const link = links[Math.floor(system.random() * links.length)]
      if (link !== undefined) this.#tell(link)
      this.start()
    }, exchangeIntervalMs * (0.5 + system.random()))
  }

  stop (): void {
    this.#options.system.clearTimer(this.#timer)
  }

  /** Says that this replica takes part. */
  greeted (link: Link): void {
    link.handle({ type: 'tell-peers', peers: [] })
  }

  /** A linked replica has told of others. */
  told (link: Link, peers: readonly Peer[]): void {
    if (!this.#taking.has(link)) {
      this.#taking.add(link)
      this.#tell(link)
    }
    const { self, isLinked, machineOnly, onFound } = this.#options
    for (const { replica, host, port } of peers) {
      if (replica === self() || isLinked(replica)) continue
      const address = checked(host, port)
      if (address === undefined) continue
      const isLocal = isLoopback(address.host)
      if (isLocal ? isLoopback(link.address.host) : !machineOnly) onFound(address)
    }
  }

  #tell (link: Link): void {
    const { system, links } = this.#options
    const isLocal = isLoopback(link.address.host)
    const peers: Peer[] = []
    for (const other of links()) {
      const { peer } = other.session
      if (peer === undefined || peer.replica === link.session.peer?.replica || !this.#taking.has(other)) continue
      const address = dialableAddress(other)
      if (address !== undefined && (isLocal || !isLoopback(address.host))) peers.push({ replica: peer.replica, ...address })
    }
    // Of many, others each time.
    while (peers.length > peersPerMessageMax) peers.splice(Math.floor(system.random() * peers.length), 1)
    if (peers.length > 0) link.handle({ type: 'tell-peers', peers })
  }
}

/** Where the replica at the other end can be dialled, as far as this end can tell; undefined if it does not listen. */
export function dialableAddress ({ direction, address, session }: Link): Address | undefined {
  if (direction === 'outbound') return address
  const { host = '', port = 0 } = session.peer ?? {}
  if (port === 0) return undefined
  const named = checked(host, port)
  const isParticular = named !== undefined && !['0.0.0.0', '::'].includes(named.host)
  if (isParticular && (!isLoopback(named.host) || isLoopback(address.host))) return named
  // It listens on all interfaces: dial it where it comes from.
  return isParticular || address.port === 0 ? undefined : checked(address.host, port)
}

/** An address of a peer's making, if it is one. */
function checked (host: string, port: number): Address | undefined {
  try {
    return parseAddress(formatAddress({ host, port }))
  } catch {
    return undefined
  }
}
