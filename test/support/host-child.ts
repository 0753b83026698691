/**
 * The process at the other end of `host-process.ts`: does what it is told over IPC, and answers.
 */
import { ReplicaHost } from './replica-host.ts'

interface Request {
  readonly id: number
  readonly method: keyof ReplicaHost
  readonly args: unknown[]
}

const host = new ReplicaHost()

process.on('message', (request: Request) => {
  answer(request).catch((error: unknown) => { throw error })
})

// Without its parent it has nothing to do, and must not linger.
process.on('disconnect', () => { process.exit() })

async function answer ({ id, method, args }: Request): Promise<void> {
  try {
    const value = await (host[method] as (...args: unknown[]) => unknown).apply(host, args)
    process.send!({ id, value })
  } catch (error) {
    process.send!({ id, error: { message: (error as Error).stack ?? (error as Error).message, code: (error as { code?: string }).code } })
  }
}
