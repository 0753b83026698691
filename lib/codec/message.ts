/**
 * The frames and messages of a conversation; `sync/PROTOCOL.md` is the specification.
 *
 * A frame is a *control message*, which needs no credit, or a *fragment* of a data message, which does. Fragments
 * of one data message follow each other without another data message in between, so that a unit of any size passes
 * while heartbeats go on.
 */
import { replicaIdBytes, replicaIdFrom, type LogId, type ReplicaId } from '../core/ids.ts'
import type { Advance } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { deliveredPartsMax, groupBytesMax, hostBytesMax, linksMax, logsMax, membersPerMessageMax, messageTextBytesMax, peersPerMessageMax, recordedUnitsBytesMax, resumeKeyBytesMax } from '../limits.ts'
import { readAdvances, readPlaces, writeAdvances } from './advances.ts'
import { ByteReader, ByteWriter, malformed } from './bytes.ts'
import { decodeEntries, EncodedEntries, type Entry } from './entry.ts'

export const protocolVersion = 1
const magic = 0x524c // 'RL'
const nonceBytes = 16

/** The first words of both sides. */
export interface Hello {
  readonly type: 'hello'
  /** Lowest and highest version of the protocol that the sender speaks. */
  readonly versionMin: number
  readonly versionMax: number
  readonly group: string
  readonly replica: ReplicaId
  readonly log: LogId
  /** Random, new at every open of the database: hexadecimal. */
  readonly nonce: string
  readonly resolverVersion: string
  readonly transactionBytesMax: number
  /** Bytes of data that the receiver of this hello may send before it needs more credit. */
  readonly credit: number
  /** The sender's wall clock. */
  readonly timeMs: number
  /** Where the sender can be dialled; port 0 if it cannot. */
  readonly host: string
  readonly port: number
  /** Whether this is a `want` too. */
  readonly want: boolean
  readonly vector: readonly Advance[]
  readonly collected: readonly Advance[]
}

/** A replica, and where it can be dialled. */
export interface Peer {
  readonly replica: ReplicaId
  readonly host: string
  readonly port: number
}

export interface AcknowledgedMember {
  readonly replica: ReplicaId
  /** For how long the sender has not seen it. */
  readonly unseenSeconds: number
  readonly vector: readonly Advance[]
}

/** What the receiver lacks, or the whole state. */
export type DeliveryKind = 'catch-up' | 'transfer'

/** Of a delivery that was cut short: up to a user key, from where the part before ends, its state at a vector has come. */
export interface DeliveredPart {
  readonly upTo: Buffer
  readonly vector: readonly Advance[]
}

/** How far a delivery has come that was cut short. */
export interface ResumePoint {
  readonly kind: DeliveryKind
  /** At least one, in key order; the vector of the first covers those of all others. */
  readonly parts: readonly DeliveredPart[]
}

export type ControlMessage =
  | Hello
  /** Ask for everything that the vector (as a difference to the last one sent) does not cover. */
  | { readonly type: 'want', readonly vector: readonly Advance[], readonly collected: readonly Advance[], readonly resume?: ResumePoint | undefined }
  /** The answer to a `want` is the live stream itself. It begins with the sender's hello, but for these logs: with less of them. */
  | { readonly type: 'live', readonly places: readonly Advance[] }
  /** A `want` cannot be served now; `again` will follow. */
  | { readonly type: 'later' }
  /** The live stream has ended, or begun to be possible: ask again. */
  | { readonly type: 'again' }
  | { readonly type: 'credit', readonly bytes: number }
  | { readonly type: 'heartbeat', readonly timeMs: number }
  /** The logs that the sender receives live from their owners. */
  | { readonly type: 'direct', readonly logs: readonly LogId[] }
  /** What members hold durably, each as a difference to what was last said of it. */
  | { readonly type: 'acknowledge', readonly members: readonly AcknowledgedMember[] }
  | { readonly type: 'bye', readonly code: string, readonly message: string }
  /** Replicas that the sender is linked with; none, to say that the sender may be named to others. */
  | { readonly type: 'peers', readonly peers: readonly Peer[] }

export type DataMessage =
  /** A catch-up or state transfer begins, of the state at `vector`; or it goes on from where the asker stands. */
  | { readonly type: 'begin', readonly kind: DeliveryKind, readonly resumes: boolean, readonly vector: readonly Advance[], readonly collected: readonly Advance[], readonly entries: number }
  | { readonly type: 'chunk', readonly bytes: Buffer }
  | { readonly type: 'end', readonly entries: number }
  /** What the sender has committed since the last one: what was known before, what it advanced and collected, and the keys it touched. */
  | { readonly type: 'unit', readonly before: readonly Advance[], readonly changes: readonly Advance[], readonly collected: readonly Advance[], readonly entries: Iterable<Entry> }
  /** Everything up to here has been sent, or has come to the receiver another way. */
  | { readonly type: 'advance', readonly vector: readonly Advance[], readonly acknowledge: boolean }

export type Frame = ControlMessage | { readonly type: 'fragment', readonly last: boolean, readonly bytes: Buffer }

const types = { hello: 1, want: 2, live: 3, later: 4, again: 5, credit: 6, heartbeat: 7, direct: 8, acknowledge: 9, bye: 10, peers: 11 } as const
const fragmentType = 0x10
const lastFragmentType = 0x11
const dataTypes = { begin: 0x20, chunk: 0x21, end: 0x22, unit: 0x23, advance: 0x24 } as const

export function encodeControl (message: ControlMessage): Buffer {
  const writer = new ByteWriter()
  writer.byte(types[message.type])
  switch (message.type) {
    case 'hello': writeHello(writer, message); break
    case 'want': writeWant(writer, message); break
    case 'live': writeAdvances(writer, message.places); break
    case 'credit': writer.varint(message.bytes); break
    case 'heartbeat': writer.varint(message.timeMs); break
    case 'direct':
      writer.varint(message.logs.length)
      for (const log of message.logs) writer.logId(log)
      break
    case 'acknowledge':
      writer.varint(message.members.length)
      for (const { replica, unseenSeconds, vector } of message.members) writeAdvances(writer.raw(Buffer.from(replica, 'hex')).varint(unseenSeconds), vector)
      break
    case 'bye': writer.text(message.code).text(message.message); break
    case 'peers':
      writer.varint(message.peers.length)
      for (const { replica, host, port } of message.peers) writer.raw(Buffer.from(replica, 'hex')).text(host).varint(port)
      break
  }
  return writer.take()
}

export function decodeFrame (bytes: Buffer): Frame {
  const reader = new ByteReader(bytes)
  const type = reader.byte()
  if (type === lastFragmentType || type === fragmentType) return { type: 'fragment', last: type === lastFragmentType, bytes: bytes.subarray(1) }
  const message = readControl(reader, type)
  reader.end()
  return message
}

function readControl (reader: ByteReader, type: number): ControlMessage {
  switch (type) {
    case types.hello: return readHello(reader)
    case types.want: return { type: 'want', vector: readAdvances(reader), collected: readAdvances(reader), resume: readResumePoint(reader) }
    case types.live: return { type: 'live', places: readPlaces(reader) }
    case types.later: return { type: 'later' }
    case types.again: return { type: 'again' }
    case types.credit: return { type: 'credit', bytes: reader.varint() }
    case types.heartbeat: return { type: 'heartbeat', timeMs: reader.varint() }
    case types.direct: return { type: 'direct', logs: readMany(reader, linksMax, 8, () => reader.logId()) }
    case types.acknowledge: return { type: 'acknowledge', members: readMembers(reader) }
    case types.bye: return { type: 'bye', code: reader.text(messageTextBytesMax), message: reader.text(messageTextBytesMax) }
    case types.peers: return { type: 'peers', peers: readMany(reader, peersPerMessageMax, replicaIdBytes + 2, () => ({ replica: replicaIdFrom(reader.raw(replicaIdBytes)), host: reader.text(hostBytesMax), port: readPort(reader) })) }
    default: throw malformed(`A frame of type ${type}`)
  }
}

function readMany<T> (reader: ByteReader, max: number, bytesEach: number, read: () => T): T[] {
  const count = reader.count(max, bytesEach)
  const items = new Array<T>(count)
  for (let index = 0; index < count; index++) items[index] = read()
  return items
}

function readMembers (reader: ByteReader): AcknowledgedMember[] {
  let advances = 0
  return readMany(reader, membersPerMessageMax, replicaIdBytes + 2, () => {
    const member = { replica: replicaIdFrom(reader.raw(replicaIdBytes)), unseenSeconds: reader.varint(), vector: readAdvances(reader) }
    advances += member.vector.length
    if (advances > logsMax) throw malformed(`More than ${logsMax} entries of vectors in one acknowledgement`)
    return member
  })
}

function writeWant (writer: ByteWriter, { vector, collected, resume }: Extract<ControlMessage, { type: 'want' }>): void {
  writeAdvances(writer, vector)
  writeAdvances(writer, collected)
  writer.byte(resume === undefined ? 0 : resume.kind === 'transfer' ? 2 : 1)
  if (resume === undefined) return
  writer.varint(resume.parts.length)
  for (const part of resume.parts) writeAdvances(writer.bytes(part.upTo), part.vector)
}

function readResumePoint (reader: ByteReader): ResumePoint | undefined {
  const kind = reader.byte()
  if (kind === 0) return undefined
  if (kind > 2) throw malformed(`A delivery of kind ${kind} to go on with`)
  const parts = readMany(reader, deliveredPartsMax, 2, () => ({ upTo: Buffer.from(reader.bytes(resumeKeyBytesMax)), vector: readAdvances(reader) }))
  if (parts.length === 0) throw malformed('A delivery to go on with of which nothing has come')
  for (let index = 1; index < parts.length; index++) if (Buffer.compare(parts[index - 1]!.upTo, parts[index]!.upTo) >= 0) throw malformed('Parts of a delivery that are not in key order')
  return { kind: kind === 2 ? 'transfer' : 'catch-up', parts }
}

function writeHello (writer: ByteWriter, hello: Hello): void {
  writer.byte(magic >> 8).byte(magic & 0xff).byte(hello.versionMin).byte(hello.versionMax)
  writer.text(hello.group).raw(Buffer.from(hello.replica, 'hex')).logId(hello.log).raw(Buffer.from(hello.nonce, 'hex'))
  writer.text(hello.resolverVersion).varint(hello.transactionBytesMax).varint(hello.credit).varint(hello.timeMs)
  writer.text(hello.host).varint(hello.port).byte(hello.want ? 1 : 0)
  writeAdvances(writer, hello.vector)
  writeAdvances(writer, hello.collected)
}

function readHello (reader: ByteReader): Hello {
  if ((reader.byte() << 8 | reader.byte()) !== magic) throw malformed('Not a hello of this protocol')
  const versionMin = reader.byte()
  const versionMax = reader.byte()
  if (versionMin > protocolVersion || versionMax < protocolVersion) {
    throw new ReplicationError(`The peer speaks versions ${versionMin} to ${versionMax} of the protocol, this replica version ${protocolVersion}`, { code: 'REPLICATION_PROTOCOL_VERSION' })
  }
  return {
    type: 'hello',
    versionMin,
    versionMax,
    group: reader.text(groupBytesMax),
    replica: replicaIdFrom(reader.raw(replicaIdBytes)),
    log: reader.logId(),
    nonce: reader.raw(nonceBytes).toString('hex'),
    resolverVersion: reader.text(messageTextBytesMax),
    transactionBytesMax: reader.varint(),
    credit: reader.varint(),
    timeMs: reader.varint(),
    host: reader.text(messageTextBytesMax),
    port: readPort(reader),
    want: reader.byte() === 1,
    vector: readAdvances(reader),
    collected: readAdvances(reader)
  }
}

function readPort (reader: ByteReader): number {
  const port = reader.varint()
  if (port > 65535) throw malformed(`Port ${port}`)
  return port
}

/**
 * A data message as it goes into fragments. Byte 0 is left for the type of the fragment, so that a message which
 * fits one frame is not copied again.
 */
export function encodeData (message: Exclude<DataMessage, { type: 'unit' }>): Buffer {
  const writer = new ByteWriter(message.type === 'chunk' ? message.bytes.length + 2 : 64)
  writer.byte(lastFragmentType).byte(dataTypes[message.type])
  switch (message.type) {
    case 'begin':
      writer.byte((message.kind === 'transfer' ? 1 : 0) + (message.resumes ? 2 : 0))
      writeAdvances(writer, message.vector)
      writeAdvances(writer, message.collected)
      writer.varint(message.entries)
      break
    case 'chunk': writer.raw(message.bytes); break
    case 'end': writer.varint(message.entries); break
    case 'advance':
      writer.byte(message.acknowledge ? 1 : 0)
      writeAdvances(writer, message.vector)
      break
  }
  return writer.take()
}

/** Whether an encoded data message is an `advance`. `offset`: where its type stands. */
export function isAdvance (encoded: Buffer, offset = 1): boolean {
  return encoded[offset] === dataTypes.advance
}

/** Whether a data message of which the first byte has come belongs to a delivery. */
export function isOfDelivery (bytes: Buffer): boolean {
  const type = bytes[0]
  return type === dataTypes.begin || type === dataTypes.chunk || type === dataTypes.end
}

/** The head of a unit. Its body (changes, what was collected, entries) is encoded once for all peers. */
export function encodeUnitHead (before: readonly Advance[]): Buffer {
  const writer = new ByteWriter(8 + before.length * 24)
  writer.byte(lastFragmentType).byte(dataTypes.unit)
  writeAdvances(writer, before)
  return writer.take()
}

/** The body of a unit without entries. */
export function encodeUnitBody (changes: readonly Advance[], collected: readonly Advance[]): Buffer {
  const writer = new ByteWriter()
  writeAdvances(writer, changes)
  writeAdvances(writer, collected)
  return writer.take()
}

const nothing = Buffer.alloc(0)

/** Cuts an encoded data message, which may be in two parts, into frames of at most `payloadBytes` each, from `offset` on. */
export function nextFragment (head: Buffer, offset: number, payloadBytes: number, body: Buffer = nothing): Buffer {
  const length = head.length + body.length
  if (offset === 1 && length - 1 <= payloadBytes && body.length === 0) return head
  const end = Math.min(length, offset + payloadBytes)
  const frame = Buffer.allocUnsafe(1 + end - offset)
  frame[0] = end === length ? lastFragmentType : fragmentType
  const ofHead = offset < head.length ? head.copy(frame, 1, offset, end) : 0
  body.copy(frame, 1 + ofHead, Math.max(0, offset - head.length), Math.max(0, end - head.length))
  return frame
}

export function decodeData (bytes: Buffer): DataMessage {
  const reader = new ByteReader(bytes)
  const type = reader.byte()
  switch (type) {
    case dataTypes.begin: {
      const flags = reader.byte()
      if (flags > 3) throw malformed(`A delivery of kind ${flags}`)
      const kind: DeliveryKind = (flags & 1) === 1 ? 'transfer' : 'catch-up'
      const message = { type: 'begin' as const, kind, resumes: flags >= 2, vector: readAdvances(reader), collected: readAdvances(reader), entries: reader.varint() }
      reader.end()
      return message
    }
    case dataTypes.chunk: return { type: 'chunk', bytes: bytes.subarray(1) }
    case dataTypes.end: {
      const message = { type: 'end' as const, entries: reader.varint() }
      reader.end()
      return message
    }
    case dataTypes.unit: {
      const before = readAdvances(reader)
      const changes = readAdvances(reader)
      const collected = readAdvances(reader)
      const entries = reader.raw(reader.remaining)
      return { type: 'unit', before, changes, collected, entries: entries.length > recordedUnitsBytesMax ? new EncodedEntries(entries) : decodeEntries(entries) }
    }
    case dataTypes.advance: {
      const acknowledge = reader.byte() === 1
      const message = { type: 'advance' as const, acknowledge, vector: readAdvances(reader) }
      reader.end()
      return message
    }
    default: throw malformed(`A data message of type ${type}`)
  }
}
