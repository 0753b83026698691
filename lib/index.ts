/**
 * What `import 'replicated-level'` gives.
 */
import { ReplicatedLevelBase } from './replicated-level.ts'
import type { ReplicatedLevelOptions } from './options.ts'
import { TcpTransport } from './network/tcp.ts'
import { system } from './system.ts'

export class ReplicatedLevel<K = string, V = string> extends ReplicatedLevelBase<K, V> {
  constructor (location: string, options?: ReplicatedLevelOptions<K, V>) {
    super({ system, transport: new TcpTransport({ system }) }, location, options)
  }
}
