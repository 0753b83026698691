/** Limits small enough to matter in a run of a hundred writes. Only possible where `patch.mjs` has loaded lib. */
import * as limits from '../../lib/limits.ts'
import type { Dice } from './dice.ts'

export type Limits = Partial<Record<keyof typeof limits, number>>

export function setLimits (values: Limits): void {
  const { setLimits: set } = limits as unknown as { setLimits?: (values: Limits) => void }
  if (Object.keys(values).length === 0 && set === undefined) return
  if (set === undefined) throw new Error('lib was not loaded by test/simulation/patch.mjs: its limits cannot be set')
  set(values)
}

export function chooseLimits (dice: Dice): Limits {
  const size = dice.pick(['tiny', 'small', 'real'])
  const journal = dice.chance(0.5) ? { checkpointInterval: 4, journalSlots: 16, journalTrimMin: dice.between(6, 12), journalTrimmedAtOnce: 4 } : {}
  const aging = { stageKeptMs: 10_000, runningTimeSaveMs: 5000, conflictKeptMs: 5000 } // what is there for a while only has to be gone at rest
  if (size === 'real') return { ...journal, ...aging }
  const [least, most] = size === 'tiny' ? [60, 400] : [400, 4000]
  return {
    ...journal,
    ...aging,
    chunkBytes: dice.between(least, most),
    fragmentBytes: dice.between(least, most),
    fragmentBytesMin: 1,
    innerBatchBytesMax: dice.between(least, most * 2),
    applyBatchBytes: dice.between(least, most),
    creditWindowBytes: dice.between(most * 2, most * 8),
    feedBytesMax: dice.between(least, most * 10),
    outputBytesMax: dice.between(most * 50, most * 100),
    siblingKeysMax: dice.between(0, 3),
    versionKeysMax: dice.between(1, 4),
    stampedValueMax: dice.between(2, 6),
    logRecordOperationsMax: dice.between(1, 4),
    entriesAtOnce: dice.between(1, 4),
    ...unitLimits(dice.between(20, most)),
    sweepOperationsMin: dice.between(3, 40),
    sampledOperationsMax: 16,
    housekeepingDelayMs: dice.between(100, 2000),
    collectionIntervalMs: 500,
    housekeepingPauseMs: dice.between(500, 5000),
    transferStallMs: dice.between(1000, 10_000),
    backlogBytes: dice.between(0, most * 4)
  }
}

/** From when on a unit is long, and from when on it is no short one. */
function unitLimits (entriesDecodedBytesMax: number): Limits {
  return { entriesDecodedBytesMax, recordedUnitsBytesMax: Math.floor(entriesDecodedBytesMax / 4) }
}
