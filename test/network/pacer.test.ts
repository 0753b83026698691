import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { changesPace, newcomersPace } from '../../lib/limits.ts'
import { Pacer } from '../../lib/network/pacer.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const test = suite('pacer')

for (const [name, pace] of Object.entries({ changesPace, newcomersPace })) {
  test(`${name}: the first calls are made at once, those that follow closely together, and after a rest it begins anew`, async () => {
    const system = new VirtualSystem()
    let calls = 0
    const pacer = new Pacer(system, pace, () => { calls++ })
    for (let round = 0; round < 3; round++) {
      calls = 0
      for (let call = 1; call <= pace.atOnceMax; call++) {
        pacer.call()
        assert.is(calls, call)
      }
      for (let call = 0; call < 100; call++) pacer.call()
      assert.is(calls, pace.atOnceMax)
      await system.advance(pace.pauseMs)
      assert.is(calls, pace.atOnceMax + 1)
      assert.is(system.timers, 0)
      await system.advance(pace.restMs)
    }
  })

  test(`${name}: while calls keep coming closely, there is one at the end of each pause`, async () => {
    const system = new VirtualSystem()
    let calls = 0
    const pacer = new Pacer(system, pace, () => { calls++ })
    for (let call = 0; call < pace.atOnceMax; call++) pacer.call()
    calls = 0
    const stepMs = pace.restMs / 2
    for (let step = 0; step < 200; step++) {
      pacer.call()
      await system.advance(stepMs)
    }
    const expected = 200 * stepMs / pace.pauseMs
    assert.ok(calls <= expected && calls >= expected / 2, `${calls} calls`)
  })

  test(`${name}: calls that come apart are all made at once`, async () => {
    const system = new VirtualSystem()
    let calls = 0
    const pacer = new Pacer(system, pace, () => { calls++ })
    for (let call = 1; call <= 50; call++) {
      pacer.call()
      assert.is(calls, call)
      await system.advance(pace.restMs)
    }
  })

  test(`${name}: once stopped it owes nothing`, async () => {
    const system = new VirtualSystem()
    let calls = 0
    const pacer = new Pacer(system, pace, () => { calls++ })
    for (let call = 0; call < 100; call++) pacer.call()
    pacer.stop()
    await system.advance(10 * pace.pauseMs)
    assert.is(calls, pace.atOnceMax)
  })
}

test.run()
