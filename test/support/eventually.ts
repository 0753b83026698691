/** Waiting for a fact, never for a time. */

export interface EventuallyOptions {
  timeoutMs?: number
  message?: string
}

/**
 * Resolves with what `fact` gives once that is truthy; asks again after a short sleep, also if `fact` throws. At
 * the limit (60 s, since a machine may be slow or busy) it throws, with `message` and the last error as cause.
 */
export async function eventually<T> (
  fact: () => T | Promise<T>,
  { timeoutMs = 60_000, message = `never came true: ${fact.toString()}` }: EventuallyOptions = {}
): Promise<T> {
  const limitMs = performance.now() + timeoutMs
  for (let sleepMs = 0; ; sleepMs = Math.min(25, sleepMs + 1)) {
    let lastError: unknown
    try {
      const value = await fact()
      if (value) return value
    } catch (error) {
      lastError = error
    }
    if (performance.now() > limitMs) {
      const reason = lastError instanceof Error ? ` (${lastError.message})` : ''
      throw new Error(`After ${timeoutMs} ms: ${message}${reason}`, { cause: lastError })
    }
    await new Promise((resolve) => { setTimeout(resolve, sleepMs) })
  }
}
