/**
 * The laws of the merge, on states that histories of writes and exchanges lead to.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import type { LogId } from '../../lib/core/ids.ts'
import { fold } from '../../lib/core/resolve.ts'
import { mergeSiblings, noSiblings, type SiblingSet } from '../../lib/core/siblings.ts'
import { VersionVector } from '../../lib/core/version-vector.ts'
import { runs } from '../support/seed.ts'
import type { Resolver, Version } from '../../lib/types.ts'

interface State {
  readonly siblings: SiblingSet
  readonly vector: VersionVector
}

function merge (ours: State, theirs: State): State {
  const vector = ours.vector.clone()
  vector.join(theirs.vector)
  return { siblings: mergeSiblings(ours.siblings, ours.vector, theirs.siblings, theirs.vector), vector }
}

function text ({ siblings, vector }: State): string {
  return JSON.stringify([siblings, [...vector].sort((a, b) => a.log < b.log ? -1 : 1)])
}

const replicaCount = 4
const index = fc.nat({ max: replicaCount - 1 })
const step = fc.oneof(
  fc.record({ type: fc.constantFrom('put' as const, 'del' as const), replica: index, hlcOffset: fc.nat({ max: 3 }) }),
  fc.record({ type: fc.constant('merge' as const), replica: index, from: index }),
  fc.record({ type: fc.constant('other key' as const), replica: index })
)
const history = fc.array(step, { maxLength: 40, size: 'max' })

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** The states of one key at all replicas, after a history. */
function statesAfter (steps: Step[]): State[] {
  const states: State[] = Array.from({ length: replicaCount }, () => ({ siblings: noSiblings, vector: new VersionVector() }))
  for (const each of steps) {
    const state = states[each.replica]!
    if (each.type === 'merge') {
      states[each.replica] = merge(state, states[each.from]!)
      continue
    }
    const log = `replica${each.replica}` as LogId
    const sequence = state.vector.sequenceOf(log) + 1
    let hlc = 'hlcOffset' in each ? each.hlcOffset : 0
    for (const known of state.vector) hlc = Math.max(hlc, known.hlc + 1)
    const vector = state.vector.clone()
    vector.advance({ log, sequence, hlc })
    states[each.replica] = { siblings: each.type === 'other key' ? state.siblings : [{ log, sequence, hlc, type: each.type }], vector }
  }
  return states
}

test('the merge commutes, associates and is idempotent', () => {
  fc.assert(fc.property(history, (steps) => {
    const [a, b, c] = statesAfter(steps) as [State, State, State]
    assert.is(text(merge(a, b)), text(merge(b, a)))
    assert.is(text(merge(merge(a, b), c)), text(merge(a, merge(b, c))))
    assert.is(text(merge(a, a)), text(a))
    assert.is(text(merge(merge(a, b), b)), text(merge(a, b)))
    assert.is(merge(a, a).siblings, a.siblings, 'the very same set')
  }), runs(1000))
})

const resolvers: Resolver[] = [
  () => true,
  () => false,
  (a, b) => a.timestamp % 3 < b.timestamp % 2,
  (a, b) => ({ value: `${String(a.value)},${String(b.value)}` }),
  (a) => a.type === 'put' ? { type: 'del' } : true,
  () => { throw new Error('planted') }
]

function read (siblings: SiblingSet, resolver: Resolver): string {
  const versions = siblings.map(({ log, sequence, hlc, type }) => ({ key: 'k', value: type === 'put' ? `${log}:${sequence}` : undefined, type, timestamp: hlc, origin: log, keyBytes: Buffer.alloc(0), valueBytes: undefined }) as unknown as Version)
  const outcome = fold(versions, resolver, (challenger, resolution) => ({ ...challenger, ...('value' in resolution ? { value: resolution.value, type: 'put' } : { value: undefined, type: 'del' }) }) as Version, () => {})
  return outcome.type === 'put' ? String(outcome.version.value) : 'nothing'
}

test('what is read is the same for every order of arrival and every resolver', () => {
  fc.assert(fc.property(history, fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), fc.constantFrom(...resolvers), (steps, order, resolver) => {
    const states = statesAfter(steps)
    const inOrder = states.reduce(merge)
    const shuffled = order.map((index) => states[index]!).reduce(merge)
    assert.is(text(shuffled), text(inOrder))
    assert.is(read(shuffled.siblings, resolver), read(inOrder.siblings, resolver))
  }), runs(1000))
})

test('a set never holds a dot that its vector does not cover, nor two of which one had seen the other', () => {
  fc.assert(fc.property(history, (steps) => {
    for (const { siblings, vector } of statesAfter(steps)) {
      for (const { log, sequence } of siblings) assert.ok(vector.covers(log, sequence))
      assert.is(new Set(siblings.map(({ log }) => log)).size, siblings.length)
    }
  }), runs(500))
})

test.run()
