/** Milliseconds of CLOCK_MONOTONIC, the same in all processes of a machine; `performance.now()` differs in each. */
export function nowMs (): number {
  return Number(process.hrtime.bigint()) / 1e6
}
