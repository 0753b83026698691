/**
 * Every bound and every interval, in one place.
 *
 * Bounds on what a peer sends are checked before anything is allocated for it. Intervals are in milliseconds of
 * the injected clock.
 */
export const MiB = 1024 * 1024

/** Largest frame on the wire: a data fragment, or a whole control frame (a hello with two vectors of `logsMax` fits). */
export const frameBytesMax = 4 * MiB

/** Payload of one data frame when there is much to send: a chunk of a delivery, or a unit of a thousand writes, is mostly one, which nobody has to cut or put together. */
export const fragmentBytes = 320 * 1024

/** A fragment with more to follow carries at least so much, so that a message is not a million pieces. */
export const fragmentBytesMin = 16 * 1024

/** Entries up to so many bytes may be decoded at once; of more, and in all that is merged, other work has its turn between so many. */
export const entriesDecodedBytesMax = 64 * 1024
export const entriesAtOnce = 512

/** Of more entries the version records are read by LevelDB's threads, and not one after another on ours. */
export const fewEntriesMax = 32

/** Messages that may wait until what comes before them is there. */
export const waitingMessagesMax = 65_536

/** Small ones of them are copied together into memory of this size, so that none keeps more than it is. */
export const copiedTogetherBytes = 64 * 1024

/** Units that are handed on and not applied yet. */
export const unitsApplyingMax = 1024

/** Target size of one chunk of a catch-up or state transfer. */
export const chunkBytes = 256 * 1024

/** Operations that one log record holds: a longer transaction has several. */
export const logRecordOperationsMax = 4096

/** Bytes of log records that are read and taken apart at once, about; one record is always whole. */
export const logReadBytes = 64 * 1024

/** Keys that a catch-up by the log may hold in memory to sort them. */
export const logKeysBytesMax = 16 * MiB

/** Ends of our log at earlier opens that are remembered, as long as they have not been sent. */
export const endsMax = 1000

/** Logs of others whose history is looked up when a peer greets, at most. */
export const logsComparedMax = 256

/** A delivery that was cut short goes on; if what would have to be said of what has come is more, it begins again. */
export const deliveredPartsMax = 4
export const resumeKeyBytesMax = 64 * 1024
export const resumeAdvancesMax = 32_768

/** For how long a replica keeps, while it is open, what has come of a delivery that does not go on. */
export const stageKeptMs = 24 * 60 * 60 * 1000

/** Bytes of data a peer may send before it has to wait for credit, and those that this replica takes credit for. */
export const creditWindowBytes = 2 * MiB

/** Ceiling for the option `transactionBytesMax`, and so for anything that has to be held in memory at once. */
export const transactionBytesCeiling = 512 * MiB
export const transactionBytesDefault = 64 * MiB

/** What an operation takes in memory beside its key and value, at a replica that takes it in: it counts for that in a transaction. */
export const operationBytes = 256

/** What a unit may add to its values: keys, sibling sets, vectors. */
const unitOverheadFactor = 2

/** What stands in the redo log gets to LevelDB when it is so much (as counted with {@link operationBytes}), when somebody waits for that, or after `redoPace.keptMs`. */
export const groupBytes = 64 * 1024

/** Of transactions that wait so much is taken at once (counted likewise), before other work has its turn. */
export const takenAtOnceBytes = 256 * 1024

/** What of one inner batch the redo log takes: transactions that are longer count when LevelDB has them. */
export const redoAreaBytes = MiB

/** What peers send gets there, too, if no more than so many bytes are waiting: it counts sooner then. Of more, one write to LevelDB is as quick; and a longer unit is mostly merged without being decoded. */
export const recordedUnitsBytesMax = 4096

/**
 * A write to the redo log holds up the event loop. Those that take longer than `slowMs` may take `burstMs` in a row, and one
 * part of the time in `restFactor` parts: else there is none for as long as that needs, so that a disk which does not keep up
 * holds the loop for a tenth of the time at most. On a busy machine one takes so long now and then, as others have the
 * processor. Where one fails, there is none for `restMs`.
 */
export const redoPace = { keptMs: 5, slowMs: 20, burstMs: 250, restFactor: 10, restMs: 1000 } as const

/** One inner batch takes transactions and remote units until it holds so many bytes. */
export const innerBatchBytesMax = 4 * MiB

/** The largest data message that a replica with this `transactionBytesMax` takes: one that passes on what came to it puts several units into one. */
export function messageBytesMax (transactionBytesMax: number): number {
  return Math.max(transactionBytesMax, 4 * innerBatchBytesMax) * unitOverheadFactor
}

/** One batch of an apply phase: at most so many bytes, and at most one chunk. */
export const applyBatchBytes = MiB

/** What an apply phase reads of what is held, for the versions in it, before it goes on. */
export const heldBytesMax = 16 * MiB

/** The ring of recent units that live streams read from. */
export const feedBytesMax = 32 * MiB

/** What of it stays once it is read, for those who come back soon. */
export const backlogBytes = MiB / 4

/** What a unit in it takes beside its entries. */
export const feedUnitBytes = 256

/** Links are told of a change at once, unless the one before is less than `restMs` ago; of those that come so fast together. */
export const changesPace = { atOnceMax: 1, pauseMs: 1, restMs: 0.25 } as const

/** And of who has come: of a few at once, of many together. */
export const newcomersPace = { atOnceMax: 4, pauseMs: 1000, restMs: 1000 } as const

/** Unsent bytes that may wait for a peer that does not read: more than a greeting may say of all members, of which `memberEntriesMax` are 24 MB at most. */
export const outputBytesMax = 32 * MiB

/** How long a member may be unseen before it is not waited for any more. */
export const memberTtlDefaultMs = 30 * 24 * 60 * 60 * 1000

/** How often linked replicas tell each other of all members, also if there is no news; at most: more often if members are not waited for so long. */
export const memberRefreshMs = 60 * 60 * 1000

/** Log ids that a version vector may name; of these, how many may come from others; and from how many on there is a warning. */
export const logsMax = 16_384
export const logsOfOthersMax = logsMax - 1024
export const logsWarned = 10_000

/** Replicas of the group that are remembered, and entries of all their vectors. */
export const membersMax = 4096
export const memberEntriesMax = 1_048_576

/** Members that one acknowledgement names; the entries of all their vectors are at most `logsMax`. */
export const membersPerMessageMax = 1000

/** What an iterator reads at once, unless its options say otherwise: twice as much as in classic-level, since versions come with the values. */
export const iteratorBytes = 32 * 1024

/** Keys with siblings that are remembered in memory. */
export const siblingKeysMax = 65_536

/** A value of more bytes, or units of text, has a version record beside it, so that its version can be looked at without the value. */
export const stampedValueMax = 1024

/** Keys with a version record that are remembered in memory, and what is remembered of each. */
export const versionKeysMax = 65_536
export const versionKeyBytesMax = 256

/** Of a longer key so many bytes at its end make its hash. */
export const hashedBytesMax = 256

/** What is known of the keys that were written here lately: places, a power of two; and bytes of units that wait to be looked at. */
export const recentKeySlots = 65_536
export const recentUnitsBytesMax = MiB

export const keyBytesMax = 64 * MiB
export const groupBytesMax = 255
export const messageTextBytesMax = 1024

/** How often the time that a replica has been open is saved. */
export const runningTimeSaveMs = 600_000

/** Operations that have to be written before a sweep of the log is worth its while. */
export const sweepOperationsMin = 1000

/** The share of garbage in a sample of the log that makes one due, how many operations are sampled, and of which keys. */
export const sweepGarbageMin = 1 / 3
export const sampledOperationsMax = 256
export const sampledKeyBytesMax = 1024

/** How long after a write, or an acknowledgement, what it made superfluous is looked for. */
export const housekeepingDelayMs = 2000

/** And how long after a failure it is tried again. */
export const housekeepingPauseMs = 60_000

/** For how long a delete in conflict with a value waits for a write to the key, before what the key reads as is written. */
export const conflictKeptMs = 24 * 60 * 60 * 1000

/** Tombstones are collected at most so often: each time LevelDB has to write its memory out. */
export const collectionIntervalMs = 5000

/** Tombstones that are collected, or looked for, in one turn of the writer. */
export const tombstonesAtOnce = 500

/** Tombstones that go with the unit or delivery that says so; more go before it, or behind its apply phase. */
export const tombstonesPerUnitMax = 10_000

/** Running numbers kept of inner batches, to find holes; a checkpoint of the vector after every so many. */
export const journalSlots = 65_536
export const checkpointInterval = 32_768

/** Journal records that have to be there before removing them is worth its while, and how many go in one turn of the writer. */
export const journalTrimMin = 1000
export const journalTrimmedAtOnce = 500

/** Links that are greeted: in all, and with one host. */
export const linksMax = 256
export const linksPerHostMax = 128

/** Connections that came in and are not greeted yet: in all, and from one host. */
export const strangersMax = 128
export const strangersPerHostMax = 32

export const handshakeTimeoutMs = 5000
export const dialTimeoutMs = 5000

/** A greeting may take longer, as its bytes would over a link of this speed: with vectors of many logs they are many. */
export const helloBytesPerMsMin = 1

/** For so long the addresses of a name are taken from the last answer, and so long it is known which was tried first. */
export const nameFreshMs = 10_000
export const nameKeptMs = 300_000
export const heartbeatIntervalMs = 2000
export const heartbeatTimeoutMs = 7000

/** How long what others promised to bring may be missing before it is asked for. */
export const lateMs = 3000

/** A peer that takes nothing of what waits for it, for so long, is left. */
export const outputStallMs = 30_000

/** A source closes its snapshot when nothing of what waits could be sent for so long, for lack of credit. */
export const transferStallMs = 60_000

/** How long peers have to bring what this replica has lost, before it writes again what it still has. */
export const repairMs = 10_000

/** So much has to come of what was asked for to count as progress; a delivery that has come to its end needs none. */
export const progressBytesMin = chunkBytes

/** A peer that is asked and does not begin lets others have their turn after so long. */
export const turnMs = 10_000

/** A delivery that makes no progress for so long ends its link; a source may have to pass over much garbage. */
export const deliveryStallMs = 300_000

/** Delay between a change and the synced write that makes it durable and lets it be acknowledged. */
export const acknowledgeDelayMs = 1000

export const backOffMinMs = 100
export const backOffMaxMs = 3000

/** The longest time that a timer of Node.js takes; a longer one it takes for a millisecond. */
export const timerMaxMs = 2 ** 31 - 1

/** How often a `peers` function is asked again. */
export const peersIntervalMs = 10_000

/** One that has not answered for so long is asked again all the same: what it asks may be gone for ever. */
export const peersTimeoutMs = 60_000

/** How often the interfaces of this machine are looked at. */
export const discoveryPollMs = 2000

/** How often an instance makes sure that it is heard; two times unheard, and it is replaced. */
export const discoveryCheckMs = 6000

/** How often Bonjour asks who is there: soon at first, then less and less. */
export const discoveryAskMinMs = 5000
export const discoveryAskMaxMs = 60_000

/** Addresses that were only heard of, and how often each is tried before it is forgotten. */
export const suggestionsMax = 64
export const suggestionAttemptsMax = 5

/** Found addresses at which a replica was met: tried without end, after so many failures in a row more slowly. */
export const metMax = 256
export const metAttemptsMax = 200
export const metRetryMs = 60_000

/** How long an address that was our own is left alone, at most. */
export const selfRetryMs = 60_000

/** Whoever has so many links looks for no more by itself. */
export const linksWantedMax = 64

/** Addresses in one `peers` message, and how often one linked replica, taken by chance, is told of the others. */
export const peersPerMessageMax = 64
export const exchangeIntervalMs = 20_000
export const hostBytesMax = 255

/** A peer whose clock is so far ahead, or behind, is named in a warning. */
export const clockAheadMs = 60 * 60 * 1000
