/**
 * The largest amount of memory that this process, or on Linux another, had resident (peak RSS).
 *
 * Linux lets a process reset its mark; elsewhere it counts from the start of the process.
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
