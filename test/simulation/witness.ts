/**
 * Follows one replica by the raw batches that reach its disk, and holds each of them against the truth.
 *
 * After every batch, for every key that it may have changed: the sibling set is precisely what true causality leaves
 * of the writes that the replica's vector claims (so that nothing is claimed that the state lacks, nothing covered is
 * kept, nothing comes back); what is read is the fold of it; and, in live mode, no write is there without its whole
 * transaction and everything that its author had seen.
 */
import { readAdvances } from '../../lib/codec/advances.ts'
import { ByteReader } from '../../lib/codec/bytes.ts'
import { decodeLogRecord } from '../../lib/codec/log-record.ts'
import { decodeSiblings } from '../../lib/codec/sibling-set.ts'
import { logIdFrom, type LogId } from '../../lib/core/ids.ts'
import type { SiblingSet } from '../../lib/core/siblings.ts'
import { VersionVector, type ReadonlyVersionVector } from '../../lib/core/version-vector.ts'
import { isStamped, valueOf } from '../../lib/storage/data-record.ts'
import { decodeLeaving } from '../../lib/storage/leaving.ts'
import { decodeStageRecord } from '../../lib/storage/stage.ts'
import { storedSet } from '../../lib/storage/stored-sets.ts'
import { inKeyspace, keyspace, meta, readSequence, siblingKey } from '../../lib/storage/keyspaces.ts'
import type { Resolver, Version } from '../../lib/types.ts'
import { vectorOf } from '../support/invariants.ts'
import type { RawOperation, Tree } from './disk.ts'
import { dotOf, type Leaving, type Oracle, type Write } from './oracle.ts'
import { Violation } from './violation.ts'

/** A new operation of the replica's own log, as its log record names it. */
export interface OwnDot {
  readonly log: LogId
  readonly sequence: number
  readonly hlc: number
  readonly key: string
}

/** A snapshot of a disk goes on beside the disk: what it has written in the same log stands under another name in truth. */
export interface Branch {
  readonly log: LogId
  /** Up to here both have the same. */
  readonly above: number
  readonly name: LogId
}

export interface WitnessOptions {
  readonly name: string
  readonly branch: Branch | undefined
  /** The replica has left the log of its branch. */
  readonly onLeft: () => void
  readonly oracle: Oracle
  readonly resolver: Resolver
  /** Tells the oracle of local writes, in their order; `before` is the state that they were decided on. */
  readonly onOwnDots: (dots: readonly OwnDot[], before: Tree, after: Tree) => void
  /** Whether a member is to be waited for. */
  readonly counts: (replica: string) => boolean
  readonly onCount: (what: string) => void
}

export function setOf (tree: Tree, key: string): SiblingSet {
  const user = Buffer.from(key, 'latin1')
  return storedSet(tree.get(inKeyspace(keyspace.version, user)), tree.get(inKeyspace(keyspace.data, user)))
}

export function dataOf (tree: Tree, key: string): string | undefined {
  return valueOf(tree.get(inKeyspace(keyspace.data, Buffer.from(key, 'latin1'))))?.toString('latin1')
}

/** The replicas that are members, as a disk says, those that were retired left out. */
export function membersOf (tree: Tree): string[] {
  const members: string[] = []
  tree.forEach((key, value) => {
    if (key[0] !== keyspace.meta || key[1] !== memberLetter) return
    const reader = new ByteReader(value)
    reader.varint()
    if ((reader.byte() & retiredFlag) === 0) members.push(key.toString('hex', 2))
  })
  return members
}

export class Witness {
  readonly #options: WitnessOptions
  /** What the replica claims to know. */
  readonly vector = new VersionVector()
  readonly collected = new VersionVector()
  /** The writes that the vector covers. */
  seen = 0n
  /** How many versions its sibling sets hold. */
  live = 0
  ownLog: LogId | undefined
  #branch: Branch | undefined
  /** While it takes what it alone has out of a log. */
  #leaving: Leaving | undefined
  /** What it has taken out of logs. */
  left = 0n
  /** An apply phase: what it brings, and how far it is. */
  applying: { readonly seen: bigint, readonly cursor: string | undefined, readonly collected: VersionVector } | undefined

  constructor (options: WitnessOptions, tree: Tree) {
    this.#options = options
    this.#branch = options.branch
    const metas = new Map<string, Buffer>()
    tree.forEach((key, value) => {
      if (key[0] === keyspace.meta) metas.set(key.toString('latin1'), value)
      else if (key[0] === keyspace.version) this.live += decodeSiblings(value).length
      else if (key[0] === keyspace.data && isStamped(value)) this.live++
    })
    this.#advance(vectorOf(metas))
    // First whether a log is being left: then a new one is no sign of anything else.
    const isLeaving = (key: string): number => key === meta.leaving.toString('latin1') ? 0 : 1
    for (const [key, value] of [...metas].sort(([a], [b]) => isLeaving(a) - isLeaving(b))) this.#meta(Buffer.from(key, 'latin1'), value)
    if (this.#leaving !== undefined) this.#forgetSuperseded(tree)
  }

  get leaving (): boolean {
    return this.#leaving !== undefined
  }

  /** The write that a dot names here. */
  at (log: LogId, sequence: number): Write | undefined {
    return this.#options.oracle.at(this.nameOf(log, sequence), sequence)
  }

  /** What the oracle calls a log here. */
  readonly nameOf = (log: LogId, sequence: number): LogId => this.#branch?.log === log && sequence > this.#branch.above ? this.#branch.name : log

  /** The writes of a log from one sequence, excluded, to another, included. */
  range (log: LogId, from: number, to: number): bigint {
    const { oracle } = this.#options
    if (this.#branch?.log !== log) return oracle.range(log, from, to)
    const { above, name } = this.#branch
    return oracle.range(log, from, Math.min(to, above)) | oracle.range(name, Math.max(from, above), to)
  }

  bitsOf (vector: ReadonlyVersionVector): bigint {
    let bits = 0n
    for (const { log, sequence } of vector) bits |= this.range(log, 0, sequence)
    return bits
  }

  /** Of what is taken out of a log, only what stands in the sets is still known. */
  #forgetSuperseded (tree: Tree): void {
    const { kept, beyond } = this.#leaving!
    let live = 0n
    for (const key of this.#options.oracle.keys) for (const { log, sequence } of setOf(tree, key)) if (log === kept.log && sequence > kept.sequence) live |= this.at(log, sequence)!.bit
    this.seen = (this.seen & ~beyond) | live
  }

  /** What was live is written again under other names. */
  #writtenAgain (dots: readonly OwnDot[], before: Tree): void {
    const { oracle } = this.#options
    const { kept } = this.#leaving!
    const together = new Map<bigint, Write[]>()
    for (const dot of dots) {
      const sibling = setOf(before, dot.key).find(({ log, sequence, hlc }) => log === kept.log && sequence > kept.sequence && hlc === dot.hlc)
      if (sibling === undefined) this.#fail('unasked', `${dot.key} is written at ${dot.sequence}, and was not taken out of the log that is left`)
      const old = this.at(sibling.log, sibling.sequence)!
      const write = oracle.writeAgain(this.#leaving!, old, dot)
      this.seen &= ~old.bit
      this.left |= old.bit
      together.set(old.together, [...together.get(old.together) ?? [], write])
    }
    for (const writes of together.values()) {
      const bits = writes.reduce((sum, { bit }) => sum | bit, 0n)
      for (const write of writes) write.together = bits
    }
    this.#options.onCount('operations written again')
  }

  /** The writes that are the context of a key. */
  contextOf (key: string): bigint {
    const { applying } = this
    return applying?.cursor !== undefined && key <= applying.cursor ? this.seen | applying.seen : this.seen
  }

  observe (operations: readonly RawOperation[], before: Tree, after: Tree): void {
    const seenBefore = this.seen
    const wasApplying = this.applying
    const wasLeaving = this.#leaving
    let moves = false
    const touched = new Set<string>()
    const own: OwnDot[] = []
    const advances: VersionVector = new VersionVector()
    // A batch says at the end what log it begins, and what is left for that.
    const leaving = operations.find(({ type, key }) => type === 'put' && key.equals(meta.leaving))
    const ownLog = operations.find(({ key }) => key.equals(meta.ownLog))
    for (const first of [leaving, ownLog]) if (first !== undefined) this.#meta(first.key, first.value)
    for (const operation of operations) {
      const { type, key, value } = operation
      switch (key[0]) {
        case keyspace.version: touched.add(key.toString('latin1', 1)); break
        case keyspace.data: touched.add(key.toString('latin1', 1)); break
        case keyspace.log:
          if (type === 'put') own.push(...this.#ownDots(key, value!))
          else moves ||= wasLeaving?.kept.log === logIdFrom(key.subarray(1, 9))
          break
        case keyspace.meta:
          if (type === 'put' && key[1] === journalLetter) advances.join(journalAdvances(value!))
          else if (operation !== leaving && operation !== ownLog) this.#meta(key, value)
      }
    }
    if (wasLeaving === undefined && this.#leaving !== undefined) {
      this.#forgetSuperseded(after)
      for (const { log } of advances) this.#options.oracle.fenced.add(log)
    }
    if (wasLeaving !== undefined && this.#leaving === undefined) {
      const { log, sequence } = wasLeaving.kept
      for (const key of this.#options.oracle.keys) if (setOf(after, key).some((sibling) => sibling.log === log && sibling.sequence > sequence)) this.#fail('not-left', `leaves a log with ${key}`)
    }
    own.sort((a, b) => a.sequence - b.sequence)
    if (moves) this.#writtenAgain(own, before)
    else if (own.length > 0) this.#options.onOwnDots(own, before, after)
    this.#advance(advances)

    const added: Write[] = []
    const phase = wasApplying !== undefined || this.applying !== undefined
    const claimed = this.seen & ~seenBefore
    for (const key of this.#options.oracle.keys) {
      const changed = touched.has(key)
      if (!changed && !phase && (claimed & this.#options.oracle.mask(key)) === 0n) continue
      added.push(...this.#checkKey(key, before, after, changed))
    }
    for (const key of touched) if (this.#options.oracle.mask(key) === 0n) this.#fail('made-up', `${key} was never written`)
    if (!phase) this.#checkWhole(added)
    else this.#options.onCount('batches of apply phases')
  }

  /** All keys, for instance after a restart. */
  checkAll (tree: Tree): void {
    for (const key of this.#options.oracle.keys) this.#checkKey(key, tree, tree, true)
  }

  #ownDots (key: Buffer, value: Buffer): OwnDot[] {
    const log = logIdFrom(key.subarray(1, 9))
    if (log !== this.ownLog) return []
    const { hlc, operations } = decodeLogRecord(readSequence(key, 9), value)
    return operations
      .filter(({ sequence }) => !this.vector.covers(log, sequence))
      .map(({ sequence, key }) => ({ log, sequence, hlc, key: key.toString('latin1') }))
  }

  #meta (key: Buffer, value: Buffer | undefined): void {
    if (key.equals(meta.ownLog)) {
      this.ownLog = logIdFrom(value!)
      if (this.#branch !== undefined && this.#branch.log !== this.ownLog && this.#leaving === undefined) {
        // It has noticed at once that it is a copy.
        if (this.vector.sequenceOf(this.#branch.log) > this.#branch.above) this.#fail('forked', 'gives a log up in which it has written something else than others, and keeps that')
        this.#endBranch()
      }
    } else if (key.equals(meta.leaving)) {
      this.#leave(value)
    } else if (key.equals(meta.stage)) {
      const record = value === undefined ? undefined : decodeStageRecord(value)
      if (record?.phase !== 'applying') {
        this.applying = undefined
      } else {
        let seen = 0n
        for (const { log, sequence } of record.vector) seen |= this.range(log, 0, sequence)
        this.applying = { seen, cursor: record.cursor?.toString('latin1'), collected: new VersionVector(record.collected) }
      }
    } else if (key[1] === collectedLetter && value !== undefined) {
      const reader = new ByteReader(value)
      const hlc = reader.hlc()
      const advance = { log: logIdFrom(key.subarray(2)), hlc, sequence: reader.varint() }
      if (advance.sequence < this.collected.sequenceOf(advance.log) && advance.log !== this.#leaving?.kept.log) this.#fail('collected-sinks', `what was collected goes back to ${advance.sequence}`)
      this.collected.advance(advance)
    }
  }

  #leave (value: Buffer | undefined): void {
    if (value !== undefined) {
      const kept = decodeLeaving(value)
      const beyond = this.range(kept.log, kept.sequence, this.vector.sequenceOf(kept.log))
      this.#leaving = this.#options.oracle.leave(this.#options.name, kept, beyond)
      this.left |= beyond
      this.#options.onCount('logs left')
    } else if (this.#leaving !== undefined) {
      const { kept, beyond } = this.#leaving
      this.#options.oracle.endLeaving(this.#leaving)
      this.vector.rewind(kept)
      this.collected.rewind(kept)
      this.#leaving = undefined
      this.seen &= ~beyond
      this.#endBranch()
    }
  }

  #endBranch (): void {
    this.#branch = undefined
    this.#options.onLeft()
  }

  #advance (advances: VersionVector): void {
    for (const advance of advances) {
      this.seen |= this.range(advance.log, this.vector.sequenceOf(advance.log), advance.sequence)
      this.vector.advance(advance)
    }
  }

  /** The writes that have come to this key. */
  #checkKey (key: string, before: Tree, after: Tree, changed: boolean): Write[] {
    const { oracle } = this.#options
    const set = setOf(after, key)
    let found = 0n
    const writes: Write[] = []
    for (const { log, sequence, type, hlc } of set) {
      const write = this.at(log, sequence)
      if (write === undefined || write.key !== key || write.type !== type || write.hlc !== hlc) this.#fail('made-up', `${key} holds ${log}:${sequence}, which was never written so`)
      writes.push(write)
      found |= write.bit
    }
    const context = this.contextOf(key)
    const expected = oracle.siblings(key, context)
    const where = `${key} holds {${writes.map(dotOf).join(', ')}}`
    if ((found & ~context) !== 0n) this.#fail('not-covered', `${where}; the vector does not cover ${oracle.names(found & ~context)}`)
    if ((found & ~expected) !== 0n) this.#fail('superseded-kept', `${where}; superseded in truth: ${oracle.names(found & ~expected)}`)
    for (const write of oracle.list(expected & ~found & ~oracle.erased)) {
      const log = this.#branch?.name === write.log ? this.#branch.log : write.log
      if (write.type !== 'del' || !(this.collected.covers(log, write.sequence) || this.applying?.collected.covers(log, write.sequence) === true)) this.#fail('claims-too-much', `${where}; it claims, and lacks, ${dotOf(write)}`)
      if ((oracle.collected & write.bit) === 0n) {
        this.#options.onCount('tombstones collected')
        oracle.countedAt.set(write, new Set(membersOf(after).filter(this.#options.counts)))
      }
      oracle.collected |= write.bit
      oracle.collectedSuperseded |= write.superseded
    }
    for (const [index, write] of writes.entries()) if (write.type === 'del' && this.collected.covers(set[index]!.log, write.sequence)) this.#fail('collected-kept', `${where}; ${dotOf(write)} is collected`)
    if (!changed) return []
    this.#checkData(key, set, writes, after)
    const was = setOf(before, key)
    this.live += set.length - was.length
    if (writes.length > 1 && was.length < 2) this.#options.onCount('conflicts')
    return writes.filter((_, index) => !was.some(({ log, sequence }) => log === set[index]!.log && sequence === set[index]!.sequence))
  }

  #checkData (key: string, set: SiblingSet, writes: readonly Write[], tree: Tree): void {
    const bytes = Buffer.from(key, 'latin1')
    if (writes.length > 1) {
      for (const [index, write] of writes.entries()) {
        const stored = tree.get(siblingKey(bytes, set[index]!.log, write.sequence))?.toString('latin1')
        if (stored !== write.value) this.#fail('value', `${dotOf(write)} is stored as ${stored}, and was ${write.value}`)
      }
    }
    const expected = folded(writes, this.#options.resolver)
    const found = dataOf(tree, key)
    if (found !== expected) this.#fail('data', `${key} reads ${found}, and the fold of {${writes.map(dotOf).join(', ')}} is ${expected}`)
  }

  #checkWhole (added: readonly Write[]): void {
    const { oracle } = this.#options
    const forgotten = oracle.collected | oracle.collectedSuperseded
    for (const write of added) {
      const torn = write.together & ~this.seen
      if (torn !== 0n) this.#fail('torn', `${dotOf(write)} is visible without ${oracle.names(torn)} of its transaction`)
      const cause = write.past & ~this.seen & ~forgotten
      if (cause !== 0n) this.#fail('effect-before-cause', `${dotOf(write)} is visible before ${oracle.names(cause)}, which its author had seen`)
    }
  }

  #fail (kind: string, message: string): never {
    throw new Violation(kind, `${this.#options.name}: ${message}`)
  }
}

const journalLetter = 'J'.charCodeAt(0)
const collectedLetter = 'C'.charCodeAt(0)
const memberLetter = 'M'.charCodeAt(0)
const retiredFlag = 1

function journalAdvances (value: Buffer): VersionVector {
  const reader = new ByteReader(value)
  reader.varint()
  return new VersionVector(readAdvances(reader))
}

/** What a key reads as: the oldest first, by time, log and sequence. Written anew, so as not to share a mistake. */
export function folded (writes: readonly Write[], resolver: Resolver): string | undefined {
  if (writes.every(({ type }) => type === 'del')) return undefined
  const versions = [...writes]
    .sort((a, b) => a.hlc - b.hlc || (a.log < b.log ? -1 : a.log > b.log ? 1 : a.sequence - b.sequence))
    .map(({ key, type, value }) => ({ key, type, value }) as unknown as Version<string, string | undefined>)
  return versions.reduce((accepted, challenger) => {
    try {
      const answer = resolver(accepted, challenger)
      if (typeof answer === 'boolean') return answer ? challenger : accepted
      if ('value' in answer) return { ...challenger, type: 'put', value: String(answer.value) } as typeof challenger
      return { ...challenger, type: 'del', value: undefined } as typeof challenger
    } catch {
      return challenger
    }
  }).value
}
