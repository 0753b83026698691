import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { ReplicationError } from '../../lib/errors.ts'
import { peersIntervalMs, peersTimeoutMs } from '../../lib/limits.ts'
import { formatAddress } from '../../lib/network/addresses.ts'
import { checkedPeers, PeerSource } from '../../lib/network/peer-source.ts'
import type { PeersOption } from '../../lib/options.ts'
import { system } from '../../lib/system.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

interface Watched {
  system: VirtualSystem
  source: PeerSource
  /** Each call: the addresses, with '=' in front of a set that replaces and '+' of one that adds. */
  given: string[]
  errors: ReplicationError[]
}

function watch (peers: unknown, onAddresses: () => void = () => {}): Watched {
  const system = new VirtualSystem()
  const given: string[] = []
  const errors: ReplicationError[] = []
  const source = new PeerSource(checkedPeers(peers as PeersOption), {
    system,
    onAddresses: (addresses, { replace }) => {
      given.push(`${replace ? '=' : '+'}${addresses.map(formatAddress).join(',')}`)
      onAddresses()
    },
    onError: (error) => { errors.push(error) }
  })
  return { system, source, given, errors }
}

test('an array is given once, each address once', async () => {
  const { source, given, system } = watch(['a:1', 'B:2', 'A:1'])
  await source.start()
  await system.advance(peersIntervalMs * 3)
  assert.equal(given, ['=a:1,b:2'])
  assert.is(system.timers, 0)
})

test('the keys of a record are the addresses, whatever the values', async () => {
  const { source, given } = watch({ 'a:1': { since: 2015 }, b: undefined })
  await source.start()
  assert.equal(given, ['=a:1,b:9000'])
})

test('a later change of the array that was given has no effect', async () => {
  const peers = ['a:1']
  const { source, given } = watch(peers)
  peers.push('b:2')
  await source.start()
  assert.equal(given, ['=a:1'])
})

for (const peers of [undefined, null, 'a:1', 9000, true, new Set(['a:1']), ['a:1', ''], [1], { 'a:0': 1 }]) {
  test(`${peers instanceof Set ? 'a Set' : JSON.stringify(peers)} is refused`, () => {
    assert.throws(() => watch(peers), (error: ReplicationError) => error.code === 'REPLICATION_INVALID_OPTION')
  })
}

test('a function is asked again, and each answer replaces the one before', async () => {
  const answers: unknown[] = [['a:1'], Promise.resolve({ 'b:2': true }), []]
  const { source, given, system, errors } = watch(() => answers.shift())
  await source.start()
  assert.equal(given, ['=a:1'])
  await system.advance(peersIntervalMs - 1)
  assert.is(given.length, 1)
  await system.advance(1)
  assert.equal(given, ['=a:1', '=b:2'])
  await system.advance(peersIntervalMs)
  assert.equal(given, ['=a:1', '=b:2', '='])
  assert.equal(errors, [])
  source.stop()
  assert.is(system.timers, 0)
})

test('a function that is slow is not asked again before it has answered, and start() waits for it', async () => {
  let asked = 0
  let answer: (peers: string[]) => void = () => {}
  const { source, system, given } = watch(async () => { asked++; return await new Promise((resolve) => { answer = resolve }) })
  let started = false
  source.start().then(() => { started = true }, assert.unreachable)
  await system.advance(peersIntervalMs * 3)
  assert.is(asked, 1)
  assert.not(started)
  answer(['a:1'])
  await system.settle()
  assert.ok(started)
  assert.equal(given, ['=a:1'])
  source.stop()
})

test('a function that does not answer is reported and asked again, and an answer that comes late counts unless there is a later one', async () => {
  const answers: Array<(peers: string[]) => void> = []
  const { source, system, given, errors } = watch(async () => await new Promise((resolve) => { answers.push(resolve) }))
  let started = false
  source.start().then(() => { started = true }, assert.unreachable)
  await system.advance(peersTimeoutMs - 1)
  assert.equal([started, errors.length], [false, 0])
  await system.advance(1)
  assert.ok(started)
  assert.equal(errors.map(({ code }) => code), ['REPLICATION_PEERS'])
  assert.match(errors[0]?.message ?? '', 'no answer')
  for (let asked = 1; asked < 3; asked++) {
    assert.is(answers.length, asked)
    await system.advance(peersIntervalMs)
    assert.is(answers.length, asked + 1)
    await system.advance(peersTimeoutMs)
  }
  for (const [number, expected] of [[1, ['=b:2']], [0, ['=b:2']], [2, ['=b:2', '=c:3']]] as const) {
    answers[number]!([`${'abc'[number]}:${number + 1}`])
    await system.settle()
    assert.equal(given, expected)
  }
  assert.is(errors.length, 3)
  source.stop()
  assert.is(system.timers, 0)
})

test('a function that throws, rejects or gives garbage is reported and asked again', async () => {
  const answers = [() => { throw new Error('thrown') }, async () => { throw new Error('rejected') }, () => 5, () => ['a:1']]
  const { source, given, system, errors } = watch(() => answers.shift()?.())
  await source.start()
  await system.advance(peersIntervalMs * 3)
  assert.equal(errors.map(({ code }) => code), Array(3).fill('REPLICATION_PEERS'))
  assert.match(errors[0]?.message ?? '', 'thrown')
  assert.match(errors[1]?.message ?? '', 'rejected')
  assert.match(errors[2]?.message ?? '', 'number')
  assert.equal(given, ['=a:1'])
  source.stop()
})

test('a function that gives an iterator is reported: it is no record without keys', async () => {
  const answers = [async function * () { yield 'a:1' }, () => new Set(['a:1']), () => ['a:1'].values()]
  const { source, given, system, errors } = watch(() => answers.shift()?.() ?? ['a:1'])
  await source.start()
  await system.advance(peersIntervalMs * 3)
  assert.equal(errors.map(({ code }) => code), Array(3).fill('REPLICATION_PEERS'))
  assert.match(errors[0]!.message, 'an async iterable that a function has returned')
  assert.equal(given, ['=a:1'])
  source.stop()
})

test('a function that throws what cannot be shown is reported and asked again', async () => {
  const { source, system, errors } = watch(() => { throw Object.create(null) })
  await source.start()
  await system.advance(peersIntervalMs)
  assert.equal(errors.map(({ code }) => code), Array(2).fill('REPLICATION_PEERS'))
  source.stop()
})

test('the good addresses of an answer are used beside the bad ones', async () => {
  const { source, given, errors } = watch(() => ['a:1', 'b:0', 'c:3'])
  await source.start()
  assert.equal(given, ['=a:1,c:3'])
  assert.equal(errors.map(({ code }) => code), ['REPLICATION_PEERS'])
  assert.match(errors[0]?.message ?? '', "'b:0'")
  source.stop()
})

test('what an async iterable yields is added, and start() does not wait for it', async () => {
  let yieldNext: (value: unknown) => void = () => {}
  async function * peers (): AsyncIterable<unknown> {
    for (;;) yield await new Promise((resolve) => { yieldNext = resolve })
  }
  const { source, given, system, errors } = watch(peers())
  await source.start()
  assert.equal(given, [])
  for (const value of ['a:1', ['b:2', 'c:3'], 'bad:port', 'd:4']) {
    await system.settle()
    yieldNext(value)
  }
  await system.settle()
  assert.equal(given.filter((each) => each !== '+'), ['+a:1', '+b:2,c:3', '+d:4'])
  assert.equal(errors.map(({ code }) => code), ['REPLICATION_PEERS'])
  source.stop()
})

test('an async iterable that never waits leaves others their turn', async () => {
  const most = 10_000
  let yielded = 0
  async function * peers (): AsyncIterable<string> { for (; yielded < most; yielded++) yield 'a:1' }
  const source = new PeerSource(peers(), { system, onAddresses: () => {}, onError: (error) => { throw error } })
  await source.start()
  await new Promise(setImmediate)
  source.stop()
  assert.ok(yielded < most)
})

test('an async iterable that throws is reported once and not asked again', async () => {
  async function * peers (): AsyncIterable<string> { throw new Error('registry gone') }
  const { source, system, errors } = watch(peers())
  await source.start()
  await system.advance(peersIntervalMs * 3)
  assert.is(errors.length, 1)
  assert.is(errors[0]?.code, 'REPLICATION_PEERS')
  assert.match(errors[0]?.message ?? '', 'registry gone')
})

test('stop() returns the iterator, and nothing is given or reported after it', async () => {
  let returned = 0
  let answer: (result: IteratorResult<string>) => void = () => {}
  const peers = {
    [Symbol.asyncIterator]: () => ({
      next: async () => await new Promise<IteratorResult<string>>((resolve) => { answer = resolve }),
      return: () => { returned++; throw new Error('of no interest') }
    })
  }
  const { source, system, given, errors } = watch(peers)
  await source.start()
  source.stop()
  source.stop()
  assert.is(returned, 1)
  answer({ done: false, value: 'a:1' })
  await system.settle()
  assert.equal([given, errors], [[], []])
})

test('after stop() an iterable that cannot be returned is asked for no more than it was asked for', async () => {
  let asked = 0
  let answer: (result: IteratorResult<string>) => void = () => {}
  const { source, system } = watch({ [Symbol.asyncIterator]: () => ({ next: async () => { asked++; return await new Promise((resolve) => { answer = resolve }) } }) })
  await source.start()
  source.stop()
  answer({ done: false, value: 'a:1' })
  await system.settle()
  assert.is(asked, 1)
})

test('nor is it told that a function has failed', async () => {
  let fail: (error: Error) => void = () => {}
  const { source, system, errors } = watch(async () => await new Promise((_resolve, reject) => { fail = reject }))
  const started = source.start()
  source.stop()
  fail(new Error('of no interest'))
  await started
  await system.settle()
  assert.equal(errors, [])
})

test('stop() ends a start() that waits for a function', async () => {
  const { source, system } = watch(async () => await new Promise(() => {}))
  const started = source.start()
  source.stop()
  await started
  assert.is(system.timers, 0)
})

test('stop() during a call: its answer is dropped, and it is not asked again', async () => {
  let asked = 0
  let answer: (peers: string[]) => void = () => {}
  const { source, system, given } = watch(async () => { asked++; return await new Promise((resolve) => { answer = resolve }) })
  const started = source.start()
  source.stop()
  answer(['a:1'])
  await started
  await system.advance(peersIntervalMs * 2)
  assert.is(asked, 1)
  assert.equal(given, [])
  assert.is(system.timers, 0)
})

test('an onAddresses that throws is reported', async () => {
  const { source, errors } = watch(['a:1'], () => { throw new Error('ours') })
  await source.start()
  assert.equal(errors.map(({ code }) => code), ['REPLICATION_PEERS'])
})

test.run()
