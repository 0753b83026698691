/**
 * Discovery in memory: who starts is found by all who have started and understand its token, in a later turn.
 */
import type { ActiveDiscovery, Discovery, DiscoveryTask } from '../../lib/network/discovery.ts'

export class MemoryDiscovery implements Discovery {
  readonly #tasks = new Set<DiscoveryTask>()
  readonly #schedule: (act: () => void) => void

  constructor (schedule: (act: () => void) => void = setImmediate) {
    this.#schedule = schedule
  }

  start (task: DiscoveryTask): ActiveDiscovery {
    for (const other of this.#tasks) {
      this.#tell(task, other)
      this.#tell(other, task)
    }
    this.#tasks.add(task)
    return {
      lookAgain: () => { for (const other of this.#tasks) if (other !== task) this.#tell(task, other) },
      close: async () => { this.#tasks.delete(task) }
    }
  }

  #tell (listener: DiscoveryTask, announcer: DiscoveryTask): void {
    const { address } = announcer
    if (address === undefined || listener.port !== announcer.port) return
    if (!listener.token.matches(announcer.token.make(address.port), address.port)) return
    this.#schedule(() => { if (this.#tasks.has(listener)) listener.onFound(address) })
  }
}
