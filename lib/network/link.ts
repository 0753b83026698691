/**
 * One connection and its conversation: carries out what the session asks for, and tells it what came of it.
 *
 * Nothing that goes wrong here leaves it but as the one error that the link ends with. A peer that has much to say
 * does not keep others from being heard: every few milliseconds pending I/O gets its turn.
 */
import { encodeFrames, FrameReader } from '../codec/frames.ts'
import { decodeFrame, type Hello, type Peer } from '../codec/message.ts'
import { formatLogId } from '../core/ids.ts'
import type { Advance } from '../core/version-vector.ts'
import { ReplicationError, toReplicationError } from '../errors.ts'
import { frameBytesMax, outputBytesMax, outputStallMs } from '../limits.ts'
import { logReplaced } from '../sync/conversation.ts'
import type { Effect, LocalReplica, SessionEvent } from '../sync/events.ts'
import { Session } from '../sync/session.ts'
import type { Delivery, Progress } from '../storage/delivery.ts'
import type { Source } from '../storage/source.ts'
import type { Store } from '../storage/store.ts'
import type { Address, System } from '../types.ts'
import { formatAddress } from './addresses.ts'
import { Chunks } from './chunks.ts'
import type { Connection } from './transport.ts'

/** How long the last bytes may take to leave. */
const farewellMs = 500

/** Handling frames of one peer may take so long in a row. */
const burstMs = 10

/** Who dialled; of a stream neither did. */
export type Direction = 'outbound' | 'inbound' | 'stream'

/** What a link tells, and asks of, those who hold all links. */
export interface LinkOwner {
  readonly system: System
  readonly store: Store
  readonly local: LocalReplica
  greeted (link: Link, hello: Hello): void
  requestTurn (link: Link): void
  releaseTurn (link: Link): void
  /** A link has become live, or is not any more. */
  liveChanged (): void
  toldPeers (link: Link, peers: readonly Peer[]): void
  acknowledged (members: Extract<Effect, { type: 'acknowledged' }>['members']): void
  caughtUp (link: Link): void
  /** Makes everything durable, and tells all links. */
  flush (): Promise<void>
  warn (error: ReplicationError): void
  /** Our log is somebody else's, too; with an entry, if that one is not ours. */
  logContradicted (entry?: Advance): Promise<void>
  ended (link: Link, error: ReplicationError | undefined): void
}

export class Link {
  readonly direction: Direction
  /** Where it was dialled, or where it comes from. */
  readonly address: Address
  readonly sinceMs: number
  readonly session: Session
  readonly #owner: LinkOwner
  readonly #connection: Connection
  readonly #output = new Chunks()
  #source: Source | undefined
  #delivery: Delivery | undefined
  /** Deliveries, one after another. */
  #deliveries: Promise<void> = Promise.resolve()
  /** The last unit handed to the store. */
  #applied: Promise<void> = Promise.resolve()
  readonly #effects: Effect[] = []
  /** What is to be sent when the effects at hand have been carried out: small frames leave together. */
  #frames: Buffer[] = []
  #carrying = false
  /** What the peer had taken when it last took something, and when that was. */
  #takenBytes = 0
  #takenMs: number
  #ended = false
  readonly #finished: Promise<void>

  constructor (owner: LinkOwner, connection: Connection, direction: Direction, address: Address) {
    this.#owner = owner
    this.#connection = connection
    this.direction = direction
    this.address = address
    this.sinceMs = owner.system.nowMs()
    this.#takenMs = owner.system.monotonicMs()
    this.session = new Session(owner.local, this.#takenMs)
    this.#finished = Promise.all([this.#write(), this.#read()]).then(() => {})
  }

  get bytes (): { received: number, sent: number } {
    return { received: this.#connection.bytesReceived, sent: this.#connection.bytesSent }
  }

  /** How far a catch-up or state transfer has come, in either direction. */
  get progress (): Progress | undefined {
    const sending = this.session.sendingProgress
    return this.#delivery?.progress ?? (sending === undefined ? undefined : { received: sending.sent, total: sending.total })
  }

  /** Tells the session what happened, and carries out what follows. */
  handle (event: SessionEvent): void {
    if (this.#ended) return
    const nowMs = this.#owner.system.monotonicMs()
    if (event.type === 'tick') this.#watchOutput(nowMs)
    let effects: Effect[]
    try {
      effects = this.session.handle(event, nowMs)
    } catch (error) {
      effects = this.session.end(toReplicationError(error)) // a bug, which is no reason for the process to end
    }
    this.#carryOut(effects)
  }

  /** Ends the link; the peer is told why. */
  end (error: ReplicationError): void {
    this.#carryOut(this.session.end(error))
  }

  /** Resolves when everything this link had to do with the store is over. */
  async finished (): Promise<void> {
    await this.#finished
    await this.storing()
  }

  /** In their order, even if carrying one out makes more. */
  #carryOut (effects: Effect[]): void {
    this.#effects.push(...effects)
    if (this.#carrying) return
    this.#carrying = true
    for (let effect = this.#effects.shift(); effect !== undefined; effect = this.#effects.shift()) {
      if (this.#ended) continue
      try {
        this.#perform(effect)
      } catch (error) {
        this.#effects.push(...this.session.end(toReplicationError(error)))
      }
    }
    this.#sendFrames()
    this.#carrying = false
  }

  #perform (effect: Effect): void {
    const { store } = this.#owner
    switch (effect.type) {
      case 'send':
        if (effect.data) store.told.tell()
        this.#frames.push(effect.frame)
        return
      case 'greeted':
        return this.#owner.greeted(this, effect.hello)
      case 'request-turn': return this.#afterDeliveries(() => { this.#owner.requestTurn(this) })
      case 'release-turn': return this.#afterDeliveries(() => { this.#owner.releaseTurn(this) })
      case 'live-changed': return this.#owner.liveChanged()
      case 'caught-up': return this.#owner.caughtUp(this)
      case 'told-peers': return this.#owner.toldPeers(this, effect.peers)
      case 'warn': return this.#owner.warn(effect.error)
      case 'end': return this.#close(effect.error)
      case 'acknowledged': return this.#owner.acknowledged(effect.members)
      case 'open-source': return this.#try(async () => {
        const source = await store.openSource(effect.base, effect.resume)
        if (this.#ended) return await source.close()
        this.#source = source
        const { kind, resumes, vector, collected, entries, feedNumber } = source
        this.handle({ type: 'source-opened', kind, resumes, vector, collected, entries, feedNumber })
      })
      case 'read-source': return this.#try(async () => {
        const source = this.#source
        try {
          const chunk = await source?.next()
          if (source === this.#source) this.handle({ type: 'source-read', chunk })
        } catch (error) {
          if (source === this.#source) throw error // else it was closed while it was read
        }
      })
      case 'close-source': return this.#closeSource()
      case 'begin-delivery':
        this.#delivery = store.intake.begin(effect.kind, effect.vector, effect.collected, effect.entries, effect.resumes)
        return
      case 'deliver': return this.#deliver('deliver', async (delivery) => { await delivery.add(effect.bytes) })
      case 'end-delivery': return this.#deliver('end-delivery', async (delivery) => {
        await delivery.end(effect.entries)
        this.#delivery = undefined
      })
      case 'abandon-delivery': return this.#abandonDelivery()
      case 'apply':
        this.#applied = store.intake.apply(effect)
        this.#applied.then(this.#onApplied, this.#onFailed)
        return
      case 'flush': return this.#try(async () => {
        await this.#applied
        await this.#owner.flush()
        this.handle({ type: 'flushed' })
      })
      case 'log-contradicted': return this.#try(async () => { await this.#owner.logContradicted(effect.entry) })
    }
  }

  #try (work: () => Promise<void>): void {
    work().catch(this.#onFailed)
  }

  readonly #onApplied = (): void => { this.handle({ type: 'done', effect: 'apply' }) }

  readonly #onFailed = (error: unknown): void => { this.end(toReplicationError(error)) }

  #deliver (effect: 'deliver' | 'end-delivery', work: (delivery: Delivery) => Promise<void>): void {
    const delivery = this.#delivery!
    this.#deliveries = this.#deliveries.then(async () => {
      await work(delivery)
      this.handle({ type: 'done', effect })
    }).catch((error) => { this.end(toReplicationError(error)) })
  }

  /** The store takes in one delivery at a time: nobody else has the turn before the last one here is over. */
  #afterDeliveries (act: () => void): void {
    this.#deliveries = this.#deliveries.then(act)
  }

  #abandonDelivery (): void {
    const delivery = this.#delivery
    this.#delivery = undefined
    if (delivery !== undefined) this.#deliveries = this.#deliveries.then(async () => { await delivery.abandon() }).catch(() => {})
  }

  #closeSource (): void {
    const source = this.#source
    this.#source = undefined
    source?.close().catch(() => {})
  }

  #sendFrames (): void {
    if (this.#frames.length === 0) return
    for (const bytes of encodeFrames(this.#frames)) this.#output.push(bytes)
    this.#frames = []
    const unsent = this.#unsentBytes
    if (unsent > outputBytesMax) this.#close(new ReplicationError(`The peer does not read: ${unsent} bytes wait for it`, { code: 'REPLICATION_PEER_STALLED' }))
  }

  /** A peer may be slow, but not stand still while something waits for it. */
  #watchOutput (nowMs: number): void {
    const { bytesSent } = this.#connection
    if (bytesSent !== this.#takenBytes || this.#unsentBytes === 0) {
      this.#takenBytes = bytesSent
      this.#takenMs = nowMs
    } else if (nowMs - this.#takenMs > outputStallMs) {
      this.#close(new ReplicationError(`The peer has read nothing for ${outputStallMs} ms: ${this.#unsentBytes} bytes wait for it`, { code: 'REPLICATION_PEER_STALLED' }))
    }
  }

  get #unsentBytes (): number {
    return this.#output.bytes + this.#connection.unsentBytes
  }

  /** Everything that was sent goes out, and no more comes in. */
  #close (error: ReplicationError | undefined): void {
    if (this.#ended) return
    this.#ended = true
    this.#sendFrames()
    this.#output.end()
    // A peer that does not read its farewell is not waited for. A stream has no socket that would keep the process until then.
    const { system } = this.#owner
    const farewell = system.setTimer(() => { this.#connection.close() }, farewellMs, true)
    void this.#finished.finally(() => { system.clearTimer(farewell) })
    this.#closeSource()
    this.#abandonDelivery()
    this.#afterDeliveries(() => { this.#owner.releaseTurn(this) })
    this.#owner.ended(this, error === undefined ? undefined : this.#named(error))
  }

  /** The error, with the peer's address. */
  #named (error: ReplicationError): ReplicationError {
    return new ReplicationError(`${formatAddress(this.address)}: ${error.message}`, { code: error.code, cause: error.cause })
  }

  /** Until the farewell has left, or the connection has ended by itself, and its source with it. */
  async #write (): Promise<void> {
    await this.#connection.sink(this.#output).catch(() => {})
    this.#connection.close()
  }

  async #read (): Promise<void> {
    const { system } = this.#owner
    const reader = new FrameReader(frameBytesMax)
    let burstedMs = 0
    try {
      // Not `for await`, which closes the connection when it is left: a farewell may be on its way.
      const chunks = this.#connection.source[Symbol.asyncIterator]()
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
        this.session.heard(system.monotonicMs(), next.value.byteLength)
        for (const frame of reader.read(next.value.subarray())) {
          if (this.#ended) return
          const startMs = system.monotonicMs()
          const message = decodeFrame(frame)
          if (message.type === 'hello') await this.#compare(message)
          this.handle({ type: 'received', frame: message, timeMs: system.nowMs() })
          burstedMs += system.monotonicMs() - startMs
          if (burstedMs < burstMs) continue
          burstedMs = 0
          await system.yield()
        }
      }
      const when = this.session.peer === undefined ? ' before it greeted: it may want another secret or certificate' : reader.isInside ? ' in the middle of a frame' : ''
      this.#lost(new ReplicationError(`The connection was closed by the peer${when}`, { code: 'REPLICATION_DISCONNECTED' }))
    } catch (error) {
      this.#lost(error)
    }
  }

  /** Before a peer is greeted: whether what it knows is what is known here. Afterwards nothing it knows is another write. */
  async #compare ({ group, nonce, vector }: Hello): Promise<void> {
    const { local, store } = this.#owner
    if (group !== local.group || nonce === local.nonce) return
    const log = await store.told.contradiction(vector)
    if (log === undefined) return
    if (log !== local.log) return this.end(new ReplicationError(`The peer knows other writes of log ${formatLogId(log)} than this replica: two snapshots of a disk have written in it, and one has sent to the peer what it wrote, one to this replica`, { code: 'REPLICATION_LOG_FORKED' }))
    this.end(logReplaced(local.replica))
    this.#try(async () => { await this.#owner.logContradicted() })
  }

  /** Resolves when it has nothing more to do with the store. */
  async storing (): Promise<void> {
    await this.#deliveries
    await this.#applied.catch(() => {})
  }

  /** The connection is gone, or what came over it makes no sense. */
  #lost (thrown: unknown): void {
    this.end(thrown instanceof ReplicationError ? thrown : new ReplicationError(`The connection broke: ${(thrown as Error).message}`, { code: 'REPLICATION_DISCONNECTED', cause: thrown }))
  }
}
