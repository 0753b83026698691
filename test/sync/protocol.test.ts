/**
 * PROTOCOL.md and the code say the same: every example frame, byte for byte, both ways.
 */
import { readFile } from 'node:fs/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { decodeData, decodeFrame, encodeControl, encodeData } from '../../lib/codec/message.ts'
import { exampleMessages } from '../support/examples.ts'

const text = await readFile(new URL('../../lib/sync/PROTOCOL.md', import.meta.url), 'utf8')
const documented: Record<string, string> = Object.fromEntries([...text.matchAll(/```hex (\w+)\n([^`]+)```/g)].map(([, name, hex]) => [name!, hex!.replace(/\s/g, '')]))

test('every example of PROTOCOL.md is what the code sends', () => {
  const sent = Object.fromEntries(Object.entries(exampleMessages()).map(([name, bytes]) => [name, bytes.toString('hex')]))
  assert.equal(sent, documented)
})

for (const [name, hex] of Object.entries(documented)) {
  test(`the example of ${name} is read, and written again, as it stands`, () => {
    const frame = decodeFrame(Buffer.from(hex, 'hex'))
    if (frame.type !== 'fragment') {
      assert.is(frame.type, name)
      assert.is(encodeControl(frame).toString('hex'), hex)
      return
    }
    const message = decodeData(frame.bytes)
    assert.is(message.type, name)
    if (message.type !== 'unit') assert.is(encodeData(message).toString('hex'), hex)
  })
}

test.run()
