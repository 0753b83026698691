/**
 * The demonstration proves what it says, and fails if a replica does.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

async function demo (variables: object): Promise<{ code: number | null, output: string }> {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), fileURLToPath(new URL('../benchmarks/demo/index.ts', import.meta.url))], { env: { ...process.env, ...variables } })
  let output = ''
  child.stdout.on('data', (text) => { output += String(text) })
  child.stderr.on('data', (text) => { output += String(text) })
  const code = await new Promise<number | null>((resolve) => { child.once('close', resolve) })
  return { code, output }
}

test('it exits 0 once all three are equal', async () => {
  const { code, output } = await demo({ DEMO_RECORDS: '5000' })
  assert.is(code, 0, output)
  assert.match(output, /42, 42, 42/)
  assert.match(output, /Equal, entry by entry/)
})

test('it exits 1, and says why, when a replica is killed', async () => {
  const { code, output } = await demo({ DEMO_RECORDS: '5000', DEMO_KILL: '1' })
  assert.is(code, 1, output)
  assert.match(output, /Ben/)
  assert.not.match(output, /Equal, entry by entry/)
})

test.run()
