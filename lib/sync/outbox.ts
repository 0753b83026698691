/**
 * Data messages on their way out, cut into fragments as far as the peer has granted credit.
 *
 * Credit counts payload bytes of fragments. Control frames do not pass through here: they need none. A peer that grants
 * more than a window of it, and does not read, would make us read the store for it as fast as we can.
 */
import { nextFragment } from '../codec/message.ts'
import { creditWindowBytes, fragmentBytes } from '../limits.ts'

/** A message in one part or two: the body of a unit is the same for all peers, and may be large. */
interface Outgoing {
  readonly head: Buffer
  readonly body: Buffer | undefined
  readonly length: number
}

export class Outbox {
  readonly #messages: Outgoing[] = []
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

  push (head: Buffer, body?: Buffer): void {
    const length = head.length + (body?.length ?? 0)
    this.#messages.push({ head, body, length })
    this.#pending += length - 1
  }

  /** Drops the messages of which nothing has been sent, if they may be dropped. */
  dropUnsent (mayBeDropped: (head: Buffer) => boolean): void {
    const begun = this.#offset > 1 ? 1 : 0
    for (const message of this.#messages.splice(begun)) {
      if (mayBeDropped(message.head)) this.#pending -= message.length - 1
      else this.#messages.push(message)
    }
  }

  /** The next frame that credit allows; undefined if there is none. */
  take (): Buffer | undefined {
    const message = this.#messages[0]
    if (message === undefined) return undefined
    const payload = Math.min(fragmentBytes, message.length - this.#offset)
    if (this.#credit < payload) return undefined
    const frame = nextFragment(message.head, this.#offset, payload, message.body)
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
