/**
 * What a session is told, and what it asks for. The session knows neither sockets nor LevelDB; whoever drives it
 * carries the effects out in their order, and reports back.
 */
import type { AcknowledgedMember, DeliveryKind, Frame, Hello, Peer, ResumePoint } from '../codec/message.ts'
import type { Entry } from '../codec/entry.ts'
import type { LogId, ReplicaId } from '../core/ids.ts'
import type { Advance, ReadonlyVersionVector, VersionVector } from '../core/version-vector.ts'
import type { ReplicationError } from '../errors.ts'
import type { Address } from '../types.ts'

/** What is told of a member. */
export interface LocalMember {
  readonly replica: ReplicaId
  readonly acknowledged: ReadonlyVersionVector
  readonly unseenMs: number
  /** Whether it is waited for when tombstones are collected. */
  readonly counted: boolean
}

/** What has been committed here, to be passed on as a whole. */
export interface LocalUnit {
  readonly changes: readonly Advance[]
  readonly collected: readonly Advance[]
  /** Undefined if nobody was there to be sent it, or it is no unit: a gap for whoever lacks it. */
  readonly body: Buffer | undefined
}

/** Units that a stream can begin with, and what was known before the first of them. */
export interface LocalBacklog {
  /** Number of its first unit. */
  readonly first: number
  readonly units: readonly LocalUnit[]
  readonly vector: ReadonlyVersionVector
}

/** This replica, as a live view: what it says is what holds at the moment of asking. */
export interface LocalReplica {
  readonly replica: ReplicaId
  readonly log: LogId
  /** Up to which sequence of our log peers may have its data. */
  readonly told: number
  /** Random, new at every open. */
  readonly nonce: string
  readonly group: string
  readonly resolverVersion: string
  readonly transactionBytesMax: number
  /** Where it listens. */
  readonly address: Address | undefined
  readonly vector: ReadonlyVersionVector
  readonly collected: ReadonlyVersionVector
  readonly durable: ReadonlyVersionVector
  readonly applying: boolean
  /** Where a delivery that was cut short can go on, the same object as long as it is the same place. */
  readonly resumePoint: ResumePoint | undefined
  /** Whether lost data is being made up for: nothing may be sent. */
  readonly repairing: boolean
  /** Number of the next unit of the feed. */
  readonly feedEnd: number
  /** The unit with this number; undefined if it is still to come, `'lost'` if it has left the ring. */
  unitAt (number: number): LocalUnit | undefined | 'lost'
  /** The last units for whoever knows, and has forgotten, so much; undefined if more is missing than they hold. */
  backlogSince (known: ReadonlyVersionVector, forgotten: ReadonlyVersionVector): LocalBacklog | undefined
  readonly members: Iterable<LocalMember>
  /** How often peers are told of all members, also if there is no news. */
  readonly memberRefreshMs: number
  /** Logs that are received live from their owners. */
  readonly directLogs: ReadonlySet<LogId>
}

export type SessionEvent =
  /** The connection is there. `want` if nobody else is being asked; `listensFirst` if the peer has to speak first. */
  | { readonly type: 'connected', readonly want: boolean, readonly listensFirst?: boolean, readonly timeMs: number }
  | { readonly type: 'received', readonly frame: Frame, readonly timeMs: number }
  | { readonly type: 'tick', readonly timeMs: number }
  /** It is this session's turn to ask for what is missing. */
  | { readonly type: 'turn' }
  /** The local vector has advanced, or the feed has grown, or an apply phase has begun or ended. */
  | { readonly type: 'changed' }
  /** Everything is durable, as the peer asked. */
  | { readonly type: 'flushed' }
  /** Something has become durable, here or at a member. */
  | { readonly type: 'durable' }
  /** The set of logs received directly has changed. */
  | { readonly type: 'directs' }
  /** The peer is to be told of other replicas. */
  | { readonly type: 'tell-peers', readonly peers: readonly Peer[] }
  /** Somebody waits until the peer has durably what this replica has now. */
  | { readonly type: 'synchronise' }
  | { readonly type: 'source-opened', readonly kind: DeliveryKind, readonly resumes: boolean, readonly vector: ReadonlyVersionVector, readonly collected: ReadonlyVersionVector, readonly entries: number, readonly feedNumber: number }
  | { readonly type: 'source-read', readonly chunk: { readonly bytes: Buffer, readonly entries: number } | undefined }
  /** What `begin-delivery`, `deliver`, `end-delivery` or `apply` asked for is done, in their order. */
  | { readonly type: 'done', readonly effect: 'deliver' | 'end-delivery' | 'apply' }

export type Effect =
  /** `data` if the frame holds any. */
  | { readonly type: 'send', readonly frame: Buffer, readonly data: boolean }
  | { readonly type: 'greeted', readonly hello: Hello }
  | { readonly type: 'request-turn' }
  | { readonly type: 'release-turn' }
  | { readonly type: 'open-source', readonly base: ReadonlyVersionVector, readonly resume: ResumePoint | undefined }
  | { readonly type: 'read-source' }
  | { readonly type: 'close-source' }
  | { readonly type: 'begin-delivery', readonly kind: DeliveryKind, readonly resumes: boolean, readonly vector: readonly Advance[], readonly collected: readonly Advance[], readonly entries: number }
  | { readonly type: 'deliver', readonly bytes: Buffer }
  | { readonly type: 'end-delivery', readonly entries: number }
  | { readonly type: 'abandon-delivery' }
  | { readonly type: 'apply', readonly stream: VersionVector, readonly before: readonly Advance[], readonly changes: readonly Advance[], readonly collected: readonly Advance[], readonly entries: Iterable<Entry>, readonly bytes: number }
  /** The receiving side has become live, or is not any more. */
  | { readonly type: 'live-changed' }
  /** This replica has all that the peer had when it greeted. */
  | { readonly type: 'caught-up' }
  /** The peer asks to be told once everything is durable. */
  | { readonly type: 'flush' }
  | { readonly type: 'acknowledged', readonly members: ReadonlyArray<AcknowledgedMember & { readonly sighted: boolean }> }
  /** This replica's own log is in other hands, too; with an entry, if that one is not of its own making, which its log records may tell. */
  | { readonly type: 'log-contradicted', readonly entry?: Advance }
  /** The peer knows of these replicas. */
  | { readonly type: 'told-peers', readonly peers: readonly Peer[] }
  | { readonly type: 'warn', readonly error: ReplicationError }
  /** The conversation is over. */
  | { readonly type: 'end', readonly error: ReplicationError }
