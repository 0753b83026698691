/**
 * A delivery that goes on where one of another moment, perhaps of another source, was cut short.
 *
 * What the receiver has staged up to a key is the state at `V1`, part by part. Of each part come the keys that hold a
 * version above its `V1`, to replace what is staged; then, from behind the last part, what any delivery would bring.
 * What does not come is as it was: it can only have been superseded by a version that is above `V1`, or by one that is
 * superseded in its turn, or collected; so this source has to know all `V1`, and they what it has collected.
 */
import type { DeliveryKind, ResumePoint } from '../codec/message.ts'
import { VersionVector, type ReadonlyVersionVector } from '../core/version-vector.ts'
import { LogSource } from './log-source.ts'
import { ScanSource } from './scan-source.ts'
import type { Chunk, Source, SourceOptions } from './source.ts'

/** Whether a delivery may go on with a source of this vector, which has collected this. */
export function mayResume ({ parts }: ResumePoint, vector: ReadonlyVersionVector, collected: ReadonlyVersionVector): boolean {
  return parts.every((part) => {
    const staged = new VersionVector(part.vector)
    return vector.dominates(staged) && staged.dominates(collected)
  })
}

export class ResumedSource implements Source {
  readonly kind: DeliveryKind
  readonly resumes = true
  readonly vector
  readonly collected
  readonly entries: number
  readonly feedNumber: number
  readonly #sources: Source[]
  #index = 0

  /** @param scans whether a scan is the better way to find what comes behind the last part. */
  constructor ({ kind, parts }: ResumePoint, options: SourceOptions, scans: boolean) {
    this.kind = kind
    this.vector = options.vector
    this.collected = options.collected
    this.entries = options.entries
    this.feedNumber = options.feedNumber
    this.#sources = parts.map(({ upTo, vector }, index) => new LogSource({ ...options, since: new VersionVector(vector), after: parts[index - 1]?.upTo, upTo }))
    const rest = { ...options, after: parts.at(-1)!.upTo }
    this.#sources.push(kind === 'transfer' || scans ? new ScanSource(kind, rest) : new LogSource(rest))
  }

  async next (): Promise<Chunk | undefined> {
    for (; this.#index < this.#sources.length; this.#index++) {
      const chunk = await this.#sources[this.#index]!.next()
      if (chunk !== undefined) return chunk
    }
    return undefined
  }

  async close (): Promise<void> {
    for (const source of this.#sources) await source.close()
  }
}
