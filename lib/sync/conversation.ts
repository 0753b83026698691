/**
 * What both directions of a session share: the peer, what it is known to have, and the effects of one event.
 */
import { encodeControl, type ControlMessage, type Hello } from '../codec/message.ts'
import { VersionVector } from '../core/version-vector.ts'
import type { Effect, LocalReplica } from './events.ts'

export class Conversation {
  readonly local: LocalReplica
  /** Monotonic time of the event being handled. */
  nowMs: number
  /** When a frame was last sent. */
  sentMs: number
  /** The peer's hello, once it is greeted. */
  peer: Hello | undefined
  /** The vector that our own hello named: the base of later differences. */
  helloVector = new VersionVector()
  /** What the peer has, as far as it said or was sent. */
  readonly peerKnows = new VersionVector()
  readonly operations = { received: 0, sent: 0 }
  #effects: Effect[] = []

  constructor (local: LocalReplica, nowMs: number) {
    this.local = local
    this.nowMs = this.sentMs = nowMs
  }

  emit (effect: Effect): void {
    this.#effects.push(effect)
  }

  send (message: ControlMessage): void {
    this.sendFrame(encodeControl(message))
  }

  sendFrame (frame: Buffer): void {
    this.sentMs = this.nowMs
    this.emit({ type: 'send', frame })
  }

  /** What has been emitted since the last call. */
  takeEffects (): Effect[] {
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}
