/**
 * Hands seeds to worker processes, which load lib through `patch.mjs`. One that hangs or dies counts as a failure of
 * the seed that it was running.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Report } from './worker.ts'
import type { TraceOptions } from './world.ts'

/** A piece of lib that is to be loaded differently: `find` occurs exactly once in `file`. */
export interface Patch {
  readonly file: string
  readonly find: string
  readonly replace: string
}

export interface RunOptions extends TraceOptions {
  readonly from: number
  readonly seeds: number
  readonly workers?: number
  readonly patches?: readonly Patch[]
  /** Stop at the first failure. */
  readonly untilFailure?: boolean
  /** How long one seed may take. */
  readonly seedMsMax?: number
  readonly onReport?: (report: Report) => void
}

export interface RunResult {
  readonly passed: number
  readonly failed: number
  readonly reports: readonly Report[]
  readonly counts: Readonly<Record<string, number>>
  /** Of the processor, per seed on the average. */
  readonly ms: number
}

const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

export async function runSeeds ({ from, seeds, workers = 2, trace = false, disk, patches = [], untilFailure = false, seedMsMax = 60_000, onReport }: RunOptions): Promise<RunResult> {
  const reports: Report[] = []
  const counts: Record<string, number> = {}
  let next = from
  let ms = 0

  const take = (report: Report): void => {
    reports.push(report)
    ms += report.ms
    for (const [what, count] of Object.entries(report.counts)) counts[what] = (counts[what] ?? 0) + count
    if (report.failure !== undefined && untilFailure) next = Infinity
    onReport?.(report)
  }

  const work = async (): Promise<void> => {
    let child: ChildProcess | undefined
    while (next < from + seeds) {
      const seed = next++
      child ??= fork(file('worker.ts'), { execArgv: ['--import', file('patch.mjs'), '--import', 'tsx'], env: { ...process.env, SIMULATION_PATCHES: JSON.stringify(patches) } })
      const report = await runSeed(child, { seed, trace, disk }, seedMsMax)
      if (child.exitCode !== null || child.killed) child = undefined
      take(report)
    }
    child?.kill()
  }
  await Promise.all(Array.from({ length: Math.min(workers, seeds) }, work))

  const failed = reports.filter(({ failure }) => failure !== undefined).length
  return { passed: reports.length - failed, failed, reports, counts, ms: ms / Math.max(1, reports.length) }
}

async function runSeed (child: ChildProcess, order: { seed: number } & TraceOptions, msMax: number): Promise<Report> {
  const failed = (failure: string): Report => ({ seed: order.seed, failure, kind: 'process', hash: '', counts: {}, trace: undefined, ms: 0 })
  return await new Promise((resolve) => {
    const settle = (report: Report): void => {
      clearTimeout(timer)
      child.off('message', settle)
      child.off('exit', died)
      resolve(report)
    }
    const died = (code: number | null, signal: string | null): void => { settle(failed(`the process ended with ${signal ?? code}`)) }
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      settle(failed(`not done after ${msMax} ms`))
    }, msMax)
    child.on('message', settle)
    child.on('exit', died)
    child.send(order)
  })
}
