/**
 * Data messages on their way out, cut into fragments as far as the peer has granted credit.
 *
 * Credit counts payload bytes of fragments. Control frames do not pass through here: they need none. A peer that grants
 * more than a window of it, and does not read, would make us read the store for it as fast as we can.
 */
import { nextFragment } from '../codec/message.ts'
import { creditWindowBytes, fragmentBytes } from '../limits.ts'

export class Outbox {
  readonly #messages: Buffer[] = []
  /** How far the first message has been sent; byte 0 of a message is not payload. */
  #offset = 1
  #pending = 0
  #credit: number

  constructor (credit: number) {
    this.#credit = credit
  }

  /** Bytes that wait for credit. */
  get pending (): number {
    return this.#pending
  }

  get credit (): number {
    return this.#credit
  }

  grant (bytes: number): void {
    this.#credit = Math.min(this.#credit + bytes, creditWindowBytes)
  }

  push (message: Buffer): void {
    this.#messages.push(message)
    this.#pending += message.length - 1
  }

  /** Drops the messages of which nothing has been sent, if they may be dropped. */
  dropUnsent (mayBeDropped: (message: Buffer) => boolean): void {
    const begun = this.#offset > 1 ? 1 : 0
    for (const message of this.#messages.splice(begun)) {
      if (mayBeDropped(message)) this.#pending -= message.length - 1
      else this.#messages.push(message)
    }
  }

  /** The next frame that credit allows; undefined if there is none. */
  take (): Buffer | undefined {
    const message = this.#messages[0]
    if (message === undefined) return undefined
    const payload = Math.min(fragmentBytes, message.length - this.#offset)
    if (this.#credit < payload) return undefined
    const frame = nextFragment(message, this.#offset, payload)
    this.#credit -= payload
    this.#pending -= payload
    this.#offset += payload
    if (this.#offset === message.length) {
      this.#messages.shift()
      this.#offset = 1
    }
    return frame
  }
}
