/**
 * Replicators of stores over a network in memory, without discovery or protection unless the options say otherwise.
 */
import { Replicator, type ReplicatorOptions } from '../../lib/network/replicator.ts'

type Given = 'system' | 'store' | 'transport' | 'host' | 'onError'

/** One that listens on port 9000 of its host, and is not open yet. */
export function makeReplicator (options: Pick<ReplicatorOptions, Given> & Partial<ReplicatorOptions>): Replicator {
  return new Replicator({
    protection: undefined,
    announcementKey: undefined,
    finder: undefined,
    discovery: { bonjour: false, exchange: false, interfaces: undefined, port: 5353, machineOnly: true },
    group: 'shop',
    port: 9000,
    portIsPreference: false,
    peers: [],
    resolverVersion: '',
    transactionBytesMax: 1024 * 1024,
    initialSyncMs: 0,
    emit: () => {},
    ...options
  })
}
