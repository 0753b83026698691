/**
 * For how long the event loop of this process is held at a time.
 *
 * On a busy machine a process waits for the processor longer than it may hold its loop, and its other threads compute while
 * the loop is free. So of the time between two ticks counts what the main thread has computed in it, where Linux says so (to
 * a tick of the kernel, a few milliseconds); elsewhere what all threads have, which is more. And a slow machine, or a core whose
 * other half is busy, computes longer: what is told is in milliseconds of the machine on which limits were chosen.
 */
import { openSync, readSync } from 'node:fs'

const tickMs = 1

/** Milliseconds of the processor that the main thread has had. */
const computedMs = mainThreadClock() ?? (() => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
})

function mainThreadClock (): (() => number) | undefined {
  const text = Buffer.alloc(64)
  try {
    const file = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r')
    const read = (): number => Number.parseInt(text.latin1Slice(0, readSync(file, text, 0, text.length, 0))) / 1e6
    return read() > 0 ? read : undefined
  } catch {
    return undefined
  }
}

/** What {@link work} takes on the machine on which limits were chosen. */
const workMs = 4

/** Something to compute, of the kind that replication computes. */
function work (): number {
  const found = new Map<string, number>()
  const bytes = Buffer.alloc(64)
  for (let count = 0; count < 12_000; count++) {
    bytes.writeUInt32BE(Math.imul(count, 0x9E3779B1) >>> 0, count % 32)
    const key = bytes.latin1Slice(count % 32, count % 32 + 8)
    found.set(key, (found.get(key) ?? 0) + count)
  }
  return found.size
}

/** How many times longer this machine computes just now, at least 1. */
function slowness (): number {
  const [warmUps, rounds] = [5, 10]
  for (let round = 0; round < warmUps; round++) work()
  const [startMs, startComputedMs] = [performance.now(), computedMs()]
  for (let round = 0; round < rounds; round++) work()
  return Math.max(1, Math.min(performance.now() - startMs, computedMs() - startComputedMs) / rounds / workMs)
}

export class LoopWatch {
  readonly #timer: NodeJS.Timeout
  #lastMs = performance.now()
  #lastComputedMs = computedMs()
  #heldMs = 0

  constructor () {
    this.#timer = setInterval(() => { this.#tick() }, tickMs)
  }

  #tick (): void {
    const nowMs = performance.now()
    const nowComputedMs = computedMs()
    this.#heldMs = Math.max(this.#heldMs, Math.min(nowMs - this.#lastMs, nowComputedMs - this.#lastComputedMs))
    this.#lastMs = nowMs
    this.#lastComputedMs = nowComputedMs
  }

  /** The longest time, in milliseconds. */
  end (): number {
    clearInterval(this.#timer)
    this.#tick()
    return this.#heldMs / slowness()
  }
}
