/**
 * Ranges of user keys, as ranges of the keyspaces that hold them.
 */
import type { Engine } from './engine.ts'
import { dataEnd, dataKey, dataPrefix, inKeyspace, keyspace, wholeKeyspace } from './keyspaces.ts'

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
}

const wholeDataText = { gte: dataPrefix, lt: dataEnd }
const wholeData = wholeKeyspace(keyspace.data)
const wholeVersions = wholeKeyspace(keyspace.version)

/** The same range in the data keyspace, with the bounds that it lacks. */
export function inData<T extends RangeOptions> ({ gt, gte, lt, lte, ...rest }: T): T {
  const whole = rest.keyEncoding === 'utf8' ? wholeDataText : wholeData
  return { ...rest, ...boundsIn({ gt, gte, lt, lte }, dataKey, whole) } as unknown as T
}

/** The same, as bytes of its own: keys that are no text must not become text on the way, nor change with the caller's. */
export function inDataBytes ({ gt, gte, lt, lte, ...rest }: RangeOptions): RangeOptions {
  const copied = (key: Bound): Buffer => Buffer.from(dataKey(key) as string)
  return { ...rest, ...boundsIn({ gt, gte, lt, lte }, copied, wholeData), keyEncoding: 'buffer' }
}

/** The bounds of a range in the version keyspace. */
export function inVersions (range: RangeOptions): Bounds {
  return boundsIn(range, (key) => inKeyspace(keyspace.version, Buffer.from(key as string)), wholeVersions)
}

function boundsIn ({ gt, gte, lt, lte }: Readonly<Bounds>, place: (key: Bound) => Bound, whole: { gte: Bound, lt: Bound }): Bounds {
  const bounds: Bounds = {}
  if (gte !== undefined) bounds.gte = place(gte)
  else if (gt !== undefined) bounds.gt = place(gt)
  else bounds.gte = whole.gte
  if (lte !== undefined) bounds.lte = place(lte)
  else if (lt !== undefined) bounds.lt = place(lt)
  else bounds.lt = whole.lt
  return bounds
}
