/**
 * Bounds: what may be on disk and in memory, whatever has happened. Each follows from a limit of lib and the rule that
 * it belongs to.
 */
import { formatLogId } from '../../lib/core/ids.ts'
import { feedBytesMax, journalSlots, sweepOperationsMin } from '../../lib/limits.ts'
import type { Engine } from '../../lib/storage/engine.ts'
import type { Store } from '../../lib/storage/store.ts'
import { checkInvariants, type DiskState } from '../support/invariants.ts'
import type { SimulatedLevel } from './disk.ts'
import type { Release, World } from './world.ts'

/** The ring of recent units: so many bytes, or one unit. */
export function checkFeed (world: World, name: string, { feed }: Store): void {
  let bytes = 0
  let units = 0
  for (let number = feed.end - 1; ; number--) {
    const unit = feed.at(number)
    if (unit === undefined || unit === 'lost') break
    bytes += unit.body?.length ?? 0
    units++
  }
  if (units > 1 && bytes > feedBytesMax) world.fail('feed', `${name} keeps ${units} units of ${bytes} bytes, more than ${feedBytesMax}`)
}

/** A machine that is on. */
interface Subject {
  readonly world: World
  readonly name: string
  /** The most versions that it has ever held. */
  readonly liveMax: number
  readonly process: { readonly engine: SimulatedLevel, readonly store: Store | undefined, readonly release: Release } | undefined
}

type Fail = (what: string) => never

async function read ({ world, name, process }: Subject): Promise<{ state: DiskState, live: number, fail: Fail }> {
  const { vector, collected } = process!.store!
  const state = await checkInvariants(process!.engine as unknown as Engine, { resolver: process!.release.resolver, vector, collected })
  const live = [...state.versions.values()].reduce((sum, { length }) => sum + length, 0)
  return { state, live, fail: (what) => world.fail('bound', `${name} ${what}`) }
}

/** What stands on a disk when everything is at rest. */
export async function checkDisk (machine: Subject): Promise<void> {
  const { world, process, liveMax } = machine
  const { state, fail } = await read(machine)
  const { vector } = process!.store!
  // A sweep leaves at most twice what is live; as much again may be written before the next is due, and a small sample may be wrong once.
  const operationsMax = 4 * Math.max(liveMax, sweepOperationsMin)
  if (state.logged.size > operationsMax) fail(`has ${state.logged.size} operations in its log, more than ${operationsMax}`)
  if (state.journalRecords > journalSlots) fail(`has ${state.journalRecords} records in its journal`)
  const known = new Set(world.oracle.writes.map(({ log }) => log))
  for (const { log } of vector) if (!known.has(log) && !world.oracle.fenced.has(log)) fail(`names log ${formatLogId(log)}, in which nothing was written`)
}

/** What a sweep leaves: in each record more than half is live. */
export async function checkSwept (machine: Subject): Promise<void> {
  const { state, live, fail } = await read(machine)
  if (state.logged.size > 2 * live) fail(`has ${state.logged.size} operations in its log after a sweep, and ${live} live ones`)
}
