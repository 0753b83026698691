/**
 * The conversation of two replicas over one connection, as a state machine without I/O: `handle(event, nowMs)`
 * returns effects. `PROTOCOL.md` specifies what is said; `sending` and `receiving` decide when, each for one
 * direction. This file greets, hands frames on, and notices when nobody answers.
 *
 * What must hold: nothing but hello is taken from a peer that has not greeted; a peer's fault ends the conversation
 * with a code, and nothing else; heartbeats go out whatever else is busy, so that silence means a dead link.
 */
import { encodeControl, protocolVersion, type AcknowledgedMember, type ControlMessage, type Frame, type Hello, type ResumePoint } from '../codec/message.ts'
import type { ReplicaId } from '../core/ids.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { ReplicationError, type ReplicationErrorCode } from '../errors.ts'
import { clockAheadMs, creditWindowBytes, handshakeTimeoutMs, heartbeatIntervalMs, heartbeatTimeoutMs, helloBytesPerMsMin, logsMax, membersMax, membersPerMessageMax } from '../limits.ts'
import { Conversation, logReplaced } from './conversation.ts'
import type { Effect, LocalReplica, SessionEvent } from './events.ts'
import { Receiving, type ReceivingState } from './receiving.ts'
import { Sending, type SendingState } from './sending.ts'

/** Codes that a peer may give as its reason to leave; any other becomes `REPLICATION_DISCONNECTED`. */
const peerCodes = new Set<string>([
  'REPLICATION_GROUP_MISMATCH', 'REPLICATION_SELF', 'REPLICATION_DUPLICATE_LINK', 'REPLICATION_TOO_MANY_LINKS', 'REPLICATION_TOO_MANY_LOGS', 'REPLICATION_TOO_MANY_MEMBERS', 'REPLICATION_PROTOCOL', 'REPLICATION_PROTOCOL_VERSION',
  'REPLICATION_FRAME_TOO_LARGE', 'REPLICATION_PEER_SILENT', 'REPLICATION_PEER_STALLED', 'REPLICATION_CLOCK_IMPOSSIBLE', 'REPLICATION_LOG_REPLACED', 'REPLICATION_LOG_FORKED', 'REPLICATION_ID_TAKEN'
] satisfies ReplicationErrorCode[])

type Connected = Extract<SessionEvent, { type: 'connected' }>

export class Session {
  readonly #conversation: Conversation
  readonly #sending: Sending
  readonly #receiving: Receiving
  readonly #startedMs: number
  #receivedMs: number
  /** When all members were last told of. */
  #toldAllMs: number
  #wantedInHello = false
  /** Those of our own hello, and all that have come: a hello may be long, and the link slow. */
  #helloBytes = 0
  /** Our hello waits for the peer's. */
  #helloDue: Connected | undefined
  #ended = false
  /** 1 if the peer's clock is too far ahead, -1 if it is too far behind. */
  #clockWrong = 0
  /** What each member was last said to hold. */
  readonly #acknowledgedTo = new Map<ReplicaId, VersionVector>()
  /** For how long the peer had not seen each member when it last said so. */
  readonly #unseen = new Map<ReplicaId, { unseenSeconds: number, nowMs: number }>()
  /** What the peer has said to hold durably. */
  readonly peerDurable = new VersionVector()
  /** How many requests to make everything durable the peer has answered; they are answered one by one. */
  answers = 0

  constructor (local: LocalReplica, nowMs: number) {
    this.#conversation = new Conversation(local, nowMs)
    this.#sending = new Sending(this.#conversation)
    this.#receiving = new Receiving(this.#conversation)
    this.#startedMs = this.#receivedMs = this.#toldAllMs = nowMs
  }

  /** The peer's hello, once it is greeted. */
  get peer (): Hello | undefined {
    return this.#conversation.peer
  }

  get receiving (): ReceivingState {
    return this.#receiving.state
  }

  get sending (): SendingState {
    return this.#sending.state
  }

  /** The first unit of the feed that the peer may still have to be sent. */
  get feedWanted (): number {
    return this.#sending.feedWanted
  }

  /** What the peer is known to have. */
  get peerKnows (): ReadonlyVersionVector {
    return this.#conversation.peerKnows
  }

  /** The number of the last request to make everything durable, counted from 1. */
  get requests (): number {
    return this.#sending.requests
  }

  /** Operations received and sent. */
  get operations (): { readonly received: number, readonly sent: number } {
    return this.#conversation.operations
  }

  /** Entries of a catch-up or state transfer that is being sent. */
  get sendingProgress (): { readonly sent: number, readonly total: number } | undefined {
    return this.#sending.progress
  }

  /** Something has come of the peer, though perhaps no whole frame: slow is not silent. */
  heard (nowMs: number, bytes = 0): void {
    this.#receivedMs = nowMs
    this.#helloBytes += bytes
  }

  /** Tells the session what happened; returns what is to be done, in this order. `nowMs` is monotonic. */
  handle (event: SessionEvent, nowMs: number): Effect[] {
    this.#conversation.nowMs = nowMs
    if (this.#ended) return []
    try {
      this.#handle(event)
      if (!this.#ended) {
        this.#receiving.proceed()
        this.#sending.proceed()
      }
    } catch (error) {
      if (!(error instanceof ReplicationError)) throw error
      return this.end(error)
    }
    return this.#conversation.takeEffects()
  }

  /** Ends the conversation, telling the peer why. */
  end (error: ReplicationError): Effect[] {
    if (this.#ended) return []
    this.#ended = true
    this.#conversation.sendFrame(encodeControl({ type: 'bye', code: error.code, message: error.message.slice(0, 200) }), false)
    this.#conversation.emit({ type: 'end', error })
    return this.#conversation.takeEffects()
  }

  #handle (event: SessionEvent): void {
    switch (event.type) {
      case 'connected':
        if (event.listensFirst === true) this.#helloDue = event
        else this.#sendHello(event)
        return
      case 'received': return this.#received(event.frame, event.timeMs)
      case 'tick': return this.#tick(event.timeMs)
      case 'turn': return this.#receiving.turn()
      case 'changed': return
      case 'durable': return this.#acknowledge()
      case 'flushed': return this.#answer()
      case 'directs': return this.#sendDirects()
      case 'tell-peers': return this.#conversation.send({ type: 'peers', peers: event.peers })
      case 'synchronise': return this.#sending.synchronise()
      case 'source-opened': return this.#sending.sourceOpened(event)
      case 'source-read': return this.#sending.sourceRead(event.chunk)
      case 'done': return this.#receiving.done(event.effect)
    }
  }

  #sendHello ({ want, timeMs }: Connected): void {
    const { local } = this.#conversation
    this.#conversation.helloVector = local.vector.clone()
    this.#wantedInHello = want
    const frame = encodeControl({
      type: 'hello',
      versionMin: protocolVersion,
      versionMax: protocolVersion,
      group: local.group,
      replica: local.replica,
      log: local.log,
      nonce: local.nonce,
      resolverVersion: local.resolverVersion,
      transactionBytesMax: local.transactionBytesMax,
      credit: creditWindowBytes,
      timeMs: wholeMs(timeMs),
      host: local.address?.host ?? '',
      port: local.address?.port ?? 0,
      want,
      vector: [...local.vector],
      collected: [...local.collected]
    })
    this.#helloBytes += frame.length
    this.#conversation.sendFrame(frame, false)
  }

  #greet (hello: Hello, timeMs: number): void {
    const { local } = this.#conversation
    if (hello.nonce === local.nonce) throw new ReplicationError('This address is this replica itself', { code: 'REPLICATION_SELF' })
    if (hello.group !== local.group) throw new ReplicationError(`Replica ${hello.replica} does not belong to the group ${JSON.stringify(local.group)}`, { code: 'REPLICATION_GROUP_MISMATCH' })
    if (this.#helloDue !== undefined) this.#sendHello({ ...this.#helloDue, timeMs })
    this.#conversation.peer = hello
    if (hello.log === local.log) {
      this.#conversation.emit({ type: 'log-contradicted' })
      throw new ReplicationError(`Replica ${hello.replica} writes in the same log as replica ${local.replica}, a copy of it: both write on in new ones`, { code: 'REPLICATION_LOG_REPLACED' })
    }
    if (hello.replica === local.replica) this.#beTwo(hello)
    this.#conversation.learn(hello.vector)
    for (const { log, sequence } of hello.collected) {
      if (!this.peerKnows.covers(log, sequence)) throw new ReplicationError('The peer has collected tombstones that it does not know', { code: 'REPLICATION_PROTOCOL' })
    }
    if (hello.resolverVersion !== local.resolverVersion) {
      this.#warn('REPLICATION_RESOLVER_MISMATCH', `Replica ${hello.replica} has resolverVersion ${JSON.stringify(hello.resolverVersion)}, this one ${JSON.stringify(local.resolverVersion)}: they may decide conflicts differently`)
    }
    this.#compareClocks(hello.timeMs, timeMs)
    this.#conversation.emit({ type: 'greeted', hello })
    this.#sendDirects()
    this.#acknowledge()
    this.#sending.begin(hello.credit)
    this.#receiving.begin(this.#wantedInHello)
    if (hello.want) this.#serve([], [])
  }

  /** A snapshot of a machine was started elsewhere, and writes in a log of its own, under one id with the original: one of them takes another. */
  #beTwo (hello: Hello): never {
    const { local } = this.#conversation
    if (local.log < hello.log) throw new ReplicationError(`Another replica has the id ${hello.replica}, which is ours`, { code: 'REPLICATION_ID_TAKEN' })
    this.#conversation.emit({ type: 'log-contradicted' })
    throw logReplaced(local.replica)
  }

  /** Names a peer when its clock is found to be wrong, or wrong in the other direction. */
  #compareClocks (peerMs: number, timeMs: number): void {
    const aheadMs = peerMs - timeMs
    const wrong = Math.abs(aheadMs) > clockAheadMs ? Math.sign(aheadMs) : 0
    const news = wrong !== this.#clockWrong
    this.#clockWrong = wrong
    if (!news || wrong === 0) return
    const [code, where] = wrong > 0 ? ['REPLICATION_CLOCK_AHEAD', 'ahead of'] as const : ['REPLICATION_CLOCK_BEHIND', 'behind'] as const
    this.#warn(code, `The clock of replica ${this.peer!.replica} is ${Math.round(Math.abs(aheadMs) / 1000)} s ${where} this one`)
  }

  #warn (code: ReplicationErrorCode, message: string): void {
    this.#conversation.emit({ type: 'warn', error: new ReplicationError(message, { code }) })
  }

  #received (frame: Frame, timeMs: number): void {
    this.heard(this.#conversation.nowMs)
    if (frame.type === 'bye') return this.#left(frame)
    if (this.peer === undefined) {
      if (frame.type !== 'hello') throw new ReplicationError(`The peer began with ${frame.type} instead of hello`, { code: 'REPLICATION_PROTOCOL' })
      return this.#greet(frame, timeMs)
    }
    switch (frame.type) {
      case 'hello': throw new ReplicationError('A second hello', { code: 'REPLICATION_PROTOCOL' })
      case 'want': return this.#serve(frame.vector, frame.collected, frame.resume)
      case 'live': return this.#receiving.live(frame.places)
      case 'later': return this.#receiving.later()
      case 'again': return this.#receiving.again()
      case 'credit': return this.#sending.credited(frame.bytes)
      case 'heartbeat': return this.#compareClocks(frame.timeMs, timeMs)
      case 'direct': return this.#sending.directs(frame.logs)
      case 'acknowledge': return this.#acknowledged(frame.members)
      case 'peers': return this.#conversation.emit({ type: 'told-peers', peers: frame.peers })
      case 'fragment': return this.#receiving.fragment(frame.bytes, frame.last)
    }
  }

  #left ({ code, message }: { code: string, message: string }): void {
    this.#ended = true
    if (code === 'REPLICATION_ID_TAKEN' && this.peer !== undefined) this.#conversation.emit({ type: 'log-contradicted' })
    const known = peerCodes.has(code) ? code as ReplicationErrorCode : 'REPLICATION_DISCONNECTED'
    this.#conversation.emit({ type: 'end', error: new ReplicationError(`The peer left: ${message.replace(/\p{C}/gu, '?')}`, { code: known }) })
  }

  /** Answers a `want`, whose vectors are differences to those of the peer's hello. */
  #serve (vector: readonly Advance[], collected: readonly Advance[], resume?: ResumePoint): void {
    const { peer } = this.#conversation
    this.#conversation.learn(vector)
    const base = new VersionVector(peer!.vector)
    base.join(vector)
    const collectedBase = new VersionVector(peer!.collected)
    collectedBase.join(collected)
    this.#sending.serve(base, collectedBase, resume)
  }

  #acknowledged (members: Extract<ControlMessage, { type: 'acknowledge' }>['members']): void {
    if (members.length === 0) this.answers++
    for (const { replica, vector } of members) {
      const told = this.#toldOf(replica)
      told.join(vector)
      if (told.size > logsMax || this.#acknowledgedTo.size > 2 * membersMax) throw new ReplicationError('The peer names more members, or more logs of one, than a group has', { code: 'REPLICATION_TOO_MANY_MEMBERS' })
      if (replica !== this.#conversation.local.replica) this.#conversation.compare(vector)
      if (replica !== this.peer!.replica) continue
      this.#conversation.learn(vector)
      this.peerDurable.join(vector)
    }
    this.#conversation.emit({ type: 'acknowledged', members: members.map((member) => ({ ...member, sighted: this.#isSighted(member) })) })
  }

  /** Whether the peer has seen a member since it last spoke of it: the time that it has not has not grown as time does. */
  #isSighted ({ replica, unseenSeconds }: AcknowledgedMember): boolean {
    const { nowMs } = this.#conversation
    const last = this.#unseen.get(replica)
    this.#unseen.set(replica, { unseenSeconds, nowMs })
    return last !== undefined && unseenSeconds * 1000 < last.unseenSeconds * 1000 + (nowMs - last.nowMs) / 2
  }

  /** Everything is durable, as the peer asked: an acknowledgement that names nobody says so, after those that do. */
  #answer (): void {
    this.#acknowledge()
    this.#conversation.send({ type: 'acknowledge', members: [] })
  }

  #toldOf (replica: ReplicaId): VersionVector {
    let told = this.#acknowledgedTo.get(replica)
    if (told === undefined) this.#acknowledgedTo.set(replica, told = new VersionVector())
    return told
  }

  /**
   * Tells which members are waited for, and what they hold durably as far as it has not been told, in as many frames
   * as that takes. From time to time also that there is no news of them, but that they are there.
   */
  #acknowledge (): void {
    const { local, nowMs, peer } = this.#conversation
    if (peer === undefined) return
    const all = nowMs - this.#toldAllMs >= local.memberRefreshMs
    if (all) this.#toldAllMs = nowMs
    let members: AcknowledgedMember[] = []
    let advances = 0
    for (const { replica, acknowledged, counted, unseenMs } of local.members) {
      if (replica === peer.replica || !counted) continue
      const isNew = !this.#acknowledgedTo.has(replica)
      const told = this.#toldOf(replica)
      const vector = (replica === local.replica ? local.durable : acknowledged).beyond(told)
      if (vector.length === 0 && (replica === local.replica || !(isNew || all))) continue
      told.join(vector)
      if (members.length > 0 && (advances + vector.length > logsMax || members.length === membersPerMessageMax)) {
        this.#conversation.send({ type: 'acknowledge', members })
        members = []
        advances = 0
      }
      members.push({ replica, unseenSeconds: Math.ceil(unseenMs / 1000), vector })
      advances += vector.length
    }
    if (members.length > 0) this.#conversation.send({ type: 'acknowledge', members })
  }

  #sendDirects (): void {
    const { local, peer } = this.#conversation
    if (peer === undefined) return
    this.#conversation.send({ type: 'direct', logs: [...local.directLogs].filter((log) => log !== peer.log) })
  }

  #tick (timeMs: number): void {
    const { nowMs, local } = this.#conversation
    if (this.peer === undefined) {
      const timeoutMs = handshakeTimeoutMs + this.#helloBytes / helloBytesPerMsMin
      if (nowMs - this.#startedMs > timeoutMs) throw new ReplicationError(`No hello within ${Math.round(timeoutMs)} ms`, { code: 'REPLICATION_PEER_SILENT' })
      if (this.#helloDue === undefined) this.#beat(timeMs)
      return
    }
    if (nowMs - this.#receivedMs > heartbeatTimeoutMs) throw new ReplicationError(`Nothing was heard of the peer for ${heartbeatTimeoutMs} ms`, { code: 'REPLICATION_PEER_SILENT' })
    if (nowMs - this.#toldAllMs >= local.memberRefreshMs) this.#acknowledge()
    this.#receiving.tick()
    this.#sending.tick()
    this.#beat(timeMs)
  }

  /** Also before the peer has greeted, who may have been greeted long ago. */
  #beat (timeMs: number): void {
    const { nowMs, sentMs } = this.#conversation
    if (nowMs - sentMs >= heartbeatIntervalMs) this.#conversation.send({ type: 'heartbeat', timeMs: wholeMs(timeMs) })
  }
}

/** A time as it is sent: a clock may say what none can have. */
function wholeMs (timeMs: number): number {
  return Math.max(0, Math.floor(timeMs))
}
