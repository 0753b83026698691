/**
 * The sending direction of a session: what the peer lacks, then what is committed here, as far as credit goes.
 *
 *     silent -> opening -> sending -> live      `want`, and the peer lacks something: a snapshot, then the feed
 *     silent -> live                            `want`, and it lacks nothing, or only what the backlog of the feed holds
 *     live -> silent                            the peer fell behind the feed: `again`
 *     sending -> stalled -> silent              no credit for too long: `later`, then `again` when there is some
 *
 * A unit is passed over if the peer has it, or will get it from its author; the next unit names what was passed
 * over as what it comes after, so that nothing is applied before what it depends on.
 */
import { encodeData, encodeUnitBody, encodeUnitHead, isAdvance, type DataMessage, type ResumePoint } from '../codec/message.ts'
import type { LogId } from '../core/ids.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { chunkBytes, heartbeatIntervalMs, messageBytesMax, transferStallMs } from '../limits.ts'
import type { Conversation } from './conversation.ts'
import type { LocalUnit, SessionEvent } from './events.ts'
import { Outbox } from './outbox.ts'

export type SendingState = 'silent' | 'opening' | 'sending' | 'stalled' | 'live'

/** Unsent bytes above which nothing more is read from the store. */
const readAheadBytes = 2 * chunkBytes

export class Sending {
  readonly #conversation: Conversation
  readonly #outbox = new Outbox(0)
  #state: SendingState = 'silent'
  /** `later` was said; `again` has to follow. */
  #owesAgain = false
  #sourceReading = false
  #sourceEntries = 0
  #sourceVector: ReadonlyVersionVector = new VersionVector()
  #feedNumber = 0
  /** The first unit that was committed after the peer had said what it has. */
  #feedNew = 0
  /** When data last went out, or a source was opened. */
  #sentMs: number
  /** What was passed over since the last unit. */
  #passed = new VersionVector()
  /** When there last was nothing of the kind. */
  #namedMs: number
  /** Our vector as the stream has told it. */
  #told = new VersionVector()
  #hasStreamed = false
  /** What was collected here that the peer has not heard of: to be told before anything else, when there is room. */
  #news: readonly Advance[] = []
  #peerDirects: ReadonlySet<LogId> = new Set()
  #acknowledgeWanted = false
  /** How many acknowledgements have been asked for; one that is still to be sent counts. */
  requests = 0

  constructor (conversation: Conversation) {
    this.#conversation = conversation
    this.#sentMs = this.#namedMs = conversation.nowMs
  }

  get state (): SendingState {
    return this.#state
  }

  /** About how many entries of a catch-up or transfer the peer is still owed. */
  progress: { sent: number, total: number } | undefined

  /** The first unit of the feed that the peer may still have to be sent. */
  get feedWanted (): number {
    if (this.#state === 'opening') return 0 // the snapshot says from where on
    return this.#state === 'sending' || this.#state === 'live' ? this.#feedNumber : Infinity
  }

  /** The peer is greeted, and has granted its first credit. */
  begin (credit: number): void {
    this.#told = this.#conversation.helloVector.clone()
    this.#outbox.grant(credit)
  }

  /** Answers a `want`. */
  serve (base: VersionVector, collected: VersionVector, resume?: ResumePoint): void {
    if (this.#state === 'opening' || this.#state === 'sending') return
    const { local } = this.#conversation
    this.#conversation.peerCollected = collected.clone()
    if (local.applying || local.repairing) {
      this.#state = 'silent'
      this.#owesAgain = true
      this.#sayLater()
    } else if (base.dominates(local.vector)) {
      this.#state = 'live'
      this.#feedNumber = local.feedEnd
      this.#passed = new VersionVector(local.vector.beyond(this.#told))
      this.#conversation.send({ type: 'live', places: [] })
      this.#news = local.collected.beyond(collected)
    } else if (resume !== undefined || !this.#goOn(base, collected)) {
      this.#state = 'opening'
      this.#conversation.emit({ type: 'open-source', base, resume })
    }
  }

  /**
   * Begins the stream before our hello, if what the peer lacks is in the backlog, and can be told at once. What of a stream
   * has been sent is not taken back.
   */
  #goOn (base: VersionVector, collected: VersionVector): boolean {
    const { helloVector, local } = this.#conversation
    const backlog = this.#hasStreamed ? undefined : local.backlogSince(base, collected)
    if (backlog === undefined) return false
    const { first, units, vector } = backlog
    let bytes = 0
    for (const unit of units) {
      if (this.#peerKnows(unit)) continue
      if (unit.body === undefined || (bytes += unit.body.length) > readAheadBytes) return false
    }
    this.#passed = new VersionVector(vector.beyond(helloVector))
    this.#state = 'live'
    this.#feedNumber = first
    this.#feedNew = local.feedEnd
    this.#conversation.send({ type: 'live', places: helloVector.beyond(vector).map(({ log }) => vector.placeOf(log)) })
    return true
  }

  directs (logs: readonly LogId[]): void {
    this.#peerDirects = new Set(logs)
  }

  synchronise (): void {
    if (this.#acknowledgeWanted) return
    this.#acknowledgeWanted = true
    this.requests++
  }

  credited (bytes: number): void {
    this.#outbox.grant(bytes)
    if (this.#state !== 'stalled' || bytes === 0) return
    this.#state = 'silent'
    this.#conversation.send({ type: 'again' })
  }

  sourceOpened ({ kind, resumes, vector, collected, entries, feedNumber }: Extract<SessionEvent, { type: 'source-opened' }>): void {
    this.#state = 'sending'
    this.#sourceReading = false // what the source before was being read for does not come any more
    this.#sourceVector = vector
    this.#sourceEntries = 0
    this.progress = { sent: 0, total: entries }
    this.#feedNumber = feedNumber
    this.#told = vector.clone()
    this.#conversation.peerCollected.join(collected)
    this.#passed = new VersionVector()
    this.#news = []
    this.#sentMs = this.#conversation.nowMs
    this.#push({ type: 'begin', kind, resumes, vector: vector.beyond(this.#conversation.helloVector), collected: [...collected], entries })
  }

  sourceRead (chunk: { bytes: Buffer, entries: number } | undefined): void {
    this.#sourceReading = false
    if (this.#state !== 'sending') return
    const { operations, peerKnows } = this.#conversation
    if (chunk !== undefined) {
      this.#sourceEntries += chunk.entries
      this.progress!.sent += chunk.entries
      operations.sent += chunk.entries
      this.#assertTaken(1 + chunk.bytes.length, 'Values in conflict at one key')
      this.#push({ type: 'chunk', bytes: chunk.bytes })
      return
    }
    this.#conversation.emit({ type: 'close-source' })
    this.progress = undefined
    this.#push({ type: 'end', entries: this.#sourceEntries })
    peerKnows.join(this.#sourceVector)
    this.#state = 'live'
  }

  /** Sends the next unit of the feed, or passes it over. */
  #passOn (unit: LocalUnit | 'lost'): void {
    const { operations, peerKnows } = this.#conversation
    if (unit === 'lost') return this.#sayAgain()
    const { changes, collected, body } = unit
    if (this.#feedNumber < this.#feedNew ? this.#peerKnows(unit) : this.#peerHas(unit)) {
      this.#passed.join(changes)
    } else if (body === undefined) {
      return this.#sayAgain()
    } else {
      this.#pushUnit(changes, collected, body)
      for (const { log, sequence } of changes) operations.sent += Math.max(0, sequence - peerKnows.sequenceOf(log))
      peerKnows.join(changes)
    }
    this.#feedNumber++
  }

  /** Or will have, from itself or somebody else. */
  #peerHas (unit: LocalUnit): boolean {
    return this.#peerKnows(unit, (log) => log === this.#conversation.peer!.log || this.#peerDirects.has(log))
  }

  #peerKnows ({ changes, collected }: LocalUnit, getsIt: (log: LogId) => boolean = () => false): boolean {
    const { peerKnows, peerCollected } = this.#conversation
    // A unit of several logs may be the peer's own in part, in part known to it, and in part come to it from their authors.
    return changes.every(({ log, sequence }) => getsIt(log) || peerKnows.covers(log, sequence)) &&
      collected.every(({ log, sequence }) => peerCollected.covers(log, sequence))
  }

  /** What the peer lacks cannot be sent as units: it has to ask. */
  #sayAgain (): void {
    this.#state = 'silent'
    if (this.#conversation.local.applying) this.#owesAgain = true
    else this.#conversation.send({ type: 'again' })
  }

  /** What the peer would refuse when most of it has come, again and again, is not sent. */
  #assertTaken (bytes: number, what: string): void {
    const bytesMax = messageBytesMax(this.#conversation.peer!.transactionBytesMax)
    if (bytes > bytesMax) throw new ReplicationError(`${what} make a message of ${bytes} bytes, and replica ${this.#conversation.peer!.replica} takes ${bytesMax}`, { code: 'REPLICATION_FRAME_TOO_LARGE' })
  }

  #pushUnit (changes: readonly Advance[], collected: readonly Advance[], body: Buffer): void {
    const head = encodeUnitHead([...this.#passed])
    this.#assertTaken(head.length - 1 + body.length, 'Writes that belong together')
    this.#hasStreamed = true
    this.#outbox.push(head, body)
    this.#named()
    this.#told.join(changes)
    this.#conversation.peerCollected.join(collected)
  }

  tick (): void {
    const { nowMs } = this.#conversation
    if (this.#passed.size === 0) this.#namedMs = nowMs
    // Whatever else is said: the peer may wait for it in vain without knowing.
    else if (this.#state === 'live' && this.#outbox.pending === 0 && nowMs - this.#namedMs >= heartbeatIntervalMs) this.#advance(false)
    if (this.#state !== 'sending' || this.#outbox.pending === 0 || nowMs - this.#sentMs <= transferStallMs) return
    this.#conversation.emit({ type: 'close-source' })
    this.progress = undefined
    this.#outbox.dropUnsent((message) => !isAdvance(message)) // each request gets its answer
    this.#state = 'stalled'
    this.#sayLater()
  }

  /** The peer forgets the delivery, and with it what it was told there that we know. */
  #sayLater (): void {
    this.#told = this.#conversation.helloVector.clone()
    this.#conversation.send({ type: 'later' })
  }

  /** Sends what credit allows, and asks for more to send. */
  proceed (): void {
    const { local, nowMs } = this.#conversation
    if (this.#owesAgain && !local.applying && !local.repairing) {
      this.#owesAgain = false
      this.#conversation.send({ type: 'again' })
    }
    do {
      for (let frame = this.#outbox.take(); frame !== undefined; frame = this.#outbox.take()) {
        this.#conversation.sendFrame(frame, true)
        this.#sentMs = nowMs
      }
    } while (this.#outbox.pending <= readAheadBytes && this.#sayMore())
  }

  /** Puts what comes next into the outbox. Returns false if nothing does, or not yet. */
  #sayMore (): boolean {
    if (this.#state === 'sending' && !this.#sourceReading) {
      this.#sourceReading = true
      this.#conversation.emit({ type: 'read-source' })
    }
    if (this.#state !== 'live') return false
    const news = this.#news
    const unit = this.#conversation.local.unitAt(this.#feedNumber)
    if (news.length > 0) {
      this.#news = []
      this.#pushUnit([], news, encodeUnitBody([], news))
    } else if (unit !== undefined) {
      this.#passOn(unit)
    } else if (this.#acknowledgeWanted) {
      this.#acknowledgeWanted = false
      this.#advance(true)
    } else {
      return false
    }
    return true
  }

  #advance (acknowledge: boolean): void {
    this.#push({ type: 'advance', vector: [...this.#passed], acknowledge })
    this.#named()
  }

  #named (): void {
    this.#told.join(this.#passed)
    this.#passed = new VersionVector()
    this.#namedMs = this.#conversation.nowMs
  }

  #push (message: Exclude<DataMessage, { type: 'unit' }>): void {
    this.#hasStreamed = true
    this.#outbox.push(encodeData(message))
  }
}
