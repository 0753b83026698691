/**
 * The keys that have a version record, so that whoever writes a value with its stamp need not remove one from any other.
 *
 * Those that have had one since it was loaded may be among them, and of more than `versionKeysMax` every key may be
 * one: then what may not be there is removed. Of a long key only the beginning is remembered. A key is added when a
 * batch is filled that writes its record, whatever becomes of the batch: the one that is filled next must not take it
 * for one without.
 */
import { versionKeyBytesMax, versionKeysMax } from '../limits.ts'
import type { Engine } from './engine.ts'
import { keyspace, wholeKeyspace } from './keyspaces.ts'

export class VersionKeys {
  /** Keys as binary strings, or the beginnings of long ones; undefined if every key may be one. */
  #keys: Set<string> | undefined
  /** What is being loaded. */
  #loading: Set<string> | undefined
  /** Records that are gone since it was loaded. */
  #removed = 0
  readonly #max: number

  constructor (max: number = versionKeysMax) {
    this.#max = max
  }

  /** Whether no key has a version record. */
  get none (): boolean {
    return this.#keys?.size === 0
  }

  mayHold (key: string): boolean {
    return mayBeAmong(this.#keys, key)
  }

  /** The same for a reader at a snapshot that is taken now, in the writer's turn: it holds whatever is loaded meanwhile. */
  atSnapshot (): (key: string) => boolean {
    const keys = this.#keys
    return (key) => mayBeAmong(keys, key)
  }

  add (key: string): void {
    const remembered = key.length > versionKeyBytesMax ? beginningOf(key) : key
    this.#loading?.add(remembered)
    if (this.#keys?.add(remembered).size === this.#max) this.#keys = undefined
  }

  /** So many version records are gone, or hold less. */
  removed (count: number): void {
    this.#removed += count
  }

  /** Whether so many are gone that it is worth to be loaded again. */
  get isOutdated (): boolean {
    return this.#removed * 2 > (this.#keys?.size ?? this.#max)
  }

  /** Reads the version keyspace. If that fails, what is remembered still holds. */
  async load (engine: Engine, writer: { run (job: () => boolean): Promise<void> }): Promise<void> {
    const loading = this.#loading = new Set<string>()
    let removedBefore = 0
    let keys: AsyncIterable<Buffer> | undefined
    try {
      // In the writer's turn, when nothing is in flight, and nothing has been filled.
      await writer.run(() => {
        removedBefore = this.#removed
        keys = engine.keys<Buffer>({ ...wholeKeyspace(keyspace.version), limit: this.#max, keyEncoding: 'buffer', fillCache: false } as object)
        return false
      })
      let count = 0
      for await (const key of keys!) {
        loading.add(key.latin1Slice(1, Math.min(key.length, 1 + versionKeyBytesMax)))
        count++
      }
      if (this.#loading !== loading) return
      this.#keys = Math.max(count, loading.size) < this.#max ? loading : undefined
      this.#removed -= removedBefore
    } finally {
      if (this.#loading === loading) this.#loading = undefined
    }
  }
}

function mayBeAmong (keys: ReadonlySet<string> | undefined, key: string): boolean {
  return keys === undefined || keys.has(key.slice(0, versionKeyBytesMax))
}

/** A string of its own: a part of one would hold the whole. */
function beginningOf (key: string): string {
  return Buffer.from(key.slice(0, versionKeyBytesMax), 'latin1').latin1Slice()
}
