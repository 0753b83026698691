/**
 * The largest amount of memory that this process had resident (peak RSS).
 *
 * Linux lets a process reset its mark; elsewhere it counts from the start of the process.
 */
import { readFileSync, writeFileSync } from 'node:fs'

export function resetPeakMemory (): void {
  global.gc?.()
  try {
    writeFileSync('/proc/self/clear_refs', '5')
  } catch {
    // Not Linux, or not allowed.
  }
}

export function peakMemoryBytes (): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
  } catch {
    return process.resourceUsage().maxRSS * 1024
  }
}
