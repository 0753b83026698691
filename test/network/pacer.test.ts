import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { callsAtOnceMax, callsPauseMs } from '../../lib/limits.ts'
import { Pacer } from '../../lib/network/pacer.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const test = suite('pacer')

test('the first calls are made at once, those that follow closely together, and after a rest it begins anew', async () => {
  const system = new VirtualSystem()
  let calls = 0
  const pacer = new Pacer(system, callsPauseMs, () => { calls++ })
  for (let round = 0; round < 3; round++) {
    calls = 0
    for (let call = 1; call <= callsAtOnceMax; call++) {
      pacer.call()
      assert.is(calls, call)
    }
    for (let call = 0; call < 100; call++) pacer.call()
    assert.is(calls, callsAtOnceMax)
    await system.advance(callsPauseMs)
    assert.is(calls, callsAtOnceMax + 1)
    assert.is(system.timers, 0)
    await system.advance(callsPauseMs)
  }
})

test('once stopped it owes nothing', async () => {
  const system = new VirtualSystem()
  let calls = 0
  const pacer = new Pacer(system, callsPauseMs, () => { calls++ })
  for (let call = 0; call < 100; call++) pacer.call()
  pacer.stop()
  await system.advance(10 * callsPauseMs)
  assert.is(calls, callsAtOnceMax)
})

test.run()
