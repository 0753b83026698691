/**
 * Data messages on their way in: fragments put together, and credit counted.
 *
 * What has been consumed is granted again. A message larger than the window would never be complete, so the
 * fragments of a message that nothing waits before are granted as they come; memory is bounded by the window plus one
 * message.
 */
import { decodeData, isAdvance, isOfDelivery, type DataMessage } from '../codec/message.ts'
import { Fifo } from '../core/fifo.ts'
import { ReplicationError } from '../errors.ts'
import { copiedTogetherBytes, waitingMessagesMax } from '../limits.ts'

export interface Received {
  readonly message: DataMessage
  readonly bytes: number
}

const nothing = Buffer.alloc(0)

interface Queued {
  readonly encoded: Buffer
  /** Undefined until it is the first: a decoded unit may take a hundred times as much as it does here. */
  message: DataMessage | undefined
  readonly granted: number
}

export class Inbox {
  #queue = new Fifo<Queued>()
  /** The message that is coming, put together in memory that grows with it. */
  #message: Buffer = nothing
  /** Room for copies of messages that wait. */
  #copies: Buffer = nothing
  #assembled = 0
  #grantedOfAssembled = 0
  /** The message that is coming is of what was given up. */
  #dropsAssembled = false
  /** Messages that were taken out and are not consumed yet. */
  readonly #taken = new Fifo<{ readonly bytes: number, readonly granted: number }>()
  #due = 0
  /** What the peer may still send. */
  #window: number
  readonly #messageBytesMax: number

  constructor (window: number, messageBytesMax: number) {
    this.#window = window
    this.#messageBytesMax = messageBytesMax
  }

  /**
   * The first message that has not been taken.
   *
   * @throws what decoding throws
   */
  get head (): DataMessage | undefined {
    const head = this.#queue.first
    if (head !== undefined) head.message ??= decodeData(head.encoded)
    return head?.message
  }

  /** @throws `REPLICATION_PROTOCOL`, `REPLICATION_FRAME_TOO_LARGE` */
  receive (bytes: Buffer, last: boolean): void {
    this.#window -= bytes.length
    if (this.#window < 0) throw new ReplicationError(`The peer sent ${-this.#window} bytes more than it had credit for`, { code: 'REPLICATION_PROTOCOL' })
    if (this.#assembled + bytes.length > this.#messageBytesMax) throw new ReplicationError(`A message exceeds ${this.#messageBytesMax} bytes`, { code: 'REPLICATION_FRAME_TOO_LARGE' })
    const alone = last && this.#assembled === 0
    if (!alone) this.#add(bytes)
    if (!last) {
      this.#grantAssembled()
      return
    }
    if (this.#queue.length === waitingMessagesMax) throw new ReplicationError(`More than ${waitingMessagesMax} messages wait for what comes before them`, { code: 'REPLICATION_PROTOCOL' })
    const whole = alone ? this.#queue.length + this.#taken.length > 0 ? this.#kept(bytes) : bytes : this.#message.subarray(0, this.#assembled)
    if (this.#dropsAssembled) {
      this.#due += whole.length - this.#grantedOfAssembled
    } else {
      this.#queue.push({ encoded: whole, message: undefined, granted: this.#grantedOfAssembled })
    }
    this.#dropsAssembled = false
    this.#message = nothing
    this.#assembled = 0
    this.#grantedOfAssembled = 0
  }

  /** A small message that has to wait is copied together with others: it is a view of all that came with it over the network. */
  #kept (bytes: Buffer): Buffer {
    const { length } = bytes
    if (length > copiedTogetherBytes / 4 || length > bytes.buffer.byteLength / 4) return bytes
    if (length > this.#copies.length) this.#copies = Buffer.allocUnsafeSlow(copiedTogetherBytes)
    const copy = this.#copies.subarray(0, length)
    this.#copies = this.#copies.subarray(length)
    bytes.copy(copy)
    return copy
  }

  #add (fragment: Buffer): void {
    const length = this.#assembled + fragment.length
    if (length > this.#message.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(2 * length, this.#messageBytesMax))
      this.#message.copy(grown, 0, 0, this.#assembled)
      this.#message = grown
    }
    fragment.copy(this.#message, this.#assembled)
    this.#assembled = length
  }

  /** Takes the head out; {@link consumed} has to follow for each message taken, in the same order. */
  take (): Received {
    const message = this.head!
    const { encoded, granted } = this.#queue.shift()!
    this.#taken.push({ bytes: encoded.length, granted })
    return { message, bytes: encoded.length }
  }

  consumed (): void {
    const { bytes, granted } = this.#taken.shift()!
    this.#due += bytes - granted
    this.#grantAssembled()
  }

  /** Drops what waits of a delivery, and of all that builds on it; requests stay. Here they are as good as consumed. */
  dropDelivery (): void {
    let isGivenUp = false
    const queue = this.#queue
    this.#queue = new Fifo()
    for (let queued = queue.shift(); queued !== undefined; queued = queue.shift()) {
      isGivenUp ||= isOfDelivery(queued.encoded)
      if (!isGivenUp || isAdvance(queued.encoded, 0)) this.#queue.push(queued)
      else this.#due += queued.encoded.length - queued.granted
    }
    if (this.#assembled > 0) this.#dropsAssembled = isOfDelivery(this.#message) || (isGivenUp && !isAdvance(this.#message, 0))
    this.#grantAssembled()
  }

  #grantAssembled (): void {
    if (this.#queue.length > 0 || this.#taken.length > 0) return
    this.#due += this.#assembled - this.#grantedOfAssembled
    this.#grantedOfAssembled = this.#assembled
  }

  /** Credit to be given now: nothing, until it is worth a frame. */
  grant (worthwhile: number): number {
    if (this.#due < worthwhile) return 0
    const due = this.#due
    this.#due = 0
    this.#window += due
    return due
  }
}
