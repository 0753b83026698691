/**
 * One process with one database, told what to do by the process that forked it.
 *
 * Nothing is told while something is timed. Moments are of CLOCK_MONOTONIC, which all processes of a machine share.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { assertSame, verify, type Checked } from './verification.ts'
import { isReplica, makeDatabase, operationsKnown, type Database, type DatabaseOptions, type Replica } from './databases.ts'
import { keyOf, putsOf, valueOf, windowsOf, type Encoding } from './data.ts'
import { openEcho, probe, watchArrivals, type Arrivals, type ProbeOptions, type Probes } from './latency-probe.ts'
import { peakMemoryBytes, resetPeakMemory, watchOwnMemory } from './memory.ts'
import { nowMs } from './clock.ts'
import { time, windowSize, type Task, type Timing } from './operations.ts'
import { serve } from './serve.ts'
import { resetWireBytes, wireBytes } from './wire.ts'

/** How often it looks whether it has caught up. */
const pollMs = 1

/** A process rests that takes no more than this share of one processor for so long; so many times in a row, and it is settled. */
const restingShare = 0.1
const restMs = 20
const restsToBeSettled = 3

let database: Database | undefined
let encoding: Encoding = 'utf8'
let caughtUp: Promise<unknown> | undefined
let arrivals: Arrivals | undefined
let peakOwnMemory: (() => number | undefined) | undefined

function current (): Database {
  if (database === undefined) throw new Error('No database is open')
  return database
}

function replica (): Database & Replica {
  if (!isReplica(database)) throw new Error('No replica is open')
  return database
}

/** Waits until a number of operations, of all replicas together, has come. */
async function untilKnown (operations: number): Promise<number> {
  while (operationsKnown(replica()) < operations) await sleep(pollMs)
  return nowMs()
}

async function openDatabase (options: DatabaseOptions): Promise<void> {
  encoding = options.encoding
  database = makeDatabase(options)
  if (isReplica(database)) caughtUp = once(database, 'sync')
  await database.open()
}

async function put (from: number, count: number, generation: number): Promise<void> {
  for (const window of windowsOf(putsOf(from, count, encoding, generation), windowSize)) await current().batch(window)
}

interface Memory {
  /** Resident, mapped files included. */
  readonly peakBytes: number
  /** Of it, what no file holds; undefined if that is not known here. */
  readonly ownPeakBytes: number | undefined
}

function watchMemory (): void {
  resetPeakMemory()
  peakOwnMemory?.()
  peakOwnMemory = watchOwnMemory()
}

function memory (): Memory {
  const ownPeakBytes = peakOwnMemory?.()
  peakOwnMemory = undefined
  return { peakBytes: peakMemoryBytes(), ownPeakBytes }
}

export const commands = {
  /** Opens a database, and gives the address it listens on, if it does. */
  async open (options: DatabaseOptions): Promise<string | undefined> {
    await openDatabase(options)
    const address = isReplica(database) ? database.replication.address : undefined
    return address && `${address.host}:${address.port}`
  },

  /** Opens a database, and gives the time that took. */
  async timeOpen (options: DatabaseOptions): Promise<number> {
    global.gc?.()
    const startMs = nowMs()
    await openDatabase(options)
    return nowMs() - startMs
  },

  /** Waits until the process rests, which is when LevelDB has compacted what it is going to. */
  async settled (): Promise<void> {
    for (let rests = 0; rests < restsToBeSettled;) {
      const cpu = process.cpuUsage()
      await sleep(restMs)
      const { user, system } = process.cpuUsage(cpu)
      rests = user + system < restMs * 1000 * restingShare ? rests + 1 : 0
    }
  },

  async close (): Promise<void> {
    await database?.close()
    database = undefined
  },

  async time (task: Task): Promise<Timing> {
    return await time(current(), task, encoding)
  },

  async verify (total: number): Promise<Checked> {
    return await verify(current(), encoding, total)
  },

  /** Writes in batches. */
  async load ({ from, count, generation = 0 }: { from: number, count: number, generation?: number }): Promise<void> {
    await put(from, count, generation)
  },

  /** Waits until it has all that a peer had when it connected. */
  async caughtUp (): Promise<void> {
    await caughtUp
  },

  /** Waits until so many links are live. */
  async linked (count: number): Promise<void> {
    while (replica().replication.peers().filter(({ state }) => state === 'live').length < count) await sleep(pollMs)
  },

  untilKnown,

  /** Opens an empty replica and waits until it has all that its peers have; gives the time of both together. */
  async firstSync (options: DatabaseOptions): Promise<{ ms: number, wireBytes: number, memory: Memory }> {
    resetWireBytes()
    watchMemory()
    const startMs = nowMs()
    encoding = options.encoding
    database = makeDatabase(options)
    const synced = once(database, 'sync').then(nowMs)
    await database.open()
    return { ms: await synced - startMs, wireBytes: wireBytes(), memory: memory() }
  },

  /** Ends a link, and waits until it has ended. */
  async disconnect (address: string): Promise<void> {
    const disconnected = once(replica(), 'disconnect')
    replica().replication.disconnect(address)
    await disconnected
    caughtUp = once(replica(), 'sync')
  },

  /** Prepares for the next inbound link. */
  async expectSync (): Promise<void> {
    while (replica().replication.peers().length > 0) await sleep(pollMs)
    caughtUp = once(replica(), 'sync')
  },

  /** Connects, and waits until it has all that the peer had. */
  async reconnect (address: string): Promise<number> {
    resetWireBytes()
    const startMs = nowMs()
    const synced = caughtUp!.then(nowMs)
    replica().replication.connect(address)
    return await synced - startMs
  },

  /** @throws Error if one of these values is not of this generation */
  async verifyGeneration ({ from, count, generation }: { from: number, count: number, generation: number }): Promise<void> {
    for (let index = from; index < from + count; index++) {
      assertSame(await current().get(keyOf(index, encoding)), valueOf(index, encoding, generation), index)
    }
  },

  /** Writes concurrently while others do, and waits until a number of operations is known. */
  async converge ({ from, count, known }: { from: number, count: number, known: number }): Promise<{ startMs: number, endMs: number }> {
    const windows = windowsOf(putsOf(from, count, encoding), windowSize)
    const startMs = nowMs()
    for (const window of windows) await Promise.all(window.map(({ key, value }) => current().put(key, value)))
    return { startMs, endMs: await untilKnown(known) }
  },

  async wireBytes (): Promise<number> {
    return wireBytes()
  },

  async watchMemory (): Promise<void> {
    watchMemory()
  },

  /** The largest amounts since it was watched. */
  async memory (): Promise<Memory> {
    return memory()
  },

  /** Notes when writes of others become visible here, and opens a server that echoes. */
  async watch (): Promise<number> {
    arrivals = watchArrivals(replica())
    return await openEcho()
  },

  async arrivals (count: number): Promise<Array<[string, number]>> {
    return await arrivals!.take(count)
  },

  async probe (options: Omit<ProbeOptions, 'database' | 'encoding'>): Promise<Probes> {
    return await probe({ ...options, database: current(), encoding })
  }
}

export type WorkerCommands = typeof commands

serve(commands)
