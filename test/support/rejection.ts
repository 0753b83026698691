/**
 * What a promise is rejected with; an error if it is not.
 */
export async function rejection (promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise
  } catch (error) {
    return error as Error
  }
  throw new Error('Expected a rejection, and there was none')
}
