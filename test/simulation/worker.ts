/** Runs the seeds that the parent process names, one after another. */
import { simulate, type Outcome } from './scenario.ts'
import type { TraceOptions } from './world.ts'

export interface Report extends Omit<Outcome, 'violation'> {
  readonly failure: string | undefined
  readonly kind: string | undefined
  /** Of the processor. */
  readonly ms: number
}

let unhandled: unknown
process.on('unhandledRejection', (error) => { unhandled ??= error })
process.on('uncaughtException', (error) => { unhandled ??= error })

process.on('message', ({ seed, ...options }: { seed: number } & TraceOptions) => {
  const start = process.cpuUsage()
  simulate(seed, options).then(({ violation, ...outcome }) => {
    const error = violation ?? (unhandled === undefined ? undefined : unhandled as Error)
    unhandled = undefined
    const { user, system } = process.cpuUsage(start)
    const report: Report = { ...outcome, kind: (error as { kind?: string } | undefined)?.kind ?? error?.name, failure: error === undefined ? undefined : 'kind' in error ? error.message : String(error.stack), ms: (user + system) / 1000 }
    process.send!(report)
  }, (error) => { throw error })
})
