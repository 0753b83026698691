/**
 * What is left of many samples.
 */
export interface Summary {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function summarise (samples: readonly number[]): Summary {
  if (samples.length === 0 || samples.some((sample) => !Number.isFinite(sample))) throw new RangeError(`No median of [${samples.join(', ')}]`)
  return { median: percentile(samples, 0.5), min: Math.min(...samples), max: Math.max(...samples) }
}

/** The value below which a part of the samples lies, 0 to 1; between two samples it is interpolated. */
export function percentile (samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const place = (sorted.length - 1) * part
  const below = sorted[Math.floor(place)]!
  const above = sorted[Math.ceil(place)]!
  return below + (above - below) * (place - Math.floor(place))
}
