/**
 * Ranges of user keys, as ranges of the keyspaces that hold them.
 */
import type { Engine } from './engine.ts'
import { dataEnd, dataKey, dataPrefix, inKeyspace, keyspace, wholeKeyspace } from './keyspaces.ts'
import { keyText } from './memtable.ts'

type Bound = string | Uint8Array

interface Bounds {
  gt?: Bound | undefined
  gte?: Bound | undefined
  lt?: Bound | undefined
  lte?: Bound | undefined
}

/** Range options as abstract-level hands them to `_iterator` and `_clear`; keys in the encoding that they name. */
export interface RangeOptions extends Readonly<Bounds> {
  readonly limit?: number
  readonly reverse?: boolean
  readonly keyEncoding?: string
  readonly snapshot?: ReturnType<Engine['snapshot']>
  readonly highWaterMarkBytes?: number
}

const wholeDataText = { gte: dataPrefix, lt: dataEnd }
const wholeData = wholeKeyspace(keyspace.data)
const wholeVersions = wholeKeyspace(keyspace.version)

/** The same range in the data keyspace, with the bounds that it lacks. */
export function inData<T extends RangeOptions> (range: T): T {
  const { gt, gte, lt, lte, ...rest } = range
  const whole = rest.keyEncoding === 'utf8' ? wholeDataText : wholeData
  return { ...rest, ...boundsIn(range, dataKey, whole) } as unknown as T
}

/** The same, as bytes of its own: keys that are no text must not become text on the way, nor change with the caller's. */
export function inDataBytes (range: RangeOptions): RangeOptions {
  const { gt, gte, lt, lte, ...rest } = range
  const copied = (key: Bound): Buffer => Buffer.from(dataKey(key) as string)
  return { ...rest, ...boundsIn(range, copied, wholeData), keyEncoding: 'buffer' }
}

/** The bounds of a range in the version keyspace. */
export function inVersions (range: RangeOptions): Bounds {
  return boundsIn(range, (key) => inKeyspace(keyspace.version, Buffer.from(key as string)), wholeVersions)
}

/**
 * A bound that is there and for which the encoding has no text is empty, as in classic-level: nothing is below it, so that
 * `clear({ lt: undefined })` does not take all there is.
 */
function boundsIn (range: Readonly<Bounds>, place: (key: Bound) => Bound, whole: { gte: Bound, lt: Bound }): Bounds {
  const bounds: Bounds = {}
  if ('gte' in range) bounds.gte = place(range.gte!)
  else if ('gt' in range) bounds.gt = place(range.gt!)
  else bounds.gte = whole.gte
  if ('lte' in range) bounds.lte = place(range.lte!)
  else if ('lt' in range) bounds.lt = place(range.lt!)
  else bounds.lt = whole.lt
  return bounds
}

/** Whether a key, as a binary string, is in a range. */
export function within (range: RangeOptions): (key: string) => boolean {
  const text = (bound: Bound | undefined): string => keyText(bound!)
  const from = 'gte' in range ? text(range.gte) : 'gt' in range ? text(range.gt) : ''
  const to = 'lte' in range ? text(range.lte) : 'lt' in range ? text(range.lt) : undefined
  const isAbove = !('gte' in range) && 'gt' in range ? (key: string) => key > from : (key: string) => key >= from
  if (to === undefined) return isAbove
  return 'lte' in range ? (key) => isAbove(key) && key <= to : (key) => isAbove(key) && key < to
}
