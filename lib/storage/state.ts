/**
 * What of a replica is in memory while its database is open: who it is, what it knows, where its log ends.
 *
 * Only the writer changes it, and only after what says the same stands in LevelDB or in the redo log; the sole exceptions
 * are the log's end and the clock, which run ahead so that nothing is ever numbered twice, and who it is: a new log is
 * written in from then on, and a batch that says so is committed before any other, or with it. The journal is
 * of LevelDB's batches alone: it follows when that has one.
 */
import type { Hlc } from '../core/hlc.ts'
import type { DotSet } from '../core/dot-set.ts'
import { logIdBytes, newLogId, replicaIdBytes, replicaIdFrom, type LogId, type ReplicaId } from '../core/ids.ts'
import type { Advance, VersionVector } from '../core/version-vector.ts'
import type { Engine } from './engine.ts'
import type { Journal } from './journal.ts'
import { meta } from './keyspaces.ts'
import type { LogTally } from './log-tally.ts'
import { RecentKeys } from './recent-keys.ts'
import { SiblingKeys } from './sibling-keys.ts'
import { VersionKeys } from './version-keys.ts'

/** What is added to a batch that says who this replica is. */
export interface SavingBatch {
  putRaw (key: Buffer, value: Uint8Array): void
  advance (entry: Advance): void
  collect (entry: Advance): void
}

type Loaded = Pick<ReplicaState, 'engine' | 'replica' | 'ownLog' | 'hlc' | 'vector' | 'collected' | 'journal' | 'survivors' | 'leaving' | 'tally'>

export class ReplicaState {
  readonly engine: Engine
  replica: ReplicaId
  /** The log that this replica writes now. */
  ownLog: LogId
  /** The last sequence given out in it; ahead of the vector while a batch is in flight. */
  ownSequence: number
  /** The last timestamp given out in our log, or seen and followed. */
  hlc: Hlc
  readonly vector: VersionVector
  /** Tombstones up to here have been forgotten. */
  readonly collected: VersionVector
  readonly journal: Journal
  /** While LevelDB's loss of some batches is being made up for: writes that are here, and above the vector. */
  readonly survivors: DotSet
  /** While what is ours alone is taken out of a log that is in other hands: up to where it is not. */
  leaving: Advance | undefined
  /** Adds what is not on disk yet of who this replica is to a batch. */
  unsaved: ((batch: SavingBatch) => void) | undefined
  readonly siblingKeys = new SiblingKeys()
  readonly versionKeys = new VersionKeys()
  readonly recentKeys = new RecentKeys()
  readonly tally: LogTally
  readonly #randomBytes: (size: number) => Uint8Array

  constructor ({ engine, replica, ownLog, hlc, vector, collected, journal, survivors, leaving, tally }: Loaded, randomBytes: (size: number) => Uint8Array) {
    this.engine = engine
    this.replica = replica
    this.ownLog = ownLog
    this.ownSequence = vector.sequenceOf(ownLog)
    this.hlc = hlc
    this.vector = vector
    this.collected = collected
    this.journal = journal
    this.survivors = survivors
    this.leaving = leaving
    this.tally = tally
    this.#randomBytes = randomBytes
  }

  /**
   * Begins a new log: others know more of the old one than is here, since this directory was restored or has lost its
   * last writes; or our clock has once stood so far ahead that nothing can follow in the old one.
   */
  replaceLog (): void {
    this.ownLog = newLogId(this.#randomBytes(logIdBytes))
    this.ownSequence = 0
    this.saveWithNext((batch) => { batch.putRaw(meta.ownLog, Buffer.from(this.ownLog, 'latin1')) })
  }

  /** Goes on as another replica, in a new log. */
  replaceReplica (): void {
    this.replica = replicaIdFrom(this.#randomBytes(replicaIdBytes))
    this.saveWithNext((batch) => { batch.putRaw(meta.replica, Buffer.from(this.replica, 'hex')) })
    this.replaceLog()
  }

  /** This, too, is to go with the next batch. */
  saveWithNext (save: (batch: SavingBatch) => void): void {
    const before = this.unsaved
    this.unsaved = (batch) => {
      before?.(batch)
      save(batch)
    }
  }
}
