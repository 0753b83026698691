/**
 * From stored versions to what people see: decoded, and folded by the resolver.
 */
import { fold, type Outcome } from '../core/resolve.ts'
import { formatLogId } from '../core/ids.ts'
import { toMs } from '../core/hlc.ts'
import type { Sibling, SiblingSet } from '../core/siblings.ts'
import { ReplicationError } from '../errors.ts'
import type { ErrorListener, Resolver, Version } from '../types.ts'

/** The database's encodings, from and to bytes. What they cannot decode stays bytes. */
export interface Encodings {
  decodeKey (bytes: Uint8Array): unknown
  decodeValue (bytes: Uint8Array): unknown
  encodeValue (value: unknown): Uint8Array
}

/** Values of a sibling set, parallel to it; undefined for deletes. */
export type SiblingValues = ReadonlyArray<Uint8Array | undefined>

export class Derivation {
  readonly #encodings: Encodings
  readonly #resolver: Resolver
  readonly #onError: ErrorListener

  constructor (options: { encodings: Encodings, resolver: Resolver, onError: ErrorListener }) {
    this.#encodings = options.encodings
    this.#resolver = options.resolver
    this.#onError = options.onError
  }

  /** All of it plain properties, so that copies, JSON and a look at it by the console are whole. */
  version (keyBytes: Uint8Array, { type, hlc, log }: Sibling, valueBytes: Uint8Array | undefined): Version {
    const key = this.#encodings.decodeKey(keyBytes)
    const value = valueBytes === undefined ? undefined : this.#encodings.decodeValue(valueBytes)
    return { key, value, type, timestamp: toMs(hlc), origin: formatLogId(log), keyBytes, valueBytes } as Version
  }

  #versions (key: Uint8Array, siblings: SiblingSet, values: SiblingValues): Version[] {
    return siblings.map((sibling, index) => this.version(key, sibling, values[index]))
  }

  /** All versions of a key: the one that is visible first, then the later before the earlier. */
  visibleFirst (key: Uint8Array, siblings: SiblingSet, values: SiblingValues): Version[] {
    const versions = this.#versions(key, siblings, values)
    if (versions.length < 2) return versions
    const outcome = this.outcome(key, siblings, values)
    const visible = outcome.type === 'put'
      ? versions.findLast(({ type, valueBytes }) => type === 'put' && Buffer.compare(valueBytes!, outcome.version.valueBytes!) === 0)
      : versions.findLast(({ type }) => type === 'del')
    return visible === undefined ? versions.reverse() : [visible, ...versions.reverse().filter((version) => version !== visible)]
  }

  /**
   * What a key with these versions reads as; the version that is visible, if one of them is. The resolver gets bytes of its
   * own: one that merges into what it is given would change what is stored and sent.
   */
  outcome (keyBytes: Uint8Array, siblings: SiblingSet, values: SiblingValues): Outcome {
    const key = Buffer.from(keyBytes)
    const versions = this.#versions(key, siblings, values.map((value) => value && Buffer.from(value)))
    return fold(versions, this.#resolver, (challenger, resolution) => this.#merged(key, siblings[versions.indexOf(challenger)]!, resolution), (cause) => {
      this.#onError(new ReplicationError('The resolver failed; the later version was taken', { code: 'REPLICATION_RESOLVER', cause }))
    })
  }

  #merged (key: Uint8Array, sibling: Sibling, resolution: { value: unknown } | { type: 'del' }): Version {
    if (!('value' in resolution)) return this.version(key, { ...sibling, type: 'del' }, undefined)
    return this.version(key, { ...sibling, type: 'put' }, this.#encodings.encodeValue(resolution.value))
  }
}
