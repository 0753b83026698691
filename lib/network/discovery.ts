/**
 * How replicas of a group find each other without being told: what the layers above need of it, and nothing else.
 *
 * Discovery gives candidates. It may give strangers, the dead, and the same one again and again: the connection
 * decides who is there and who belongs to the group. It never fails: what goes wrong is reported, and tried again.
 * `test/network/discovery-contract` holds every implementation to these sentences.
 */
import type { Address, ErrorListener } from '../types.ts'
import type { GroupToken } from './group-token.ts'

export interface DiscoveryTask {
  /** Tells members of the group from strangers. */
  readonly token: GroupToken
  /** Where this replica listens, to be announced; undefined if it does not. */
  readonly address: Address | undefined
  /** Whether only this machine may hear of it, and is listened to. */
  readonly machineOnly: boolean
  /** Names or addresses of the interfaces to use; undefined for all. */
  readonly interfaces: readonly string[] | undefined
  /** UDP port of multicast DNS. */
  readonly port: number
  /** Somebody who knows the group says that a replica listens there. */
  readonly onFound: (address: Address) => void
  /** The addresses of this machine have changed. */
  readonly onNetworkChanged: () => void
  /** Called with REPLICATION_DISCOVERY, once for each fault however often it comes. */
  readonly onError: ErrorListener
}

export interface ActiveDiscovery {
  /** Looks again soon, and more often for a while: somebody was lost. */
  lookAgain (): void
  /** Says goodbye. Nothing is called any more. */
  close (): Promise<void>
}

export interface Discovery {
  start (task: DiscoveryTask): ActiveDiscovery
}
