/**
 * The replicas of the group that this one has heard of, what each of them holds durably, and when it was last seen.
 *
 * On that rests the collection of tombstones: what all that count hold may be forgotten. A member is entered before
 * its first data, on disk too. One that has not been seen for `memberTtlMs` of this replica's own *running* time
 * (monotonic, summed over runs, so that a jumping clock expels nobody and a long sleep neither), or that was retired,
 * does not count until it is seen again: then it has to catch up by a state transfer, if anything was forgotten.
 *
 * What a member has acknowledged counts once this replica's own vector covers it: whatever the member wrote before it
 * knew of a tombstone is known here then, and stands beside the tombstone if the two are concurrent. So no part of what
 * it has acknowledged may be left out: what is too much is refused whole, before anything is changed.
 *
 * There is room for `membersMax`. In a full table, who has not been seen for longest of those that do not count gives way
 * to one that will: it has to begin anew anyway.
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { readAdvances, writeAdvances } from '../codec/advances.ts'
import type { ReplicaId } from '../core/ids.ts'
import { VersionVector, type Advance, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { heartbeatIntervalMs, logsMax, memberEntriesMax, memberRefreshMs, membersMax, runningTimeSaveMs } from '../limits.ts'
import { buffers, type Engine } from './engine.ts'
import type { InnerBatch } from './inner-batch.ts'
import { meta } from './keyspaces.ts'

/** Parts of a byte of a member's record: it was retired; it was last seen by others, before the first run of this replica. */
const retiredFlag = 1
const earlierFlag = 2

export interface MembersOptions {
  /** This replica itself, which always counts; see {@link Members.become}. */
  readonly self: ReplicaId
  readonly monotonicMs: () => number
  readonly memberTtlMs: number
  /** Who counts, or what they hold, may have changed. */
  readonly onChange: () => void
}

/** A member, as others see it. */
export interface MemberView {
  readonly replica: ReplicaId
  /** What it is known to hold durably. */
  readonly acknowledged: ReadonlyVersionVector
  readonly unseenMs: number
  /** Whether it counts when tombstones are collected. */
  readonly counted: boolean
  readonly retired: boolean
}

class Member {
  acknowledged: VersionVector
  /** What it had acknowledged when that was last looked at: it counts as soon as it is covered here. */
  #pending = new VersionVector()
  #counted = new VersionVector()
  /** Running time at which it was last seen, and what the disk says of that. */
  seenMs: number
  savedSeenMs: number
  retired = false

  constructor (seenMs: number, acknowledged = new VersionVector()) {
    this.seenMs = this.savedSeenMs = seenMs
    this.acknowledged = acknowledged
  }

  /** What of its acknowledgements counts. */
  counted (vector: ReadonlyVersionVector): ReadonlyVersionVector {
    for (let look = 0; look < 2 && vector.dominates(this.#pending); look++) {
      this.#counted = this.#pending
      this.#pending = this.acknowledged.clone()
    }
    return this.#counted
  }

  rewind (vector: VersionVector): void {
    this.acknowledged = vector
    this.#pending = new VersionVector() // which is all that counts, at the next look
  }
}

export class Members {
  readonly #options: MembersOptions
  #self: ReplicaId
  readonly #members = new Map<ReplicaId, Member>()
  /** What has to be saved, and as of which change. */
  readonly #unsaved = new Map<ReplicaId, number>()
  #changes = 0
  /** Members that have to be on disk before their data. */
  readonly #notOnDisk = new Set<ReplicaId>()
  readonly #openedMs: number
  /** Of all vectors. */
  #entries = 0
  #runBeforeMs = 0
  #savedRunningMs = 0

  constructor (options: MembersOptions) {
    this.#self = options.self
    this.#options = options
    this.#openedMs = options.monotonicMs()
  }

  async load (engine: Engine): Promise<void> {
    const stored = await engine.get(meta.runningTime, buffers)
    if (stored !== undefined) this.#runBeforeMs = this.#savedRunningMs = new ByteReader(stored).varint() * 1000
    for await (const [key, value] of engine.iterator({ ...meta.all('M'), ...buffers })) {
      const reader = new ByteReader(value)
      const seconds = reader.varint()
      const flags = reader.byte()
      const seenMs = (flags & earlierFlag) === 0 ? seconds * 1000 : -seconds * 1000
      const advances = readAdvances(reader, Infinity)
      const isWhole = advances.length <= logsMax
      const member = new Member(Math.min(seenMs, this.runningMs), new VersionVector(isWhole ? advances : []))
      member.retired = (flags & retiredFlag) !== 0
      const replica = key.toString('hex', 2)
      this.#members.set(replica, member)
      this.#entries += member.acknowledged.size
      if (!isWhole) this.#markUnsaved(replica) // no peer would be told of it
    }
  }

  /** For how long this replica has been open, in all its runs. */
  get runningMs (): number {
    return this.#runBeforeMs + this.#options.monotonicMs() - this.#openedMs
  }

  has (replica: ReplicaId): boolean {
    return this.#members.has(replica)
  }

  /**
   * A member has greeted. One that did not count any more counts again, from what it will say that it holds; so does one
   * that knows less than it has acknowledged: its disk went back, or that was said by another one that had its id.
   *
   * @param knows its vector
   * @throws `REPLICATION_TOO_MANY_MEMBERS`
   */
  met (replica: ReplicaId, knows?: ReadonlyVersionVector): void {
    const known = this.#members.get(replica)
    if (known !== undefined && this.#counts(replica, known) && (knows === undefined || knows.dominates(known.acknowledged))) return this.seen(replica)
    this.#enter(replica, this.runningMs)
  }

  /**
   * This replica has another id from now on. Who has the old one counts on as any other, but in a full table: a peer that
   * contradicts us again and again must not make it grow.
   */
  become (self: ReplicaId): void {
    const former = this.#self
    this.#self = self
    if (this.#members.size >= membersMax && !this.#giveWay()) this.#remove(former)
    this.met(self)
  }

  /** A member is linked now. */
  seen (replica: ReplicaId): void {
    const member = this.#members.get(replica)
    if (member !== undefined) this.#noteSeen(replica, member, this.runningMs)
  }

  #noteSeen (replica: ReplicaId, member: Member, seenMs: number): void {
    member.seenMs = seenMs
    if (seenMs - member.savedSeenMs > Math.min(runningTimeSaveMs, this.#newsMs)) this.#markUnsaved(replica)
  }

  /** What is heard so often of a member that is there, and over many replicas in between, lets it count. */
  get #newsMs (): number {
    return this.#options.memberTtlMs / 16
  }

  /** How often linked replicas have to be told of all members. */
  get refreshMs (): number {
    return Math.min(memberRefreshMs, Math.max(heartbeatIntervalMs, this.#newsMs))
  }

  #enter (replica: ReplicaId, seenMs: number): Member {
    const before = this.#members.get(replica)
    const hasRoom = before !== undefined || this.#members.size < membersMax || this.#giveWay()
    if (!hasRoom && replica !== this.#self) throw tooMany(`More than ${membersMax} replicas`)
    this.#entries -= before?.acknowledged.size ?? 0
    const member = new Member(seenMs)
    this.#members.set(replica, member)
    this.#notOnDisk.add(replica)
    this.#markUnsaved(replica)
    this.#options.onChange()
    return member
  }

  /** Forgets who has not been seen for longest, of those that do not count; false if all count, but for `sparing`. */
  #giveWay (sparing?: ReplicaId): boolean {
    let oldest: ReplicaId | undefined
    let oldestMs = Infinity
    for (const [replica, member] of this.#members) {
      if (replica === sparing || member.seenMs >= oldestMs || this.#counts(replica, member)) continue
      oldest = replica
      oldestMs = member.seenMs
    }
    if (oldest === undefined) return false
    this.#remove(oldest)
    return true
  }

  #remove (replica: ReplicaId): void {
    this.#entries -= this.#members.get(replica)?.acknowledged.size ?? 0
    this.#members.delete(replica)
    this.#notOnDisk.delete(replica)
    this.#markUnsaved(replica)
  }

  #markUnsaved (replica: ReplicaId): void {
    this.#unsaved.set(replica, ++this.#changes)
  }

  /** What a member is known to hold durably. */
  acknowledged (replica: ReplicaId): ReadonlyVersionVector {
    return this.#members.get(replica)?.acknowledged ?? new VersionVector()
  }

  /**
   * A member has said, or somebody else says of it, that it holds this durably.
   *
   * @param unseenMs for how long the teller has not seen it, in time that the teller was open
   * @param sighted whether that shows that the teller has seen it since it last spoke of it
   * @returns whether there is news.
   * @throws `REPLICATION_TOO_MANY_MEMBERS`
   */
  acknowledge (replica: ReplicaId, vector: Iterable<Advance>, unseenMs = 0, sighted = false): boolean {
    const known = this.#members.get(replica)
    // What others still say of one that was retired here does not bring it back.
    if (known?.retired === true) return false
    // Nor does one that would not count push out another.
    if (known === undefined && this.#members.size >= membersMax && unseenMs >= this.#options.memberTtlMs) return false
    const seenMs = this.runningMs - unseenMs
    const before = known?.acknowledged ?? new VersionVector()
    const news = new VersionVector()
    for (const advance of vector) if (!before.covers(advance.log, advance.sequence)) news.advance(advance)
    let added = 0
    for (const { log } of news) if (before.get(log) === undefined) added++
    if (added > 0 && replica !== this.#self) this.#assertRoom(replica, before.size, added)
    const member = known ?? this.#enter(replica, seenMs)
    member.acknowledged.join(news)
    this.#entries += added
    const hasNews = known === undefined || news.size > 0
    if ((hasNews || sighted) && seenMs > member.seenMs) this.#noteSeen(replica, member, seenMs)
    if (hasNews) {
      this.#markUnsaved(replica)
      this.#options.onChange()
    }
    return hasNews
  }

  #assertRoom (replica: ReplicaId, size: number, added: number): void {
    if (size + added > logsMax) throw tooMany(`More than ${logsMax} logs of replica ${replica}`)
    while (this.#entries + added > memberEntriesMax) {
      if (!this.#giveWay(replica)) throw tooMany(`More than ${memberEntriesMax} entries of vectors`)
    }
  }

  /** Takes back what a member has lost. */
  rewind (replica: ReplicaId, vector: ReadonlyVersionVector): void {
    const member = this.#members.get(replica)!
    this.#entries += vector.size - member.acknowledged.size
    member.rewind(vector.clone())
    this.#markUnsaved(replica)
  }

  /** What any of them is said to hold of a log beyond this may be something else. */
  forget (entry: Advance): void {
    for (const [replica, member] of this.#members) {
      if (!member.acknowledged.covers(entry.log, entry.sequence + 1)) continue
      this.#entries -= member.acknowledged.size
      member.acknowledged.rewind(entry)
      this.#entries += member.acknowledged.size
      member.rewind(member.acknowledged)
      this.#markUnsaved(replica)
    }
  }

  /** Any of them may be missing on disk. */
  changed (): void {
    for (const replica of this.#members.keys()) this.#markUnsaved(replica)
  }

  /** Does not count a member any more, until it greets again. It has to be saved. */
  retire (replica: ReplicaId): void {
    this.#members.get(replica)!.retired = true
    this.#markUnsaved(replica)
    this.#options.onChange()
  }

  #counts (replica: ReplicaId, member: Member): boolean {
    return replica === this.#self || (!member.retired && this.runningMs - member.seenMs < this.#options.memberTtlMs)
  }

  /** What all that count hold, and this replica itself durably. */
  frontier (durable: ReadonlyVersionVector, vector: ReadonlyVersionVector): VersionVector {
    let frontier = durable.clone()
    for (const [replica, member] of this.#members) {
      if (replica !== this.#self && this.#counts(replica, member)) frontier = meet(frontier, member.counted(vector))
    }
    return frontier
  }

  /** The ids of those that count, sorted. */
  get countedIds (): ReplicaId[] {
    return [...this.#members].filter(([replica, member]) => this.#counts(replica, member)).map(([replica]) => replica).sort()
  }

  /** Whether all that count have been seen lately: in the time in which news of one comes over all others at most. */
  get allPresent (): boolean {
    const counted = [...this].filter(({ counted }) => counted)
    return counted.every(({ unseenMs }) => unseenMs <= counted.length * this.refreshMs)
  }

  /** Whether somebody has been met who has to be on disk before any data of theirs. */
  get hasNew (): boolean {
    return this.#notOnDisk.size > 0
  }

  /** Adds what changed to a batch; what is returned has to be called when that is committed. */
  save (batch: InnerBatch): () => void {
    const saving = [...this.#unsaved]
    for (const [replica] of saving) {
      const member = this.#members.get(replica)
      if (member === undefined) {
        batch.delRaw(meta.member(replica))
        continue
      }
      const { seenMs, retired, acknowledged } = member
      const writer = new ByteWriter().varint(Math.abs(Math.ceil(seenMs / 1000))).byte((retired ? retiredFlag : 0) | (seenMs < 0 ? earlierFlag : 0))
      writeAdvances(writer, [...acknowledged])
      batch.putRaw(meta.member(replica), writer.take())
    }
    const runningMs = this.runningMs
    const savesRunning = runningMs >= this.#savedRunningMs + 1000
    if (savesRunning) batch.putRaw(meta.runningTime, new ByteWriter().varint(Math.floor(runningMs / 1000)).take())
    return () => {
      if (savesRunning) this.#savedRunningMs = runningMs
      for (const [replica, change] of saving) {
        if (this.#unsaved.get(replica) === change) this.#unsaved.delete(replica)
        this.#notOnDisk.delete(replica)
        const member = this.#members.get(replica)
        if (member !== undefined) member.savedSeenMs = member.seenMs
      }
    }
  }

  * [Symbol.iterator] (): IterableIterator<MemberView> {
    for (const [replica, member] of this.#members) {
      const { acknowledged, retired, seenMs } = member
      const unseenMs = replica === this.#self ? 0 : this.runningMs - seenMs
      yield { replica, acknowledged, retired, unseenMs, counted: this.#counts(replica, member) }
    }
  }
}

function tooMany (what: string): ReplicationError {
  return new ReplicationError(`${what} are remembered as members of the group`, { code: 'REPLICATION_TOO_MANY_MEMBERS' })
}

/** What both vectors cover. */
function meet (a: ReadonlyVersionVector, b: ReadonlyVersionVector): VersionVector {
  const met = new VersionVector()
  for (const advance of a) {
    const other = b.get(advance.log)
    if (other !== undefined) met.advance(other.sequence < advance.sequence ? other : advance)
  }
  return met
}
