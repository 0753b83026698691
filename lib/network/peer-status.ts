/**
 * What `db.replication.peers()` shows of each peer.
 */
import type { Store } from '../storage/store.ts'
import type { Address } from '../types.ts'
import { formatAddress } from './addresses.ts'
import type { DialState } from './dialer.ts'
import type { Link } from './link.ts'
import type { Mesh } from './mesh.ts'

export interface PeerStatus {
  /** Replica id; undefined until it has greeted. */
  readonly id: string | undefined
  readonly address: Address
  readonly direction: 'outbound' | 'inbound'
  /** `waiting` to dial, `dialling`, `greeting`, `syncing`, or `live`: everything the peer had has come. */
  readonly state: 'waiting' | 'dialling' | 'greeting' | 'syncing' | 'live'
  /** Operations that one side has and the other is not known to have. */
  readonly lag: { readonly inbound: number, readonly outbound: number }
  /** How far a catch-up or state transfer has come, 0 to 1; undefined if none is under way. */
  readonly progress: number | undefined
  readonly bytes: { readonly received: number, readonly sent: number }
  readonly operations: { readonly received: number, readonly sent: number }
  /** When the connection was made, milliseconds since 1970. */
  readonly since: number | undefined
  readonly lastError: Error | undefined
}

export function peerStatuses (mesh: Mesh, dials: readonly DialState[], store: Store): PeerStatus[] {
  const statuses = [...mesh.links].map((link) => linkStatus(link, store))
  const shown = new Set([...mesh.links].map(({ address }) => formatAddress(address)))
  for (const { address, state, lastError } of dials) {
    if (state === 'connected' || shown.has(formatAddress(address))) continue
    statuses.push({ id: undefined, address, direction: 'outbound', state, lag: { inbound: 0, outbound: 0 }, progress: undefined, bytes: { received: 0, sent: 0 }, operations: { received: 0, sent: 0 }, since: undefined, lastError })
  }
  return statuses
}

function linkStatus (link: Link, store: Store): PeerStatus {
  const { session, progress } = link
  const state = session.peer === undefined ? 'greeting' : session.receiving === 'live' ? 'live' : 'syncing'
  return {
    id: session.peer?.replica,
    address: link.address,
    direction: link.direction === 'outbound' ? 'outbound' : 'inbound',
    state,
    lag: { inbound: session.peerKnows.operationsBeyond(store.vector), outbound: store.vector.operationsBeyond(session.peerKnows) },
    progress: progress === undefined ? undefined : progress.total === 0 ? 1 : Math.min(1, progress.received / progress.total),
    bytes: link.bytes,
    operations: session.operations,
    since: link.sinceMs,
    lastError: undefined
  }
}
