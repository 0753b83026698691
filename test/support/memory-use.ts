/**
 * How much memory this process holds once nothing superfluous is left.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Bytes on the heap and beside it, after a collection. */
export async function bytesHeld (): Promise<number> {
  for (let times = 0; times < 2; times++) {
    collect()
    await new Promise((resolve) => { setImmediate(resolve) })
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
