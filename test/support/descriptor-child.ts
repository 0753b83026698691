/**
 * A process that uses up its file descriptors, writes until that hurts, gives them back, and looks at what is there.
 */
import { closeSync, openSync } from 'node:fs'
import { ReplicatedLevel } from '../../lib/index.ts'

const db = new ReplicatedLevel(process.argv[2]!, { port: false })
await db.open()
const held: number[] = []
try {
  while (true) held.push(openSync('/dev/null', 'r'))
} catch {}
const acknowledged: string[] = []
for (let index = 0; ; index++) {
  try {
    await db.put(`key-${index}`, 'x'.repeat(100_000))
    acknowledged.push(`key-${index}`)
  } catch (error) {
    console.log((error as { code: string }).code)
    break
  }
}
if (await db.get('key-0') === undefined) throw new Error('reads do not go on')
for (const descriptor of held) closeSync(descriptor)
const freedMs = performance.now()
while (await db.put('after', '1').then(() => false, () => true)) {
  if (performance.now() - freedMs > 60_000) throw new Error('writes do not go on')
  await new Promise((resolve) => { setTimeout(resolve, 20) })
}
for (const key of acknowledged) if (await db.get(key) === undefined) throw new Error(`${key} is lost`)
console.log('all there')
await db.close()
