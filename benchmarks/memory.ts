/**
 * The largest amount of memory that this process, or on Linux another, had resident (peak RSS).
 *
 * Linux lets a process reset its mark; elsewhere it counts from the start of the process. LevelDB maps its tables into
 * memory, so that a process which reads all of a database has as much of it resident as the system likes to keep. What is
 * the process's own is sampled beside that, on Linux.
 */
import { readFileSync, writeFileSync } from 'node:fs'

export function resetPeakMemory (processId: number | 'self' = 'self'): void {
  if (processId === 'self') global.gc?.()
  try {
    writeFileSync(`/proc/${processId}/clear_refs`, '5')
  } catch {
    // Not Linux, or not allowed.
  }
}

export function peakMemoryBytes (processId: number | 'self' = 'self'): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${processId}/status`, 'utf8'))![1]) * 1024
  } catch {
    return processId === 'self' ? process.resourceUsage().maxRSS * 1024 : 0
  }
}

const sampleMs = 10

/** Samples the memory of this process that no file holds, until it is asked for the largest amount: undefined if that is not known here. */
export function watchOwnMemory (): () => number | undefined {
  let peakBytes: number | undefined
  const sample = (): void => {
    try {
      const bytes = Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
      peakBytes = Math.max(peakBytes ?? 0, bytes)
    } catch {
      // Not Linux.
    }
  }
  sample()
  const timer = setInterval(sample, sampleMs).unref()
  return () => {
    clearInterval(timer)
    sample()
    return peakBytes
  }
}
