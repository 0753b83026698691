/**
 * Sorting very much without holding the event loop: runs that are sorted at once, then merged two by two with pauses between.
 *
 * Source: von Neumann's merge sort, bottom-up; Knuth, The Art of Computer Programming 3, 5.2.4.
 */
const runMax = 4096

/** Binary strings in their order; the array may be used for it. */
export async function sortInSlices (texts: string[], pause: () => Promise<void>): Promise<string[]> {
  if (texts.length <= runMax) return texts.sort()
  let runs: string[][] = []
  for (let start = 0; start < texts.length; start += runMax) {
    runs.push(texts.slice(start, start + runMax).sort())
    await pause()
  }
  while (runs.length > 1) {
    const merged: string[][] = []
    for (let index = 0; index < runs.length; index += 2) merged.push(await merge(runs[index]!, runs[index + 1] ?? [], pause))
    runs = merged
  }
  return runs[0]!
}

async function merge (a: string[], b: string[], pause: () => Promise<void>): Promise<string[]> {
  if (b.length === 0) return a
  const merged: string[] = []
  for (let left = 0, right = 0; left < a.length || right < b.length;) {
    merged.push(right === b.length || (left < a.length && a[left]! <= b[right]!) ? a[left++]! : b[right++]!)
    if (merged.length % runMax === 0) await pause()
  }
  return merged
}
