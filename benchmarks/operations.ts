/**
 * What is timed within one process. Data is made before the clock starts, and results are checked after it stops.
 */
import type { ClassicLevel } from 'classic-level'
import type { Database } from './databases.ts'
import { putsOf, windowsOf, type Datum, type Encoding, type Put } from './data.ts'
import { assertCount, assertSame } from './verification.ts'

/** Writes in flight at once, operations of a batch, keys of a `getMany`. */
export const windowSize = 1000

export const writeNames = ['sequential put', 'concurrent put', 'batch'] as const
export const readNames = ['get', 'getSync', 'getMany', 'iterator.all', 'for await'] as const
export type WriteName = typeof writeNames[number]
/** Between writes and reads: what LevelDB still has to do of what was written is a figure of its own, and falls into no read's turn. */
export const settleName = 'compactRange'
export type OperationName = WriteName | typeof settleName | typeof readNames[number]

/** What writes are made to. */
export interface Writable {
  put (key: Datum, value: Datum): Promise<unknown>
  batch (puts: Put[]): Promise<unknown>
}

export interface Task<Name extends OperationName = OperationName> {
  readonly operation: Name
  /** Index of the first entry, and how many. Iterators take all there are: then they begin at 0. */
  readonly from: number
  readonly count: number
}

export interface Timing {
  readonly ms: number
  /** Of all threads of the process. */
  readonly cpuMs: number
  /** Values that were compared, after a read. */
  readonly compared: number
}

/** Does one task, and says how long it took. */
export async function time (database: Database, task: Task, encoding: Encoding): Promise<Timing> {
  return await timeRun((puts) => operations[task.operation](database, puts), task, encoding)
}

/** As {@link time}, of whatever can be written to. */
export async function timeWrites (database: Writable, task: Task<WriteName>, encoding: Encoding): Promise<Timing> {
  return await timeRun((puts) => writes[task.operation](database, puts), task, encoding)
}

async function timeRun (prepare: (puts: Put[]) => Run, { from, count }: Task, encoding: Encoding): Promise<Timing> {
  const puts = putsOf(from, count, encoding)
  const run = prepare(puts)
  const cpu = process.cpuUsage()
  const start = process.hrtime.bigint()
  const results = await run()
  const ms = Number(process.hrtime.bigint() - start) / 1e6
  const { user, system } = process.cpuUsage(cpu)
  if (results !== undefined) check(results, puts, from)
  return { ms, cpuMs: (user + system) / 1000, compared: results?.length ?? 0 }
}

/** What was read: values in the order of their index, or all entries in the order of their key. */
type Results = Array<Datum | undefined | [Datum, Datum]>

type Run = () => Promise<Results | undefined>

/** Each prepares its data, and returns what is to be timed. */
const writes: Record<WriteName, (database: Writable, puts: Put[]) => Run> = {
  'sequential put': (database, puts) => async () => {
    for (const { key, value } of puts) await database.put(key, value)
    return undefined
  },
  'concurrent put': (database, puts) => {
    const windows = windowsOf(puts, windowSize)
    return async () => {
      for (const window of windows) await Promise.all(window.map(({ key, value }) => database.put(key, value)))
      return undefined
    }
  },
  batch: (database, puts) => {
    const windows = windowsOf(puts, windowSize)
    return async () => {
      for (const window of windows) await database.batch(window)
      return undefined
    }
  }
}

const operations: Record<OperationName, (database: Database, puts: Put[]) => Run> = {
  ...writes,
  compactRange: (database) => async () => {
    await (database as unknown as ClassicLevel).compactRange(Buffer.alloc(0), Buffer.of(0xff), { keyEncoding: 'buffer' })
    return undefined
  },
  get: (database, puts) => async () => {
    const results: Results = []
    for (const { key } of puts) results.push(await database.get(key))
    return results
  },
  getSync: (database, puts) => async () => {
    const results: Results = []
    for (const { key } of puts) results.push(database.getSync(key))
    return results
  },
  getMany: (database, puts) => {
    const windows = windowsOf(puts.map(({ key }) => key), windowSize)
    return async () => {
      const results: Results = []
      for (const window of windows) results.push(...await database.getMany(window))
      return results
    }
  },
  'iterator.all': (database) => async () => await database.iterator().all(),
  'for await': (database) => async () => {
    const results: Results = []
    for await (const entry of database.iterator()) results.push(entry)
    return results
  }
}

function check (results: Results, puts: Put[], from: number): void {
  assertCount('results', results.length, puts.length)
  const entries = Array.isArray(results[0])
  const byKey = entries ? [...puts].sort(compareKeys) : puts
  for (const [position, { key, value }] of byKey.entries()) {
    const result = results[position]!
    if (entries) assertSame((result as [Datum, Datum])[0], key, from + position)
    assertSame(entries ? (result as [Datum, Datum])[1] : result as Datum, value, from + position)
  }
}

/** In the order of the bytes; text is ASCII here. */
function compareKeys (a: Put, b: Put): number {
  return typeof a.key === 'string' ? (a.key < b.key ? -1 : 1) : Buffer.compare(a.key, b.key as Buffer)
}
