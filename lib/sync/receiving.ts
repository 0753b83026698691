/**
 * The receiving direction of a session: asking for what is missing, and taking in what comes.
 *
 *     idle -> waiting -> asked -> delivering -> live      a turn, `want`, then `begin` .. `end`
 *     idle -> live                                        the peer has nothing that is missing here
 *     asked -> resuming -> live                           the peer's stream goes on from where it was cut off
 *     asked, delivering -> deferred -> waiting            `later`, then `again`
 *     resuming, live -> waiting                           `again`, or something promised does not come
 *
 * A replica asks one peer at a time: it needs its *turn* to send `want`, or to take in a `begin` that answers the
 * `want` of its hello. A unit is taken in only when everything that its sender knew before it is known here; until
 * then it waits, with all that comes after it, in this link's own inbox, which credit bounds.
 */
import { VersionVector, type Advance } from '../core/version-vector.ts'
import type { DataMessage, ResumePoint } from '../codec/message.ts'
import { ReplicationError } from '../errors.ts'
import { creditWindowBytes, deliveryStallMs, fragmentBytesMin, lateMs, messageBytesMax, progressBytesMin, turnMs, unitsApplyingMax } from '../limits.ts'
import type { Conversation } from './conversation.ts'
import { Inbox } from './inbox.ts'

export type ReceivingState = 'idle' | 'waiting' | 'asked' | 'deferred' | 'delivering' | 'resuming' | 'live'

export class Receiving {
  readonly #conversation: Conversation
  #state: ReceivingState = 'idle'
  #hasTurn = false
  /** `again` came while a delivery was asked for or under way. */
  #wantsAgain = false
  #inbox = new Inbox(creditWindowBytes, 0)
  /** The peer's vector at the last unit handed on; moved on by whoever applies. */
  #stream = new VersionVector()
  /** Something of the stream has been handed on. */
  #hasStreamed = false
  /** A part of a delivery is being stored or applied. */
  #deliveryBusy = false
  #unitsApplying = 0
  #blockedMs: number | undefined
  /** No unit is taken in before the answer to what was asked for, which repeats it. */
  #dropsUnits = false
  #caughtUp = false
  /** From where the last `want` asked to go on. */
  #asked: ResumePoint | undefined
  /** When enough last came of what was asked for; it stands still while that is worked on, or the turn is another's. */
  #activeMs = 0
  #tickedMs = 0
  #bytesSinceActive = 0

  constructor (conversation: Conversation) {
    this.#conversation = conversation
  }

  get state (): ReceivingState {
    return this.#state
  }

  /** The peer is greeted. `wanted`: our hello was a `want` too. */
  begin (wanted: boolean): void {
    const { local, peer, peerKnows } = this.#conversation
    this.#inbox = new Inbox(creditWindowBytes, messageBytesMax(local.transactionBytesMax))
    this.#stream.join(peer!.vector)
    if (local.vector.dominates(peerKnows)) {
      if (!wanted) this.#sendWant()
      this.#becomeLive()
    } else if (wanted) {
      this.#setState('asked')
      this.#conversation.emit({ type: 'request-turn' })
    } else {
      this.#ask()
    }
  }

  /** It is this session's turn. */
  turn (): void {
    this.#hasTurn = true
    this.#beActive()
    if (this.#state === 'waiting') {
      this.#sendWant()
      this.#setState('asked')
    } else if (!['asked', 'delivering', 'resuming'].includes(this.#state)) {
      this.#releaseTurn()
    }
  }

  /** `live`: nothing was missing, or the stream brings it; which may have been said before this side knew of anything. */
  live (places: readonly Advance[]): void {
    if (places.length > 0) this.#rewind(places)
    if (this.#state !== 'asked') return
    this.#wantsAgain = false
    this.#dropsUnits = false
    if (places.length > 0) this.#setState('resuming')
    else this.#becomeLive()
  }

  #rewind (places: readonly Advance[]): void {
    for (const place of places) this.#stream.rewind(place)
    if (this.#hasStreamed || !this.#conversation.local.vector.dominates(this.#stream)) throw new ReplicationError('The stream begins with what is not known here', { code: 'REPLICATION_PROTOCOL' })
  }

  /** `later`: the source cannot serve, or not go on. */
  later (): void {
    if (this.#state === 'delivering') this.#conversation.emit({ type: 'abandon-delivery' })
    this.#inbox.dropDelivery() // it has no end
    this.#wantsAgain = false
    this.#setState('deferred')
    this.#releaseTurn()
  }

  again (): void {
    // It may overtake the delivery that the peer has made before it fell behind, or that still waits for its turn.
    if (this.#state === 'asked' || this.#state === 'delivering') this.#wantsAgain = true
    else if (this.#state === 'live' || this.#state === 'resuming' || this.#state === 'deferred') this.#ask()
  }

  /** A peer that promises and does not deliver must not keep the turn from others. */
  tick (): void {
    const { nowMs } = this.#conversation
    const passedMs = nowMs - this.#tickedMs
    this.#tickedMs = nowMs
    if (!this.#hasTurn || this.#deliveryBusy) {
      this.#activeMs = Math.min(nowMs, this.#activeMs + passedMs)
    } else if (this.#state === 'asked' && nowMs - this.#activeMs > turnMs) {
      this.#releaseTurn()
      this.#conversation.emit({ type: 'request-turn' })
    } else if (this.#state === 'resuming' && nowMs - this.#activeMs > turnMs) {
      this.#releaseTurn()
    } else if (this.#state === 'delivering' && nowMs - this.#activeMs > deliveryStallMs) {
      throw new ReplicationError(`Less than ${progressBytesMin} bytes of a delivery have come in ${deliveryStallMs} ms`, { code: 'REPLICATION_PEER_STALLED' })
    }
  }

  fragment (bytes: Buffer, last: boolean): void {
    if (bytes.length < (last ? 1 : fragmentBytesMin)) throw new ReplicationError(`A fragment of ${bytes.length} bytes`, { code: 'REPLICATION_PROTOCOL' })
    this.#bytesSinceActive += bytes.length
    if (this.#bytesSinceActive >= progressBytesMin) this.#beActive()
    this.#inbox.receive(bytes, last)
  }

  #beActive (): void {
    this.#activeMs = this.#conversation.nowMs
    this.#bytesSinceActive = 0
  }

  /** An effect that handed something on has been carried out. */
  done (effect: 'deliver' | 'end-delivery' | 'apply'): void {
    this.#inbox.consumed()
    if (effect === 'apply') {
      this.#unitsApplying--
      return
    }
    this.#deliveryBusy = false
    if (effect !== 'end-delivery' || this.#state !== 'delivering') return
    if (this.#wantsAgain) {
      this.#wantsAgain = false
      this.#setState('waiting')
      this.turn()
    } else {
      this.#becomeLive()
    }
  }

  /** Takes in what can be taken in, and grants the credit that is due. */
  proceed (): void {
    while (this.#takeIn());
    if (this.#state === 'resuming' && this.#conversation.peer!.vector.every(({ log, sequence }) => this.#conversation.local.vector.covers(log, sequence))) this.#becomeLive()
    const credit = this.#inbox.grant(creditWindowBytes / 4)
    if (credit > 0) this.#conversation.send({ type: 'credit', bytes: credit })
  }

  #ask (): void {
    if (this.#hasTurn) this.#releaseTurn()
    this.#setState('waiting')
    this.#conversation.emit({ type: 'request-turn' })
  }

  #releaseTurn (): void {
    this.#hasTurn = false
    this.#conversation.emit({ type: 'release-turn' })
  }

  #sendWant (): void {
    const { local, helloVector } = this.#conversation
    this.#asked = local.resumePoint
    this.#conversation.send({ type: 'want', vector: local.vector.beyond(helloVector), collected: [...local.collected], resume: this.#asked })
  }

  #setState (state: ReceivingState): void {
    const wasLive = this.#state === 'live'
    this.#state = state
    this.#blockedMs = undefined
    if (wasLive !== (state === 'live')) this.#conversation.emit({ type: 'live-changed' })
  }

  #becomeLive (): void {
    if (this.#hasTurn) this.#releaseTurn()
    this.#setState('live')
    if (this.#caughtUp) return
    this.#caughtUp = true
    this.#conversation.emit({ type: 'caught-up' })
  }

  /** Handles the first message of the inbox, if its time has come. */
  #takeIn (): boolean {
    const message = this.#inbox.head
    if (message === undefined || this.#deliveryBusy) return false
    switch (message.type) {
      case 'begin': return this.#takeBegin(message)
      case 'chunk': return this.#deliver({ type: 'deliver', bytes: message.bytes })
      case 'end': return this.#deliver({ type: 'end-delivery', entries: message.entries })
      case 'unit': return this.#takeUnit(message, false)
      case 'advance': return this.#takeUnit({ before: message.vector, changes: [], collected: [], entries: [] }, message.acknowledge)
    }
  }

  #takeBegin (message: Extract<DataMessage, { type: 'begin' }>): boolean {
    const { local, peer } = this.#conversation
    if (this.#unitsApplying > 0 || local.applying) return false
    if (!this.#hasTurn) {
      if (this.#state === 'asked') return false
      this.#wantsAgain = this.#state === 'waiting' // `again` has overtaken it
      this.#setState('asked')
      this.#conversation.emit({ type: 'request-turn' })
      return false
    }
    // The turn may have been passed over, and another source have gone on with it.
    if (message.resumes && (this.#asked === undefined || this.#asked !== local.resumePoint)) throw new ReplicationError('The peer would go on with a delivery from where it does not stand any more', { code: 'REPLICATION_DISCONNECTED' })
    this.#inbox.take()
    this.#inbox.consumed()
    this.#dropsUnits = false
    this.#stream = new VersionVector(peer!.vector)
    this.#stream.join(message.vector)
    this.#conversation.learn(message.vector)
    for (const { log, sequence } of message.collected) {
      if (!this.#stream.covers(log, sequence)) throw new ReplicationError('The peer has collected tombstones that it does not know', { code: 'REPLICATION_PROTOCOL' })
    }
    this.#setState('delivering')
    this.#conversation.emit({ type: 'begin-delivery', kind: message.kind, resumes: message.resumes, vector: [...this.#stream], collected: message.collected, entries: message.entries })
    return true
  }

  #drop (): boolean {
    this.#inbox.take()
    this.#inbox.consumed()
    return true
  }

  #deliver (effect: { type: 'deliver', bytes: Buffer } | { type: 'end-delivery', entries: number }): boolean {
    if (this.#state !== 'delivering') return this.#drop() // of a delivery that was given up
    this.#inbox.take()
    this.#deliveryBusy = true
    if (effect.type === 'end-delivery') this.#conversation.operations.received += effect.entries
    this.#conversation.emit(effect)
    return false
  }

  #takeUnit ({ before, changes, collected, entries }: Omit<Extract<DataMessage, { type: 'unit' }>, 'type'>, acknowledge: boolean): boolean {
    const { local, nowMs, operations, peerKnows } = this.#conversation
    if (this.#dropsUnits) {
      if (acknowledge) this.#conversation.emit({ type: 'flush' })
      return this.#drop() // what it brings, and all that builds on it, is repeated
    }
    if (local.applying || this.#state === 'delivering' || this.#unitsApplying >= unitsApplyingMax) return false
    const missing = before.filter(({ log, sequence }) => !local.vector.covers(log, sequence))
    if (missing.length > 0 && this.#state === 'asked') {
      this.#dropsUnits = true // lest the delivery that it waits for should find no room behind it
      return true
    }
    if (missing.length > 0) {
      this.#blockedMs ??= nowMs
      const nobodyBringsIt = missing.some(({ log }) => !local.directLogs.has(log))
      if ((this.#state === 'live' || this.#state === 'resuming') && (nobodyBringsIt || nowMs - this.#blockedMs > lateMs)) this.#ask()
      return false
    }
    this.#blockedMs = undefined
    const { bytes } = this.#inbox.take()
    this.#hasStreamed = true
    this.#unitsApplying++
    this.#conversation.learn(before)
    for (const { log, sequence } of changes) operations.received += Math.max(0, sequence - peerKnows.sequenceOf(log))
    this.#conversation.learn(changes)
    this.#conversation.peerCollected.join(collected)
    this.#conversation.emit({ type: 'apply', stream: this.#stream, before, changes, collected, entries, bytes })
    if (acknowledge) this.#conversation.emit({ type: 'flush' })
    return true
  }
}
