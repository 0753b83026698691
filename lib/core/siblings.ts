/**
 * The concurrent versions of one key, and the merge of two replicas' views of them.
 *
 * A version is named by its *dot*, (log, sequence). A replica holds, for each key, the set of dots that no other
 * write it knows of has superseded; its version vector is the causal context of all of these sets. When a
 * sender's set arrives together with the sender's context **of the same moment**, a dot survives if both have it, or
 * if one has it and the other has not seen it yet:
 *
 *     keep = (theirs and ours) or { d in ours : not seen by them } or { d in theirs : not seen by us }
 *
 * The merge commutes, associates and is idempotent; two or more dots remain if and only if the writes were
 * concurrent. It must only be fed whole sets: half a set looks like a set whose other half was overwritten.
 *
 * Sources: Preguiça, Baquero et al., "Dotted Version Vectors", arXiv 1011.5808, 2010; Gonçalves et al., DottedDB,
 * SRDS 2017.
 */
import type { Hlc } from './hlc.ts'
import type { LogId } from './ids.ts'
import type { Context } from './version-vector.ts'

export interface Sibling {
  readonly log: LogId
  readonly sequence: number
  readonly hlc: Hlc
  readonly type: 'put' | 'del'
}

/** Sorted by {@link compareSiblings}, without duplicates. */
export type SiblingSet = readonly Sibling[]

export const noSiblings: SiblingSet = Object.freeze([])

/** The total order in which siblings are folded: by time, then log id, then sequence. */
export function compareSiblings (a: Sibling, b: Sibling): number {
  if (a.hlc !== b.hlc) return a.hlc - b.hlc
  if (a.log !== b.log) return a.log < b.log ? -1 : 1
  return a.sequence - b.sequence
}

/** Larger sets are not gone through for each dot: two of thousands would take a second to merge. */
const scannedMax = 32
const indexes = new WeakMap<SiblingSet, ReadonlyMap<string, number>>()

function indexOf (siblings: SiblingSet): ReadonlyMap<string, number> {
  let index = indexes.get(siblings)
  if (index === undefined) indexes.set(siblings, index = new Map(siblings.map(({ log, sequence }, place) => [log + sequence, place])))
  return index
}

/** Where `dot` stands in a set, or -1. */
export function indexOfDot (siblings: SiblingSet, dot: { log: LogId, sequence: number }): number {
  if (siblings.length > scannedMax) return indexOf(siblings).get(dot.log + dot.sequence) ?? -1
  for (let index = 0; index < siblings.length; index++) {
    const sibling = siblings[index]!
    if (sibling.sequence === dot.sequence && sibling.log === dot.log) return index
  }
  return -1
}

/**
 * Merges a sender's whole sibling set into ours. Returns `ours` itself if nothing changed.
 */
export function mergeSiblings (ours: SiblingSet, ourContext: Context, theirs: SiblingSet, theirContext: Context): SiblingSet {
  // Most keys hold nothing of account, and most that come have one version.
  if (ours.length === 0 && theirs.length === 1) return ourContext.covers(theirs[0]!.log, theirs[0]!.sequence) ? ours : theirs
  const kept = ours.filter((dot) => indexOfDot(theirs, dot) !== -1 || !theirContext.covers(dot.log, dot.sequence))
  const added = theirs.filter((dot) => indexOfDot(ours, dot) === -1 && !ourContext.covers(dot.log, dot.sequence))
  if (added.length === 0) return kept.length === ours.length ? ours : kept
  if (kept.length === 0) return added
  return [...kept, ...added].sort(compareSiblings)
}

/** Whether the set holds a value, and not only deletes. */
export function holdsPut (siblings: SiblingSet): boolean {
  return siblings.some((sibling) => sibling.type === 'put')
}
