/**
 * One simulated group: machines, network, time, and the truth about all of it.
 *
 * Everything follows from the seed. What happens is put into a trace, whose hash says whether two runs were the same.
 */
import type { ReplicationError } from '../../lib/errors.ts'
import type { Resolver } from '../../lib/types.ts'
import { Dice } from './dice.ts'
import { setLimits } from './limits.ts'
import { SimulatedNetwork } from './network.ts'
import { Oracle, type Write } from './oracle.ts'
import { resolvers } from './resolvers.ts'
import { Scheduler } from './scheduler.ts'
import { chooseSettings, type Settings } from './settings.ts'
import { Violation } from './violation.ts'

/** What may go wrong between replicas none of which is malicious, and no disk of which fails. */
const expected = new Set(['REPLICATION_CLOCK_AHEAD', 'REPLICATION_CLOCK_BEHIND', 'REPLICATION_ID_TAKEN', 'REPLICATION_LOG_FORKED', 'REPLICATION_LOG_REPLACED', 'REPLICATION_PEER_SILENT', 'REPLICATION_PEER_STALLED', 'REPLICATION_RESOLVER', 'REPLICATION_RESOLVER_MISMATCH'])
/** What is said of a state that may last. */
const opinions = new Set(['REPLICATION_CLOCK_AHEAD', 'REPLICATION_CLOCK_BEHIND', 'REPLICATION_RESOLVER'])
const expectedOfDisks = new Set(['LEVEL_IO_ERROR', 'REPLICATION_WRITE_INDETERMINATE'])

/** What the application is that opens a database: with its resolver, and that one's version. */
export interface Release {
  readonly resolver: Resolver<any, any>
  readonly version: string
}

/** A replica, or what is left of it. */
export interface Replica {
  readonly name: string
  /** For good. */
  readonly gone: boolean
  /** The writes that it has on its disk. */
  readonly seen: bigint
}

export interface TraceOptions {
  /** Keep what happens, to be printed. */
  readonly trace?: boolean
  /** The machine whose records are to be in the trace too. */
  readonly disk?: string | undefined
}

export class World {
  readonly seed: number
  readonly dice: Dice
  readonly settings: Settings
  readonly scheduler = new Scheduler()
  readonly network: SimulatedNetwork
  readonly oracle = new Oracle()
  readonly replicas: Replica[] = []
  readonly keys: readonly string[]
  /** The one that is opened from now on. */
  release: Release
  readonly transactionBytesMax = 64 * 1024
  readonly counts: Record<string, number> = {}
  violation: Error | undefined
  /** A part of a long delivery has come to this machine's disk. */
  onStaged: (name: string) => void = () => {}
  /** An apply phase has begun on this machine. */
  onApplying: (name: string) => void = () => {}
  /** This machine is being opened. */
  onOpening: (name: string) => void = () => {}
  /** This machine has been opened with another resolver than before. */
  onFolding: (name: string) => void = () => {}
  /** This machine leaves a log. */
  onLeaving: (name: string) => void = () => {}
  /** A machine has taken in a part of a delivery. */
  onDelivering: (name: string) => void = () => {}
  /** Batches failed lately, so that errors inside are to be expected. */
  faultyDisks = false
  readonly trace: string[] | undefined
  readonly diskTrace: string | undefined
  #hash = 0x811c9dc5

  constructor (seed: number, { trace = false, disk }: TraceOptions = {}, overrides: Partial<Settings> = {}) {
    this.seed = seed
    this.diskTrace = disk
    this.trace = trace ? [] : undefined
    const dice = this.dice = new Dice(seed)
    const settings = this.settings = { ...chooseSettings(dice), ...overrides }
    setLimits(settings.limits)
    this.network = new SimulatedNetwork(this.scheduler, dice.fork(), settings.network)
    this.keys = Array.from({ length: settings.keys }, (_, index) => `key${String(index).padStart(2, '0')}`)
    this.release = { resolver: resolvers[settings.resolver], version: '' }
    this.log(`seed ${seed}: ${JSON.stringify(settings)}`)
  }

  get hash (): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0')
  }

  count (what: string, times = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + times
  }

  log (what: string | (() => string)): void {
    const line = `${this.scheduler.elapsedMs.toFixed(1).padStart(9)}  ${typeof what === 'string' ? what : what()}`
    for (let index = 0; index < line.length; index++) this.#hash = Math.imul(this.#hash ^ line.charCodeAt(index), 0x01000193)
    this.trace?.push(line)
  }

  fail (kind: string, message: string): never {
    throw new Violation(kind, message)
  }

  /** Does something that may find a promise broken, from where nobody could catch it. */
  guard (act: () => void): void {
    try {
      act()
    } catch (error) {
      this.violation ??= error as Error
    }
  }

  error (name: string, error: ReplicationError): void {
    const { code, message } = error
    this.count(`error ${code}`)
    if (!opinions.has(code)) this.count('errors')
    this.log(`${name}: ${code} ${message}`)
    if (!expected.has(code) && !(this.faultyDisks && expectedOfDisks.has(code))) this.fail('error', `${name}: ${code} ${message}: ${String((error.cause as Error | undefined)?.stack)}`)
  }

  /** Whether any replica, or copy of one, still has it. */
  isReachable (write: Write): boolean {
    return this.replicas.some(({ gone, seen }) => !gone && (seen & write.bit) !== 0n)
  }

  /** Lets time pass until something is done. */
  async during (work: Promise<unknown>): Promise<void> {
    const state = { done: false }
    work.then(() => { state.done = true }, (error) => { this.violation ??= error })
    while (!state.done) await this.pass(10)
  }

  /** Lets so much time pass. */
  async pass (ms: number): Promise<void> {
    const end = this.scheduler.after(ms, () => {})
    while (this.scheduler.elapsedMs < end.atMs) {
      await this.scheduler.step()
      if (this.violation !== undefined) throw this.violation
    }
  }
}
