/**
 * Values that are to appear in a peer, and the moment at which the last of them did.
 *
 * A change is a reason to look, not yet a sight: it counts when the value is read.
 */
import { nowMs } from '../clock.ts'
import type { Peer, TextPut } from './peer.ts'

export class Expectation {
  readonly #peer: Pick<Peer, 'get'>
  readonly #values = new Map<string, string>()
  #resolve: (moment: number) => void = () => {}
  #reject: (error: Error) => void = () => {}
  /** Resolves with the moment at which the last was seen. */
  met: Promise<number> = Promise.resolve(0)

  constructor (peer: Pick<Peer, 'get'>) {
    this.#peer = peer
  }

  begin (puts: readonly TextPut[]): void {
    for (const { key, value } of puts) this.#values.set(key, value)
    this.met = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.met.catch(() => {})
    this.look()
  }

  /** At one key, or at all that are still expected. */
  look (key?: string): void {
    for (const each of key === undefined ? [...this.#values.keys()] : [key]) {
      if (this.#values.has(each)) this.#lookAt(each).catch(this.#reject)
    }
  }

  async #lookAt (key: string): Promise<void> {
    const value = await this.#peer.get(key)
    if (value === undefined || value !== this.#values.get(key)) return
    this.#values.delete(key)
    if (this.#values.size === 0) this.#resolve(nowMs())
  }
}
