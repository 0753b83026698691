/**
 * The real clock, timers and randomness. Only `index` imports this; everybody else is handed a {@link System}.
 */
import { randomBytes } from 'node:crypto'
import type { System } from './types.ts'

export const system: System = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer: (callback, delayMs, isWaitedFor = false) => {
    const timer = setTimeout(callback, delayMs)
    return isWaitedFor ? timer : timer.unref()
  },
  clearTimer: (timer) => { clearTimeout(timer as NodeJS.Timeout) },
  yield: () => new Promise((resolve) => { setImmediate(resolve) }),
  randomBytes: (size) => randomBytes(size),
  random: () => Math.random()
}
