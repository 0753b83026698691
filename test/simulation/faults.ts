/**
 * Faults to be planted in lib, one at a time: a simulation that finds none of them would be worth nothing.
 *
 * Each replaces snippets of the source that occur exactly once. When lib changes, a fault may have to be written anew:
 * the run then says so.
 */
import type { Patch } from './workers.ts'

export interface PlantedFault {
  readonly name: string
  readonly patches: readonly Patch[]
}

type Snippet = readonly [file: string, find: string, replace: string]

/** What is done wrong, and where: the files are those of `lib`. */
const snippets: Readonly<Record<string, readonly Snippet[]>> = {
  'the vector advances in the middle of a catch-up': [
    ['storage/intake.ts', 'if (more) batch.putRaw(meta.stage, encodeStageRecord({ ...record, cursor: phase.cursor }))', `for (const advance of record.vector) batch.advance(advance)
          if (more) batch.putRaw(meta.stage, encodeStageRecord({ ...record, cursor: phase.cursor }))`]
  ],
  'half a sibling set is sent': [
    ['storage/merge.ts', 'if (batch.recordsUnit) batch.addToUnit(merged, merged.map((sibling, index) => indexOfDot(before, sibling) === -1 ? values[index] : undefined))', `const sent = merged.filter((sibling) => indexOfDot(before, sibling) === -1)
    batch.addToUnit(sent, sent.map((sibling) => values[indexOfDot(merged, sibling)]))`]
  ],
  'a catch-up is not read at one snapshot': [
    ['storage/source.ts', 'this.reading = { snapshot: options.snapshot, ', 'this.reading = { snapshot: undefined as never, '],
    ['storage/log-source.ts', 'slice(this.#index, this.#index + this.#keysAtOnce)', 'slice(this.#index, this.#index + 1)']
  ],
  'what has been sent counts as ours alone': [
    ['storage/told.ts', 'return this.#last.log === ownLog ? this.#last :', 'return this.#last.log === ownLog && this.#last.sequence === 0 ? this.#last :']
  ],
  'what is ours alone stays in a log that is left': [
    ['storage/leaving.ts', 'if (records.length > 0) {', 'if (records.length > 1000) {']
  ],
  'up to where peers have been told is not remembered': [
    ['storage/told.ts', 'this.#identity.tell(last)', 'if (last.sequence === 0) this.#identity.tell(last)']
  ],
  'a copied directory writes on in the log of its original': [
    ['storage/identity.ts', "remembered.birthTime !== found.birthTime)) return 'new-replica'", "remembered.birthTime !== found.birthTime)) return 'same'"]
  ],
  'a copy that wrote more than its original is believed': [
    ['sync/conversation.ts', 'isOurs(entry, local.vector.get(entry.log), local.told)', 'isOurs(entry, entry, Infinity)'],
    ['sync/session.ts', 'if (hello.log === local.log) {', 'if (hello.log === local.replica) {'],
    ['storage/told.ts', 'let lookedUp = 0', 'if (vector.length > 0) return undefined\n    let lookedUp = 0'],
    ['storage/inner-batch.ts', 'if (entry.log === this.#state.ownLog && entry.sequence > this.#state.ownSequence) this.#state.replaceLog()', '']
  ],
  'the log goes on after a power loss': [
    ['storage/identity.ts', "found.bootId)) return 'new-log'", "found.bootId)) return 'same'"]
  ],
  'a tombstone is collected by its age alone': [
    ['storage/collector.ts', 'return members.frontier(durable, state.vector)', 'return new VersionVector(durable)']
  ],
  'what was collected sinks when a member returns': [
    ['core/version-vector.ts', '  /** Takes in everything that `other` knows. */', '  remove (log: any): void { this.#entries.delete(log) }'],
    ['storage/store.ts', 'const fenced = !base.dominates(this.#state.collected)', 'for (const { log, sequence } of [...this.#state.collected]) if (!base.covers(log, sequence)) (this.#state.collected as any).remove(log)\n      const fenced = !base.dominates(this.#state.collected)']
  ],
  'a member is given up while it is away for a moment': [
    ['storage/members.ts', 'this.runningMs - member.seenMs < this.#options.memberTtlMs', 'this.runningMs - member.seenMs < 1000']
  ],
  'what is forwarded by others is not waited for': [
    ['sync/receiving.ts', 'const missing = before.filter(({ log, sequence }) => !local.vector.covers(log, sequence))', 'const missing = before.slice(0, 0)'],
    ['storage/intake.ts', "if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit came before what it depends on', { code: 'REPLICATION_PROTOCOL' })", 'void [log, sequence]']
  ],
  'siblings are folded in the order of their arrival': [
    ['core/siblings.ts', 'return [...kept, ...added].sort(compareSiblings)', 'return [...kept, ...added]']
  ],
  'an operation that is live is swept from the log': [
    ['storage/sweeper.ts', 'if (indexOfDot(decodeSiblings(records[index])', 'if (records[index]?.[0] !== 1 || indexOfDot(decodeSiblings(records[index])']
  ],
  'the log is never swept': [
    ['storage/sweeper.ts', 'return written.all > Math.max(live.all, this.#dueWritten) || this.#forgottenDue', 'return this.#forgottenDue && written.all + live.all + this.#dueWritten < 0']
  ],
  'tombstones are never collected': [
    ['storage/collector.ts', 'return this.#changed && this.#options.state.tally.tombstonesMax > 0 && !this.#options.applying()', 'return this.#changed && this.#options.applying()']
  ],
  'a conflict with a delete is never settled': [
    ['storage/housekeeping.ts', 'await this.#settler.settle(this.collector.held)', '']
  ],
  'what is settled is not what the key reads as': [
    ['storage/settling.ts', "value === undefined ? { type: 'del', key }", "value !== null ? { type: 'del', key }"]
  ],
  'what is not on the medium is acknowledged as durable': [
    ['storage/store.ts', 'batch.sync = true\n    })\n    await this.#options.syncFullLogs?.()', '})\n    await this.#options.syncFullLogs?.()']
  ],
  'a write is acknowledged before it is committed': [
    ['storage/local-writer.ts', 'if (!batch.isWhole) return\n', 'if (!batch.isWhole) return batch.resolve()\n']
  ],
  'what counts is not given to LevelDB when the database is opened': [
    ['storage/opening.ts', 'if (bytes === undefined || bytes.length === 0', 'if (bytes === undefined || bytes.length >= 0']
  ],
  'of what counts a batch is missing, and the next one is redone': [
    ['storage/redo-log.ts', 'if (record.index !== (index ??= record.index)) break', ''],
    ['storage/redo-log.ts', 'if (changes.length === 0) return', 'if (changes.length === 0 && number > last + 2) return']
  ],
  'records of an earlier run are redone': [
    ['storage/redo-log.ts', 'return crc32(epoch)', 'return crc32(epoch.slice(0, 0))']
  ],
  'what counts is forgotten when LevelDB does not take it': [
    ['storage/local-writer.ts', 'if (has === wanted) return', 'if (has === wanted || has === 0) return']
  ],
  'peers and callers are told of what did not get into the redo log': [
    ['storage/local-writer.ts', 'batch.isWhole = this.#append(batch)', 'batch.isWhole = this.#append(batch) || true']
  ],
  'a remote batch does not wait for what counts before it': [
    ['storage/writer.ts', 'async #runSeries (series: QueuedSeries): Promise<void> {\n    await this.#local.settled()\n', 'async #runSeries (series: QueuedSeries): Promise<void> {\n'],
    ['storage/writer.ts', 'committed, resolve, reject }: QueuedJob): Promise<void> {\n    if (!this.#local.isIdle) await this.#local.settled()\n', 'committed, resolve, reject }: QueuedJob): Promise<void> {\n']
  ],
  'a unit that makes or ends a conflict counts before LevelDB has it': [
    ['storage/local-writer.ts', 'if (!batch.inner.isPlain || !batch.inner.hasNews || !this.#append(batch)) return false', 'if (!batch.inner.hasNews || !this.#append(batch)) return false']
  ],
  'a unit counts though the redo log does not have it': [
    ['storage/local-writer.ts', 'if (!batch.inner.isPlain || !batch.inner.hasNews || !this.#append(batch)) return false', 'if (!batch.inner.isPlain || !batch.inner.hasNews) return false\n    this.#append(batch)']
  ],
  'a delete does not see what is on its way to LevelDB': [
    ['storage/local-batch.ts', 'return this.memtable.latest(key) ?? this.#before?.latest(key)', 'return this.memtable.latest(key)']
  ],
  'sequences are given in another order than transactions came in': [
    ['storage/writer.ts', 'if (!this.#running && this.#local.takes(bytes))', 'if (this.#local.takes(bytes))']
  ],
  'a batch becomes visible in two parts': [
    ['storage/intake.ts', 'return new Promise((resolve, reject) => {\n      this.#units.push', `const [first, second] = unit.entries
    if (second !== undefined) {
      const early = unit.stream.clone()
      early.join(unit.before)
      early.join(unit.changes)
      this.#run(async (merger) => {
        await merger.merge([first!], early)
        return true
      }).catch(() => {})
    }
    return new Promise((resolve, reject) => {
      this.#units.push`]
  ],
  'a merge keeps a version that the other side has superseded': [
    ['core/siblings.ts', '!theirContext.covers(dot.log, dot.sequence))', "(dot.type === 'put' && theirs.length > 0) || !theirContext.covers(dot.log, dot.sequence))"]
  ],
  'a version takes the place of what its writer had not seen': [
    ['storage/merge.ts', 'this.#contextCoversAll = beyond?.length === 0', 'this.#contextCoversAll = beyond?.length === 0 || vector.size > 0']
  ],
  'what was written here lately is not looked up': [
    ['storage/merge.ts', 'return !recentKeys.mayHold(key, ownLog, context.sequenceOf(ownLog))', 'return true']
  ],
  'a delete leaves a put that has lost': [
    ['storage/local.ts', "if (type === 'del' && !holdsPut(siblings)) return false", "if (type === 'del' && siblings.at(-1)?.type !== 'put') return false"]
  ],
  'a stage that is half applied is given up': [
    ['storage/delivery.ts', 'if (this.#applying) return\n    try', 'if (this.#applying) this.#failed = true\n    try']
  ],
  'a delivery goes on without what has changed of what had come': [
    ['storage/resumed-source.ts', 'const chunk = await this.#sources[this.#index]!.next()', 'const chunk = this.#index < this.#sources.length - 1 ? undefined : await this.#sources[this.#index]!.next()']
  ],
  'a delivery goes on with a source that lacks what has come': [
    ['storage/resumed-source.ts', 'return vector.dominates(staged) && ', 'return ']
  ],
  'all that is staged counts as what came last': [
    ['storage/intake.ts', '.filter(({ upTo }) => Buffer.compare(upTo, last) > 0)]', '.filter(({ upTo }) => Buffer.compare(upTo, last) > 0).map(({ upTo }) => ({ upTo, vector }))]']
  ],
  'a link that has ended gives its turn away while it is still storing': [
    ['network/link.ts', 'this.#afterDeliveries(() => { this.#owner.releaseTurn(this) })\n    this.#owner.ended', 'this.#owner.releaseTurn(this)\n    this.#owner.ended']
  ],
  'a unit is applied although the one before it has failed': [
    ['storage/intake.ts', "if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit before this one could not be applied', { code: 'REPLICATION_DISCONNECTED' })", 'void [log, sequence]']
  ],
  'that the peer fell behind is not heard while its delivery is awaited': [
    ['sync/receiving.ts', "if (this.#state === 'asked' || this.#state === 'delivering') this.#wantsAgain = true", "if (this.#state === 'asked' || this.#state === 'delivering') this.#wantsAgain = false"]
  ],
  'in sync is who has asked, whatever the answer': [
    ['network/mesh.ts', 'if (session.answers < request.number) return false', 'if (session.answers < request.number) return true']
  ],
  'what had been in conflict before a new resolver came stays as it was': [
    ['storage/store.ts', 'await this.#foldAgain(key)', 'void key']
  ],
  'what a new resolver was to decide when a write failed stays as it was': [
    ['storage/store.ts', 'const work = [this.#loadSiblings()]', 'const work = [this.#state.siblingKeys.load(this.#state.engine)]']
  ],
  'a version record stays beside a value that came later': [
    ['storage/inner-batch.ts', 'if (!versionKeys.none && versionKeys.mayHold(this.keyText))', 'if (versionKeys.none && versionKeys.mayHold(this.keyText))']
  ],
  'a delete becomes visible, and nobody is told': [
    ['storage/merge.ts', 'this.#report?.changed.push(this.#derivation.version(this.#keyCopy(), merged[0]!, value))', 'if (value !== undefined) this.#report?.changed.push(this.#derivation.version(this.#keyCopy(), merged[0]!, value))']
  ],
  'what came with a write that failed, and is there all the same, is not told': [
    ['storage/committer.ts', 'this.tell(batch.committed(), false, committed)', 'this.tell(batch.committed(), false)']
  ],
  'of writes that are committed together one is answered': [
    ['storage/local-batch.ts', 'for (const { resolve } of waiting) resolve()', 'waiting[0]?.resolve()']
  ],
  'what others have written is not passed on as it comes': [
    ['sync/sending.ts', 'this.#peerDirects.has(log))', 'log !== this.#conversation.local.log)']
  ],
  'where a stream begins further back counts only for who has asked': [
    ['sync/receiving.ts', "if (places.length > 0) this.#rewind(places)\n    if (this.#state !== 'asked') return", "if (this.#state !== 'asked') return\n    if (places.length > 0) this.#rewind(places)"]
  ],
  'what a stream begins with is merged with what the hello says': [
    ['sync/receiving.ts', 'for (const place of places) this.#stream.rewind(place)', ''],
    ['sync/receiving.ts', 'this.#hasStreamed || !this.#conversation.local.vector.dominates(this.#stream)', 'this.#hasStreamed']
  ],
  'a checkpoint passes for written by a batch that does not hold it': [
    ['storage/journal.ts', 'this.#checkpoint = this.#written.number\n      if (this.#ready === this.#written) this.#ready = undefined\n    }', 'this.#checkpoint = this.#written.number\n    }\n    this.#ready = undefined']
  ]
}

export const faults: readonly PlantedFault[] = Object.entries(snippets).map(([name, patches]) => ({
  name,
  patches: patches.map(([file, find, replace]) => ({ file: `lib/${file}`, find, replace }))
}))
