/**
 * The events that tell what has become visible, held against what a batch has changed.
 */
import type { LogId } from '../../lib/core/ids.ts'
import { holdsPut, indexOfDot } from '../../lib/core/siblings.ts'
import { keyspace } from '../../lib/storage/keyspaces.ts'
import type { MergeReport } from '../../lib/storage/merge.ts'
import type { RawOperation, Tree } from './disk.ts'
import { dataOf, setOf } from './witness.ts'
import type { World } from './world.ts'

export interface ObservedBatch {
  readonly operations: readonly RawOperation[]
  readonly before: Tree
  readonly after: Tree
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

/** Keys that read as something else since what others wrote came: of each of them somebody has to be told. */
export function changedByOthers ({ operations, before, after }: ObservedBatch, ownLog: LogId | undefined): string[] {
  return touchedKeys(operations).filter((key) => {
    const had = setOf(before, key)
    const set = setOf(after, key)
    const added = set.filter((sibling) => indexOfDot(had, sibling) === -1)
    return dataOf(before, key) !== dataOf(after, key) && added.every(({ log }) => log !== ownLog) && (added.length > 0 || set.length < had.length)
  })
}

function touchedKeys (operations: readonly RawOperation[]): string[] {
  return [...new Set(operations.filter(({ key }) => key[0] === keyspace.version || key[0] === keyspace.data).map(({ key }) => key.toString('latin1', 1)))]
}

/** Events tell precisely what a batch has made visible, and which keys have got versions in conflict. */
export function checkReport (world: World, name: string, { changed, conflicts }: MergeReport, { operations, before, after }: ObservedBatch): void {
  const told = new Map(changed.map(({ keyBytes, type, valueBytes }) => [text(keyBytes), type === 'put' ? text(valueBytes!) : undefined]))
  const toldConflicts = new Map(conflicts.map(({ key, siblings }) => [text(key), siblings]))
  const touched = new Set(touchedKeys(operations))
  for (const key of touched) {
    const was = dataOf(before, key)
    const is = dataOf(after, key)
    if (was !== is && !told.has(key)) world.fail('event', `${name} does not tell that ${key} reads ${is}, and read ${was}`)
    if (told.has(key) && told.get(key) !== is) world.fail('event', `${name} tells that ${key} reads ${told.get(key)}, and it reads ${is}`)
    const had = setOf(before, key)
    const set = setOf(after, key)
    if (set.length < 2 || !holdsPut(set) || set.every((sibling) => indexOfDot(had, sibling) !== -1)) continue
    if (toldConflicts.get(key)?.length !== set.length) world.fail('event', `${name} does not tell of all versions in conflict of ${key}`)
  }
  for (const key of told.keys()) if (!touched.has(key)) world.fail('event', `${name} tells of ${key}, which has not changed`)
  world.count('events of changes', told.size)
}
