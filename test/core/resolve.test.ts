import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fold, lastWriterWins, type Outcome } from '../../lib/core/resolve.ts'
import type { Resolver, Version } from '../../lib/types.ts'

function version (value: string | undefined, timestamp: number): Version {
  const bytes = value === undefined ? undefined : Buffer.from(value)
  return { key: 'k', value, type: value === undefined ? 'del' : 'put', timestamp, origin: '0', keyBytes: Buffer.from('k'), valueBytes: bytes } as Version
}

/** What a fold over these values gives, and what it reports. */
function outcomeOf (values: Array<string | undefined>, resolver: Resolver): { outcome: string | undefined, errors: string[] } {
  const errors: string[] = []
  const outcome: Outcome = fold(
    values.map(version),
    resolver,
    (challenger, resolution) => version('value' in resolution ? String(resolution.value) : undefined, challenger.timestamp),
    (error) => { errors.push((error as Error).message) }
  )
  return { outcome: outcome.type === 'put' ? String(outcome.version.value) : undefined, errors }
}

test('the last writer wins by default, a delete too', () => {
  assert.is(outcomeOf(['a', 'b', 'c'], lastWriterWins).outcome, 'c')
  assert.is(outcomeOf(['a', undefined], lastWriterWins).outcome, undefined)
  assert.is(outcomeOf([undefined, 'b'], lastWriterWins).outcome, 'b')
})

test('of deletes alone nobody is asked', () => {
  assert.equal(outcomeOf([undefined, undefined], () => { throw new Error('asked') }), { outcome: undefined, errors: [] })
  assert.equal(outcomeOf([], () => { throw new Error('asked') }), { outcome: undefined, errors: [] })
})

test('the accepted version meets the next one, from the oldest on', () => {
  const pairs: string[] = []
  outcomeOf(['a', 'b', 'c', undefined], (accepted, challenger) => {
    pairs.push(`${String(accepted.value)}${String(challenger.value)}`)
    return challenger.value === 'b'
  })
  assert.equal(pairs, ['ab', 'bc', 'bundefined'])
})

test('a merge is what the next version meets, and may be a delete', () => {
  assert.is(outcomeOf(['a', 'b', 'c'], (a, b) => ({ value: `(${String(a.value)}${String(b.value)})` })).outcome, '((ab)c)')
  assert.is(outcomeOf(['a', 'b'], () => ({ type: 'del' })).outcome, undefined)
  assert.is(outcomeOf(['a', 'b', 'c'], (a) => a.type === 'del' ? { value: 'risen' } : { type: 'del' }).outcome, 'risen')
  assert.is(outcomeOf(['a', 'b'], () => ({ value: '' })).outcome, '')
})

test('a promise that a resolver answers with harms nobody when it is rejected', async () => {
  const { outcome, errors } = outcomeOf(['a', 'b'], (async () => { throw new Error('not ready') }) as never)
  assert.is(outcome, 'b')
  assert.match(errors[0]!, 'a promise')
  await new Promise((resolve) => { setImmediate(resolve) }) // an unhandled rejection would end this process
})

test('a resolver that throws or answers nonsense loses that pair to the later one, and is reported', () => {
  const cyclic: Record<string, unknown> = {}
  cyclic.self = cyclic
  for (const nonsense of [undefined, null, 0, 'true', {}, { value: undefined }, { value: null }, { type: 'put' }, Promise.resolve(true), cyclic, Symbol('x')]) {
    const { outcome, errors } = outcomeOf(['a', 'b'], () => nonsense as never)
    assert.is(outcome, 'b')
    assert.is(errors.length, 1)
  }
  let asked = 0
  assert.equal(outcomeOf(['a', 'b', 'c'], () => { if (asked++ === 0) throw new Error('once'); return false }), { outcome: 'b', errors: ['once'] })
})

test.run()
