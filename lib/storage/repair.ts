/**
 * Making up for a hole: until all that survived above the vector is covered by it again, this replica only receives.
 *
 * Its peers bring what was lost, and with it the vector rises over the survivors. What nobody can bring in time is
 * written again in a log of our own, in place of the old dots and with their times; what is left of the old ones is
 * forgotten, so that whoever still has them brings them as concurrent versions. To know them any longer would let two
 * replicas differ for good: that we drop a dot reaches others only with a vector that covers it, or with a new dot.
 */
import type { Collector } from './collector.ts'
import type { Derivation } from './derive.ts'
import { writeOut } from './engine.ts'
import { survivorsAbove, type Survivor } from './holes.ts'
import { meta } from './keyspaces.ts'
import type { ReplicaState } from './state.ts'
import { writeAgain } from './write-again.ts'
import type { Writer } from './writer.ts'

export class Repair {
  readonly #state: ReplicaState
  readonly #writer: Writer
  readonly #derivation: Derivation
  #ending: Promise<void> | undefined
  /** What {@link end} has written may still be lost. */
  #unsettled = false

  constructor (state: ReplicaState, writer: Writer, derivation: Derivation) {
    this.#state = state
    this.#writer = writer
    this.#derivation = derivation
  }

  /** Whether it is under way. Nothing may be sent. */
  get active (): boolean {
    return this.#unsettled || !this.#state.survivors.empty
  }

  /** Whether everything has been brought. */
  get complete (): boolean {
    return this.#state.survivors.isWithin(this.#state.vector)
  }

  /** Right after the open: what had been forgotten before is forgotten again. */
  async begin (collector: Collector): Promise<void> {
    await collector.dropAgain()
    if (!this.#state.survivors.empty) return
    await this.#writer.run((batch) => {
      batch.delRaw(meta.hole)
      return true
    })
  }

  /**
   * Ends it. What has not been brought is written again. Nothing is sent before that has left the write-ahead log: if
   * another loss took it back, dots that others have been told are not known here would be known again.
   */
  end (): Promise<void> {
    this.#ending ??= this.#end().finally(() => { this.#ending = undefined })
    return this.#ending
  }

  async #end (): Promise<void> {
    await this.#writer.run(async (batch) => {
      if (this.#state.survivors.empty) return false
      if (!this.complete) {
        const survivors: Survivor[] = []
        for await (const survivor of survivorsAbove(this.#state.engine, this.#state.vector)) survivors.push(survivor)
        await writeAgain(this.#state, this.#derivation, batch, survivors)
      }
      batch.delRaw(meta.hole)
      this.#unsettled = true
      return true
    })
    this.#state.survivors.clear()
    if (this.#unsettled) await writeOut(this.#state.engine)
    this.#unsettled = false
  }
}
