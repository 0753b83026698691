/**
 * All links of one replica: which of several to the same peer stays, whose turn it is to be asked, which logs come
 * directly from their owners, when what was taken in is made durable, and who hears of changes.
 *
 * Of two links to the same replica one stays, and both ends keep the same one. Of the same direction it is the newer, so
 * that a half-open corpse never wins, and also if the peer has been opened anew in between. Of opposite directions it is
 * the one that the replica with the lower id dialled; beside a stream, which nobody dials again, neither. The ends of two
 * streams need not greet in one order: the replica with the lower id ends the older one, and the other waits for that.
 */
import type { Hello, Peer } from '../codec/message.ts'
import type { LogId, ReplicaId } from '../core/ids.ts'
import type { Advance, ReadonlyVersionVector } from '../core/version-vector.ts'
import { backgroundError, ReplicationError, type ReplicationErrorCode } from '../errors.ts'
import { acknowledgeDelayMs, changesPace, linksMax, linksPerHostMax, newcomersPace, repairMs, strangersMax } from '../limits.ts'
import type { Store } from '../storage/store.ts'
import { logReplaced } from '../sync/conversation.ts'
import type { Effect, LocalReplica } from '../sync/events.ts'
import type { Address, ErrorListener, System, Timer } from '../types.ts'
import { Link, type Direction, type LinkOwner } from './link.ts'
import { Lobby } from './lobby.ts'
import { Pacer } from './pacer.ts'
import type { Connection } from './transport.ts'

const tickMs = 500

/** After so long a log that could not be left is tried to be left again. */
const leaveAgainMs = 1000

/** A question whether a peer has everything on disk, and what it had when it answered. */
interface Request {
  readonly number: number
  answer: ReadonlyVersionVector | undefined
}

export interface MeshOptions {
  readonly system: System
  readonly store: Store
  readonly group: string
  readonly nonce: string
  readonly resolverVersion: string
  readonly transactionBytesMax: number
  readonly address: () => Address | undefined
  readonly onError: ErrorListener
  readonly onGreeted: (link: Link, hello: Hello) => void
  readonly onCaughtUp: (link: Link) => void
  readonly onToldPeers: (link: Link, peers: readonly Peer[]) => void
  readonly onEnded: (link: Link, error: ReplicationError | undefined) => void
}

export class Mesh implements LinkOwner {
  readonly system: System
  readonly store: Store
  readonly local: LocalReplica
  readonly #options: MeshOptions
  readonly #links = new Set<Link>()
  /** Links that have ended for another one to the same replica, which may be greeted only after that. */
  readonly #replaced = new WeakSet<Link>()
  /** Inbound links that are not greeted yet. */
  readonly #lobby = new Lobby()
  /** Links in the order in which they asked for their turn; the first has it. */
  readonly #turns: Link[] = []
  /** The link that asked in its hello, and asks for its turn when it is greeted. */
  #wanting: Link | undefined
  #directLogs: ReadonlySet<LogId> = new Set()
  #tickTimer: Timer | undefined
  #flushTimer: Timer | undefined
  /** The last one that has begun, and the one that waits for its end. */
  #flushing: Promise<void> | undefined
  #nextFlush: Promise<void> | undefined
  /** What is tried again and again in the background, and how it failed last: told already. */
  readonly #failures = new Map<string, ReplicationErrorCode>()
  #tellTimer: Timer | undefined
  readonly #changes: Pacer
  /** All links are told of each who comes, and of many together. */
  readonly #newcomers: Pacer
  readonly #waiting = new Set<() => void>()
  /** Of each replica that was opened anew: its nonce before. */
  readonly #formerNonces = new Map<ReplicaId, string>()
  /** Since when there has been a peer that may make up for a hole. */
  #repairableMs: number | undefined
  /** A log that is in other hands is being left. */
  #leaving = false
  #closed = false

  constructor (options: MeshOptions) {
    this.#options = options
    this.system = options.system
    this.store = options.store
    this.#changes = new Pacer(options.system, changesPace, () => { this.#tellChanged() })
    this.#newcomers = new Pacer(options.system, newcomersPace, () => { this.#tellMembers() })
    const { store } = options
    const directLogs = (): ReadonlySet<LogId> => this.#directLogs
    this.local = {
      group: options.group,
      nonce: options.nonce,
      resolverVersion: options.resolverVersion,
      transactionBytesMax: options.transactionBytesMax,
      get replica () { return store.replica },
      get log () { return store.ownLog },
      get told () { return store.told.last.sequence },
      get address () { return options.address() },
      get vector () { return store.vector },
      get collected () { return store.collected },
      get durable () { return store.durable },
      get applying () { return store.applying },
      get resumePoint () { return store.intake.resumePoint },
      get repairing () { return store.repairing },
      get feedEnd () { return store.feed.end },
      unitAt: (number) => store.feed.at(number),
      backlogSince: (vector, collected) => store.feed.since(vector, collected),
      get members () { return store.members },
      get memberRefreshMs () { return store.members.refreshMs },
      get directLogs () { return directLogs() }
    }
    this.#tick()
  }

  get links (): ReadonlySet<Link> {
    return this.#links
  }

  /** Begins a conversation over a connection, which is closed if there is no room for it. */
  add (connection: Connection, direction: Direction, address: Address): Link | undefined {
    if (this.#closed || this.#leaving || (direction === 'outbound' && this.#ungreetedOutbound() >= strangersMax)) {
      connection.close()
      return undefined
    }
    const link = new Link(this, connection, direction, address)
    this.store.feed.open()
    this.#links.add(link)
    if (direction !== 'outbound') this.#lobby.enter(link, direction === 'stream' ? undefined : address.host, () => { link.end(tooMany('Too many others have come in and not greeted')) })
    // A hello has no room for the point from which a delivery can go on.
    const want = this.#turns.length === 0 && this.store.intake.resumePoint === undefined && (this.#wanting === undefined || !this.#links.has(this.#wanting) || this.#wanting.session.peer !== undefined)
    if (want) this.#wanting = link
    link.handle({ type: 'connected', want, listensFirst: connection.listensFirst, timeMs: this.system.nowMs() })
    return link
  }

  linkTo (replica: ReplicaId): Link | undefined {
    for (const link of this.#links) if (link.session.peer?.replica === replica) return link
    return undefined
  }

  /** The store's vector has advanced, its feed has grown, or an apply phase has begun or ended. */
  changed (): void {
    this.#changes.call()
  }

  #tellChanged (): void {
    let feedWanted = Infinity
    for (const link of this.#links) {
      link.handle({ type: 'changed' })
      feedWanted = Math.min(feedWanted, link.session.feedWanted)
    }
    this.store.feed.release(feedWanted)
    this.#wake()
    this.#flushSoon()
  }

  /** What is not durable yet will be, and be acknowledged, soon after it came, or after somebody came who wants to know. */
  #flushSoon (): void {
    if (this.#links.size === 0 || this.store.durable.dominates(this.store.vector)) return
    this.#flushTimer ??= this.system.setTimer(() => {
      void this.#flushUnasked().then((flushed) => { if (!flushed) this.#flushSoon() })
    }, acknowledgeDelayMs)
  }

  async #flushUnasked (): Promise<boolean> {
    return await this.#attempt('What has come could not be made durable', async () => { await this.flush() })
  }

  /** Whether it could be done; that it could not is told once, until it can or fails in another way. */
  async #attempt (failure: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work()
      this.#failures.delete(failure)
      return true
    } catch (cause) {
      const error = backgroundError(`${failure}; it is tried again`, cause)
      if (error.code !== this.#failures.get(failure)) this.warn(error)
      this.#failures.set(failure, error.code)
      return false
    }
  }

  /** Makes everything durable, and tells all links. Calls that come while another write is under way share the next. */
  async flush (): Promise<void> {
    this.system.clearTimer(this.#flushTimer)
    this.#flushTimer = undefined
    await (this.#nextFlush ??= this.#flushAfter(this.#flushing))
  }

  async #flushAfter (before: Promise<void> | undefined): Promise<void> {
    await before?.catch(() => {})
    this.#flushing = this.#nextFlush
    this.#nextFlush = undefined
    if (this.#closed || this.store.durable.dominates(this.store.vector)) return
    await this.store.flush()
    this.#tellMembers()
    this.#wake()
  }

  /**
   * Resolves when every linked peer has durably what this replica had at the call, and the other way round.
   *
   * @throws `REPLICATION_TIMEOUT`, `REPLICATION_DISCONNECTED` if replication ends meanwhile
   */
  async synced (timeoutMs: number): Promise<void> {
    const target = this.store.vector.clone()
    const deadline = this.system.monotonicMs() + timeoutMs
    const requests = new Map<Link, Request>()
    await this.#until(() => {
      const links = this.#greeted()
      // All are asked at once.
      return links.length > 0 && links.map((link) => this.#isSynced(link, target, requests)).every(Boolean)
    }, deadline)
  }

  /** Resolves when each link there is now, or another one that has taken its place, has brought what its peer had, or has ended. */
  async caughtUpWithAll (): Promise<void> {
    const links = [...this.#links]
    await this.#until(() => {
      for (const [index, link] of links.entries()) links[index] = this.#heirOf(link) ?? link
      return this.#closed || links.every((link) => this.#isOver(link) || link.session.receiving === 'live')
    }, Infinity)
  }

  /** The link that has taken its place, once that is greeted. */
  #heirOf (link: Link): Link | undefined {
    const { peer } = link.session
    return this.#replaced.has(link) && peer !== undefined ? this.linkTo(peer.replica) : undefined
  }

  /** Whether it has ended, and no other link can take its place any more. */
  #isOver (link: Link): boolean {
    return !this.#links.has(link) && !(this.#replaced.has(link) && link.session.peer !== undefined && this.#links.size > this.#greeted().length)
  }

  #isSynced (link: Link, target: ReadonlyVersionVector, requests: Map<Link, Request>): boolean {
    const { session } = link
    const request = requests.get(link)
    if (request === undefined) {
      link.handle({ type: 'synchronise' })
      requests.set(link, { number: session.requests, answer: undefined })
      return false
    }
    if (session.answers < request.number) return false
    if (request.answer === undefined && !session.peerDurable.dominates(target)) {
      requests.delete(link) // ask again at the next change
      return false
    }
    const answer = request.answer ??= session.peerDurable.clone() // what comes later is not waited for
    if (!this.store.vector.dominates(answer)) return false
    if (this.store.durable.dominates(answer)) return true
    void this.#flushUnasked()
    return false
  }

  #ungreetedOutbound (): number {
    return [...this.#links].filter(({ direction, session }) => direction === 'outbound' && session.peer === undefined).length
  }

  #hasRoomFor (link: Link): boolean {
    const others = this.#greeted().filter((other) => other !== link)
    const neighbours = link.direction === 'stream' ? [] : others.filter(({ address }) => address.host === link.address.host)
    return others.length < linksMax && neighbours.length < linksPerHostMax
  }

  #greeted (): Link[] {
    return [...this.#links].filter((link) => link.session.peer !== undefined)
  }

  /** Waits for a fact, which is looked at whenever anything has changed. */
  async #until (fact: () => boolean, deadlineMs: number): Promise<void> {
    while (!fact()) {
      if (this.#closed) throw new ReplicationError('Replication has ended', { code: 'REPLICATION_DISCONNECTED' })
      const leftMs = deadlineMs - this.system.monotonicMs()
      if (leftMs <= 0) throw new ReplicationError('Not in sync with all linked peers in time', { code: 'REPLICATION_TIMEOUT' })
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.system.clearTimer(timer)
          this.#waiting.delete(done)
          resolve()
        }
        const timer = this.system.setTimer(done, Math.min(leftMs, tickMs), true)
        this.#waiting.add(done)
      })
    }
  }

  #wake (): void {
    for (const done of [...this.#waiting]) done()
  }

  #tick (): void {
    this.#tickTimer = this.system.setTimer(() => {
      for (const link of this.#links) {
        const { peer } = link.session
        if (peer !== undefined) this.store.members.seen(peer.replica)
        link.handle({ type: 'tick', timeMs: this.system.nowMs() })
      }
      if (this.store.repairing) this.#endRepairInTime()
      this.#tick()
    }, tickMs)
  }

  /** Peers have had time to bring what was lost. */
  #endRepairInTime (): void {
    const greeted = this.#greeted()
    if (greeted.length > 0) this.#repairableMs ??= this.system.monotonicMs()
    if (this.#repairableMs === undefined || this.system.monotonicMs() - this.#repairableMs < repairMs) return
    if (greeted.some(({ session }) => ['asked', 'delivering', 'resuming'].includes(session.receiving))) return
    void this.#attempt('What was lost could not be written again', async () => { await this.store.endRepair() })
  }

  async close (): Promise<void> {
    this.#closed = true
    this.store.intake.stop()
    this.system.clearTimer(this.#tickTimer)
    this.system.clearTimer(this.#flushTimer)
    this.system.clearTimer(this.#tellTimer)
    this.#newcomers.stop()
    this.#changes.stop()
    const links = [...this.#links]
    for (const link of links) link.end(new ReplicationError('The database was closed', { code: 'REPLICATION_DISCONNECTED' }))
    this.#wake()
    await Promise.allSettled(links.map(async (link) => { await link.finished() }))
    await this.#flushing?.catch(() => {}) // what waits for it does nothing any more
  }

  // ---------------------------------------------------------------- what links tell

  greeted (link: Link, hello: Hello): void {
    this.#lobby.leave(link)
    for (const other of this.#links) {
      if (other === link || other.session.peer?.replica !== hello.replica) continue
      if (this.#formerNonces.get(hello.replica) === hello.nonce) return link.end(new ReplicationError(`There are two replicas with the id ${hello.replica}`, { code: 'REPLICATION_ID_TAKEN' }))
      if (other.session.peer.nonce !== hello.nonce) this.#noteOpenedAnew(other.session.peer)
      const loser = this.#loser(other, link, hello)
      loser?.end(new ReplicationError('Another link to the same replica stays', { code: 'REPLICATION_DUPLICATE_LINK' }))
      if (loser === link) return
    }
    if (!this.#hasRoomFor(link)) return link.end(tooMany('This replica has as many links as it may have'))
    this.store.members.met(hello.replica, link.session.peerKnows)
    this.#flushSoon()
    this.#newcomers.call()
    this.#options.onGreeted(link, hello)
    this.#wake()
  }

  /** Which of the two has to go; undefined if the peer says so. */
  #loser (older: Link, newer: Link, hello: Hello): Link | undefined {
    const isLower = this.store.replica < hello.replica
    if (older.session.peer!.nonce !== hello.nonce) return older
    if (older.direction === newer.direction) return older.direction === 'stream' && !isLower ? undefined : older
    if (older.direction === 'stream') return newer
    if (newer.direction === 'stream') return older
    return (newer.direction === 'outbound') === isLower ? older : newer
  }

  /** Should it come back while the other is linked, there are two of them, whose links would end each other's for ever. */
  #noteOpenedAnew ({ replica, nonce }: Hello): void {
    this.#formerNonces.delete(replica)
    this.#formerNonces.set(replica, nonce)
    if (this.#formerNonces.size > linksMax) this.#formerNonces.delete(this.#formerNonces.keys().next().value!)
  }

  requestTurn (link: Link): void {
    if (this.#turns.includes(link)) return
    this.#turns.push(link)
    if (this.#turns[0] === link) link.handle({ type: 'turn' })
  }

  releaseTurn (link: Link): void {
    const index = this.#turns.indexOf(link)
    if (index === -1) return
    this.#turns.splice(index, 1)
    if (index === 0) this.#turns[0]?.handle({ type: 'turn' })
  }

  liveChanged (): void {
    const logs = new Set<LogId>()
    for (const { session } of this.#links) if (session.receiving === 'live') logs.add(session.peer!.log)
    if (logs.size === this.#directLogs.size && [...logs].every((log) => this.#directLogs.has(log))) return
    this.#directLogs = logs
    for (const link of this.#links) link.handle({ type: 'directs' })
  }

  /** A peer has said what members hold: what is news is passed on, after a while and together. */
  acknowledged (members: Extract<Effect, { type: 'acknowledged' }>['members']): void {
    let news = false
    for (const { replica, vector, unseenSeconds, sighted } of members) {
      if (replica === this.store.replica) continue // nobody else knows that
      news = this.store.members.acknowledge(replica, vector, unseenSeconds * 1000, sighted) || news
    }
    this.#wake()
    if (!news) return
    this.#tellTimer ??= this.system.setTimer(() => {
      this.#tellTimer = undefined
      this.#tellMembers()
    }, acknowledgeDelayMs)
  }

  #tellMembers (): void {
    for (const link of this.#links) link.handle({ type: 'durable' })
  }

  caughtUp (link: Link): void {
    this.#options.onCaughtUp(link)
    this.#wake()
  }

  toldPeers (link: Link, peers: readonly Peer[]): void {
    this.#options.onToldPeers(link, peers)
  }

  warn (error: ReplicationError): void {
    if (!this.#closed) this.#options.onError(error)
  }

  async logContradicted (entry?: Advance): Promise<void> {
    const { told, ownLog, replica } = this.store
    const isOurs = entry !== undefined && await told.contradiction([entry]) !== ownLog
    if (isOurs || this.#closed || this.#leaving) return
    if (entry !== undefined) this.warn(logReplaced(replica))
    this.#leaving = true
    const links = [...this.#links]
    for (const link of links) link.end(new ReplicationError('This replica has another identity from now on', { code: 'REPLICATION_DISCONNECTED' }))
    await Promise.all(links.map(async (link) => { await link.storing() }))
    await this.#leaveLog()
  }

  /** Until then there are no links. */
  async #leaveLog (): Promise<void> {
    if (this.#closed) return
    this.store.feed.forget() // what is known goes back
    const isLeft = await this.#attempt('The log that is in other hands could not be left', async () => { await this.store.leaveLog() })
    if (isLeft) this.#leaving = false
    else this.system.setTimer(() => { void this.#leaveLog() }, leaveAgainMs)
  }

  ended (link: Link, error: ReplicationError | undefined): void {
    if (!this.#links.delete(link)) return
    if (error?.code === 'REPLICATION_DUPLICATE_LINK') this.#replaced.add(link)
    this.#lobby.leave(link)
    this.store.feed.close()
    this.liveChanged()
    this.#options.onEnded(link, error)
    this.#wake()
  }
}

function tooMany (message: string): ReplicationError {
  return new ReplicationError(message, { code: 'REPLICATION_TOO_MANY_LINKS' })
}
