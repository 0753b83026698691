/**
 * What the user reads, derived from the siblings of a key.
 *
 * If every sibling is a delete the key is absent and nobody is asked. Otherwise the siblings are folded from the
 * oldest, in the one order that all replicas share, so that any pure resolver converges: one that is not symmetric,
 * not transitive, one that ties. Nothing is written back. A resolver that throws, or answers nonsense, falls back
 * to the default (the later one wins) for that pair, and is reported.
 */
import type { Resolver, Version } from '../types.ts'

export type Outcome =
  | { type: 'put', version: Version }
  | { type: 'del' }

/** The default: the later version wins. */
export const lastWriterWins: Resolver = () => true

/**
 * Folds versions, sorted by time, log and sequence.
 *
 * @param merged makes the version that a resolver's `{ value }` stands for; throws if the value cannot be encoded.
 * @param onError is told of a resolver that throws or answers nonsense.
 */
export function fold (
  versions: readonly Version[],
  resolver: Resolver,
  merged: (challenger: Version, resolution: { value: unknown } | { type: 'del' }) => Version,
  onError: (error: unknown) => void
): Outcome {
  if (!versions.some((version) => version.type === 'put')) return { type: 'del' }
  let accepted = versions[0]!
  for (let index = 1; index < versions.length; index++) {
    const challenger = versions[index]!
    try {
      accepted = accept(resolver(accepted, challenger), accepted, challenger, merged)
    } catch (error) {
      onError(error)
      accepted = challenger
    }
  }
  return accepted.type === 'put' ? { type: 'put', version: accepted } : { type: 'del' }
}

function accept (
  resolution: unknown,
  accepted: Version,
  challenger: Version,
  merged: (challenger: Version, resolution: { value: unknown } | { type: 'del' }) => Version
): Version {
  if (resolution === true) return challenger
  if (resolution === false) return accepted
  if (resolution instanceof Promise) resolution.catch(() => {}) // it is no answer, nor is what becomes of it
  if (typeof resolution === 'object' && resolution !== null) {
    if ('type' in resolution && resolution.type === 'del') return merged(challenger, { type: 'del' })
    if ('value' in resolution && resolution.value !== undefined && resolution.value !== null) return merged(challenger, { value: resolution.value })
  }
  throw new TypeError(`A resolver has to return true, false, { value } or { type: 'del' }, received ${describe(resolution)}`)
}

function describe (value: unknown): string {
  if (value instanceof Promise) return 'a promise'
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
