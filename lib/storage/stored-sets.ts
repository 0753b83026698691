/**
 * The sibling sets of keys as they are stored: a version record, or a stamp behind the value.
 *
 * A set is always handed over as its version record, which is made where there is none. Where there is one it counts. A value
 * is read only if there is none, and then is not long.
 */
import { stampOffset } from '../codec/entry-scan.ts'
import { decodeSiblings } from '../codec/sibling-set.ts'
import { stampStart } from '../codec/stamp.ts'
import type { SiblingSet } from '../core/siblings.ts'
import { isStamped } from './data-record.ts'
import { buffers, type Engine } from './engine.ts'
import { inKeyspace, keyspace } from './keyspaces.ts'
import type { VersionKeys } from './version-keys.ts'

/** Where they are. */
export interface Stored {
  readonly engine: Engine
  readonly versionKeys: VersionKeys
}

interface Reading { snapshot?: ReturnType<Engine['snapshot']> }

/** The version record of what is in data, if that has a stamp: one put. */
export function recordOfData (data: Buffer | undefined): Buffer | undefined {
  if (data === undefined || !isStamped(data)) return undefined
  const start = stampStart(data)
  const record = Buffer.allocUnsafe(stampOffset + data.length - start)
  record[0] = 1
  record[1] = 1
  for (let index = start; index < data.length; index++) record[stampOffset + index - start] = data[index]!
  return record
}

/** The set of what is stored of a key. */
export function storedSet (record: Buffer | undefined, data: Buffer | undefined): SiblingSet {
  return decodeSiblings(record ?? recordOfData(data))
}

/** The version records of user keys, at one moment. */
export async function readRecords ({ engine, versionKeys }: Stored, keys: readonly Buffer[], reading: Reading = {}): Promise<Array<Buffer | undefined>> {
  const options = { ...buffers, ...reading }
  const records: Array<Buffer | undefined> = versionKeys.none && reading.snapshot === undefined ? new Array<undefined>(keys.length) : await engine.getMany(keys.map((key) => inKeyspace(keyspace.version, key)), options)
  const without = keys.flatMap((_, index) => records[index] === undefined ? [index] : [])
  if (without.length === 0) return records
  const data = await engine.getMany(without.map((index) => inKeyspace(keyspace.data, keys[index]!)), options)
  for (const [place, index] of without.entries()) records[index] = recordOfData(data[place])
  return records
}

/** The set of a user key; without a snapshot in the writer's turn, while nothing is in flight that changes it. */
export async function readSet (stored: Stored, key: Buffer, reading?: Reading): Promise<SiblingSet> {
  const [record] = await readRecords(stored, [key], reading)
  return decodeSiblings(record)
}

/** The set of the key that a batch is at; the same holds. */
export function readSetSync ({ engine, versionKeys }: Stored, batch: { keyIn (space: number): Buffer }): SiblingSet {
  const record = versionKeys.none ? undefined : engine.getSync(batch.keyIn(keyspace.version), buffers)
  return storedSet(record, record === undefined ? engine.getSync(batch.keyIn(keyspace.data), buffers) : undefined)
}
