/**
 * Two sessions back to back, over replicas that are nothing but a vector and a list of units.
 *
 * What a session asks for is done at once, in its order, unless the type of the effect is held; `release` does what
 * was held. Frames wait in a queue until `deliver` or `settle` carries them over, so that a test can look between.
 */
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { writeAdvances } from '../../lib/codec/advances.ts'
import { writeEntry } from '../../lib/codec/entry.ts'
import { decodeData, decodeFrame, encodeUnitBody, type DataMessage, type Frame, type ResumePoint } from '../../lib/codec/message.ts'
import type { LogId, ReplicaId } from '../../lib/core/ids.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../../lib/core/version-vector.ts'
import { memberRefreshMs } from '../../lib/limits.ts'
import type { Effect, LocalBacklog, LocalMember, LocalReplica, LocalUnit, SessionEvent } from '../../lib/sync/events.ts'
import { Session } from '../../lib/sync/session.ts'
import type { Address } from '../../lib/types.ts'
import { numberedLog } from './log-ids.ts'

/** A replica without a store: it counts. */
export class FakeReplica implements LocalReplica {
  readonly replica: ReplicaId
  log: LogId
  nonce: string
  group = 'default'
  resolverVersion = ''
  transactionBytesMax = 64 * 1024 * 1024
  address: Address | undefined
  readonly vector = new VersionVector()
  readonly collected = new VersionVector()
  readonly durable = new VersionVector()
  applying = false
  resumePoint: ResumePoint | undefined
  repairing = false
  toldLess: number | undefined
  readonly acknowledged = new Map<ReplicaId, ReadonlyVersionVector>()
  unseenMs = 0
  /** Members that are not waited for. */
  readonly uncounted = new Set<ReplicaId>()
  directLogs: ReadonlySet<LogId> = new Set()
  readonly memberRefreshMs = memberRefreshMs
  readonly #units: LocalUnit[] = []
  /** Units before this one have left the ring. */
  feedStart = 0

  constructor (number: number) {
    this.replica = number.toString(16).padStart(32, '0')
    this.nonce = number.toString(16).padStart(32, 'f')
    this.log = numberedLog(number)
    this.acknowledged.set(this.replica, this.durable)
  }

  get members (): LocalMember[] {
    return [...this.acknowledged].map(([replica, acknowledged]) => ({ replica, acknowledged, unseenMs: this.unseenMs, counted: !this.uncounted.has(replica) }))
  }

  get feedEnd (): number {
    return this.#units.length
  }

  /** All of its log, unless a test says otherwise. */
  get told (): number {
    return this.toldLess ?? this.vector.sequenceOf(this.log)
  }

  unitAt (number: number): LocalUnit | undefined | 'lost' {
    return number < this.feedStart ? 'lost' : this.#units[number]
  }

  /** As much as a test says: by itself it has none. */
  backlog: LocalBacklog & { readonly collected: ReadonlyVersionVector } | undefined

  backlogSince (known: ReadonlyVersionVector, forgotten: ReadonlyVersionVector): LocalBacklog | undefined {
    const { backlog } = this
    return backlog !== undefined && known.dominates(backlog.vector) && forgotten.dominates(backlog.collected) ? backlog : undefined
  }

  /** Commits one write of its own, or of another log. */
  write (bytes = 10, log: LogId = this.log): Advance {
    const sequence = this.vector.sequenceOf(log) + 1
    const advance = { log, sequence, hlc: sequence * 1024 }
    const body = new ByteWriter(bytes + 100)
    writeAdvances(body, [advance])
    writeAdvances(body, [])
    writeEntry(body, { key: Buffer.from('key'), siblings: [{ ...advance, type: 'put' }], values: [Buffer.alloc(bytes)] })
    this.commit([advance], body.take())
    return advance
  }

  commit (changes: readonly Advance[], body?: Buffer, collected: readonly Advance[] = []): void {
    this.vector.join(changes)
    this.collected.join(collected)
    this.#units.push({ changes: [...changes], collected: [...collected], body })
  }
}

/** One end of a conversation, and what became of it. */
export class End {
  readonly session: Session
  readonly local: FakeReplica
  /** Every effect, in its order. */
  readonly effects: Effect[] = []
  /** Every frame that was sent, decoded. */
  readonly sent: Frame[] = []
  readonly outgoing: Buffer[] = []
  readonly held = new Set<Effect['type']>()
  readonly #waiting: Effect[] = []
  /** What the catch-ups that it serves consist of. */
  chunks: Buffer[] = []
  #chunksLeft: Buffer[] = []
  /** Vector of the delivery that is under way. */
  #delivery: readonly Advance[] | undefined
  nowMs = 0
  /** What its clock shows: nothing makes it go but a test. */
  clockMs = 1_700_000_000_000

  constructor (local: FakeReplica) {
    this.local = local
    this.session = new Session(local, 0)
  }

  handle (event: SessionEvent): void {
    for (const effect of this.session.handle(event, this.nowMs)) {
      this.effects.push(effect)
      if (this.held.has(effect.type)) this.#waiting.push(effect)
      else this.#perform(effect)
    }
  }

  connected (want: boolean): void {
    this.handle({ type: 'connected', want, timeMs: this.clockMs })
  }

  receive (frame: Buffer): void {
    this.handle({ type: 'received', frame: decodeFrame(frame), timeMs: this.clockMs })
  }

  /** Does what was held of a type, and holds it no more. */
  release (type: Effect['type']): void {
    this.held.delete(type)
    const due = this.#waiting.filter((effect) => effect.type === type)
    for (const effect of due) {
      this.#waiting.splice(this.#waiting.indexOf(effect), 1)
      this.#perform(effect)
    }
  }

  of<T extends Effect['type']> (type: T): Array<Extract<Effect, { type: T }>> {
    return this.effects.filter((effect) => effect.type === type) as Array<Extract<Effect, { type: T }>>
  }

  frames<T extends Frame['type']> (type: T): Array<Extract<Frame, { type: T }>> {
    return this.sent.filter((frame) => frame.type === type) as Array<Extract<Frame, { type: T }>>
  }

  /** The data messages that have been sent whole. */
  get messages (): DataMessage[] {
    const messages: DataMessage[] = []
    let fragments: Buffer[] = []
    for (const { bytes, last } of this.frames('fragment')) {
      fragments.push(bytes)
      if (!last) continue
      messages.push(decodeData(Buffer.concat(fragments)))
      fragments = []
    }
    return messages
  }

  /** The code that it ended with. */
  get ended (): string | undefined {
    return this.of('end')[0]?.error.code
  }

  /** A local write, and the news of it. */
  write (bytes?: number, log?: LogId): Advance {
    const advance = this.local.write(bytes, log)
    this.handle({ type: 'changed' })
    return advance
  }

  #perform (effect: Effect): void {
    switch (effect.type) {
      case 'send':
        this.sent.push(decodeFrame(effect.frame))
        this.outgoing.push(effect.frame)
        break
      case 'request-turn': this.handle({ type: 'turn' }); break
      case 'open-source':
        this.#chunksLeft = [...this.chunks]
        this.handle({ type: 'source-opened', kind: 'catch-up', resumes: effect.resume !== undefined, vector: this.local.vector.clone(), collected: this.local.collected.clone(), entries: this.chunks.length, feedNumber: this.local.feedEnd })
        break
      case 'read-source': {
        const bytes = this.#chunksLeft.shift()
        this.handle({ type: 'source-read', chunk: bytes === undefined ? undefined : { bytes, entries: 1 } })
        break
      }
      case 'begin-delivery': this.#delivery = effect.vector; break
      case 'deliver': this.handle({ type: 'done', effect: 'deliver' }); break
      case 'end-delivery':
        this.local.commit(this.#delivery!, Buffer.alloc(0))
        this.handle({ type: 'done', effect: 'end-delivery' })
        break
      case 'apply':
        effect.stream.join(effect.before)
        effect.stream.join(effect.changes)
        this.local.commit(effect.changes, encodeUnitBody(effect.changes, effect.collected), effect.collected)
        this.handle({ type: 'done', effect: 'apply' })
        break
      case 'flush':
        this.local.durable.join(this.local.vector)
        this.handle({ type: 'flushed' })
        break
    }
  }
}

export class SessionPair {
  readonly a: End
  readonly b: End
  /** Frames carried over so far, and their bytes. */
  carried = { frames: 0, bytes: 0 }

  constructor (a: FakeReplica, b: FakeReplica) {
    this.a = new End(a)
    this.b = new End(b)
  }

  /** Carries over what is waiting now, each way once. */
  deliver (): boolean {
    const [toB, toA] = [this.a.outgoing.splice(0), this.b.outgoing.splice(0)]
    for (const [frames, end] of [[toB, this.b], [toA, this.a]] as const) {
      for (const frame of frames) {
        this.carried.frames++
        this.carried.bytes += frame.length
        end.receive(frame)
      }
    }
    return toB.length + toA.length > 0
  }

  /** Until nobody has anything to say. Returns how many half round trips it took. */
  settle (): number {
    let halves = 0
    while (this.deliver()) halves++
    return halves
  }

  greet ({ want = true } = {}): this {
    this.a.connected(want)
    this.b.connected(want)
    this.settle()
    return this
  }

  /** Lets time pass at both ends, in steps of the driver's. */
  pass (ms: number, ends: readonly End[] = [this.a, this.b]): void {
    for (let passed = 0; passed < ms; passed += 500) {
      for (const end of [this.a, this.b]) end.nowMs += 500
      for (const end of ends) end.handle({ type: 'tick', timeMs: end.clockMs })
      this.settle()
    }
  }
}
