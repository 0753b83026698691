import { test } from 'uvu'
import * as assert from 'uvu/assert'
import fc from 'fast-check'
import type { ReplicationError } from '../../lib/errors.ts'
import { backOffMaxMs, backOffMinMs, dialTimeoutMs, metAttemptsMax, metMax, metRetryMs, selfRetryMs, suggestionAttemptsMax, suggestionsMax } from '../../lib/limits.ts'
import { formatAddress } from '../../lib/network/addresses.ts'
import { Dialer } from '../../lib/network/dialer.ts'
import type { Connection, DialOptions, Transport } from '../../lib/network/transport.ts'
import type { Address } from '../../lib/types.ts'
import { MemoryNetwork } from '../support/memory-transport.ts'
import { runs } from '../support/seed.ts'
import { VirtualSystem } from '../support/virtual-system.ts'

const [a, b, c] = [9001, 9002, 9003].map((port) => ({ host: 'far', port })) as [Address, Address, Address]

/** A dialer on a network in memory, that counts what it does. */
function setUp ({ onConnection = () => {} }: { onConnection?: (address: Address) => void } = {}) {
  const system = new VirtualSystem()
  const network = new MemoryNetwork({ system })
  const inner = network.transport('near')
  const dials: Array<{ key: string, atMs: number }> = []
  const underWay = new Map<string, number>()
  let underWayMax = 0
  let perAddressMax = 0
  const transport: Transport = {
    listen: inner.listen,
    dial: async (address: Address, options: DialOptions) => {
      const key = formatAddress(address)
      dials.push({ key, atMs: system.monotonicMs() })
      underWay.set(key, (underWay.get(key) ?? 0) + 1)
      perAddressMax = Math.max(perAddressMax, underWay.get(key) ?? 0)
      underWayMax = Math.max(underWayMax, [...underWay.values()].reduce((sum, count) => sum + count, 0))
      try {
        return await inner.dial(address, options)
      } finally {
        underWay.set(key, (underWay.get(key) ?? 0) - 1)
      }
    }
  }
  const connections: Connection[] = []
  const failures: Array<{ key: string, error: ReplicationError }> = []
  const dialer = new Dialer({
    transport,
    system,
    onConnection: (connection, address) => { connections.push(connection); onConnection(address) },
    onFailed: (address, error) => { failures.push({ key: formatAddress(address), error }) }
  })
  return {
    system,
    network,
    dialer,
    dials,
    connections,
    failures,
    dialsOf: (address: Address) => dials.filter(({ key }) => key === formatAddress(address)).length,
    stateOf: (address: Address) => dialer.states().find((each) => formatAddress(each.address) === formatAddress(address))?.state,
    accept: async (address: Address) => await network.transport(address.host).listen(address, () => {}, assert.unreachable),
    get underWayMax () { return underWayMax },
    get perAddressMax () { return perAddressMax }
  }
}

test('what answers is dialled once, handed on, and left alone once it is linked', async () => {
  const { dialer, system, accept, connections, dials, stateOf } = setUp()
  await accept(a)
  dialer.setAddresses([a, { ...a, host: 'FAR' }])
  assert.is(stateOf(a), 'dialling')
  await system.settle()
  assert.is(connections.length, 1)
  assert.is(stateOf(a), 'dialling')
  dialer.linked(a)
  await system.advance(60_000)
  assert.is(dials.length, 1)
  assert.equal(dialer.states(), [{ address: a, state: 'connected', attempts: 0, lastError: undefined }])
})

test('what fails is dialled again, later and later, never beyond the cap', async () => {
  const { dialer, system, dials, failures } = setUp()
  dialer.add(a)
  await system.advance(60_000)
  const gapsMs = dials.slice(1).map(({ atMs }, i) => atMs - (dials[i]?.atMs ?? 0))
  assert.ok((gapsMs[0] ?? 0) >= backOffMinMs / 2 && (gapsMs[0] ?? 0) <= backOffMinMs)
  assert.ok(gapsMs.slice(10).every((gapMs) => gapMs >= backOffMaxMs / 2 && gapMs <= backOffMaxMs), gapsMs.join())
  assert.is(failures.length, dials.length)
  assert.ok(failures.every(({ error }) => error.code === 'REPLICATION_DIAL_FAILED'))
  const [state] = dialer.states()
  assert.is(state?.state, 'waiting')
  assert.is(state?.attempts, dials.length)
  assert.is(state?.lastError, failures.at(-1)?.error)
})

test('a dial that hangs ends at its time limit', async () => {
  const { dialer, system, network, failures } = setUp()
  network.partition('near', 'far', true)
  dialer.add(a)
  await system.advance(dialTimeoutMs - 1)
  assert.is(failures.length, 0)
  await system.advance(1)
  assert.is(failures.length, 1)
})

test('a connection that ends before it is linked counts as a failure', async () => {
  const { dialer, system, accept, dials, dialsOf } = setUp({ onConnection: (address) => { queueMicrotask(() => { dialer.released(address, new Error('hung up')) }) } })
  await accept(a)
  dialer.add(a)
  await system.advance(60_000)
  assert.ok(dialsOf(a) < 60_000 / backOffMaxMs * 2 + 20, `${dialsOf(a)} dials`)
  assert.ok(dialsOf(a) > 60_000 / backOffMaxMs)
  const gapsMs = dials.slice(1).map(({ atMs }, i) => atMs - (dials[i]?.atMs ?? 0))
  assert.ok(gapsMs.slice(10).every((gapMs) => gapMs >= backOffMaxMs / 2))
  assert.is(dialer.states()[0]?.lastError?.message, 'hung up')
})

test('a link that is lost is dialled again soon, however long the way to it was', async () => {
  const { dialer, system, accept, dialsOf, stateOf } = setUp()
  dialer.add(a)
  await system.advance(60_000)
  await accept(a)
  await system.advance(backOffMaxMs)
  dialer.linked(a)
  assert.equal(dialer.states(), [{ address: a, state: 'connected', attempts: 0, lastError: undefined }])
  await system.advance(backOffMaxMs)
  const before = dialsOf(a)
  dialer.released(a, new Error('lost'))
  assert.is(stateOf(a), 'waiting')
  assert.is(dialsOf(a), before)
  await system.advance(backOffMinMs)
  assert.is(dialsOf(a), before + 1)
})

test('an address whose links all end at once is dialled as seldom as one that does not answer', async () => {
  const { dialer, system, accept, dials, dialsOf } = setUp({
    onConnection: (address) => {
      queueMicrotask(() => {
        dialer.linked(address)
        dialer.kick() // as for everybody who greets
        system.setTimer(() => { dialer.released(address, new Error('refused')) }, 10)
      })
    }
  })
  await accept(a)
  dialer.add(a)
  await system.advance(60_000)
  const gapsMs = dials.slice(1).map(({ atMs }, i) => atMs - dials[i]!.atMs)
  assert.ok(gapsMs.slice(10).every((gapMs) => gapMs >= backOffMaxMs / 2))
  assert.ok(dialsOf(a) > 60_000 / backOffMaxMs)
})

test('released() of what is not linked changes nothing', async () => {
  const { dialer, system, dials } = setUp()
  dialer.released(b)
  dialer.add(a)
  await system.settle()
  for (let i = 0; i < 20; i++) dialer.released(a)
  await system.advance(backOffMinMs)
  assert.is(dials.length, 2)
})

test('a link that came in from the replica behind an address stops the dialling of it', async () => {
  const { dialer, system, network, connections, failures, dialsOf, stateOf } = setUp()
  network.partition('near', 'far', true)
  dialer.add(a)
  await system.settle()
  dialer.linked(a)
  await system.advance(60_000)
  assert.is(stateOf(a), 'connected')
  assert.is(dialsOf(a), 1)
  assert.equal([connections, failures], [[], []])
})

test('an address that is linked before it is known is not dialled beside its link', async () => {
  const { dialer, system, dials, stateOf } = setUp()
  dialer.linked(a)
  assert.equal(dialer.states(), [])
  dialer.setAddresses([a])
  await system.advance(1000)
  assert.is(stateOf(a), 'connected')
  assert.is(dials.length, 0)
  dialer.released(a)
  await system.advance(backOffMinMs)
  assert.is(dials.length, 1)
})

test('good news of an address: it is dialled now, and its back-off begins again', async () => {
  const { dialer, system, dialsOf } = setUp()
  dialer.setAddresses([a, b])
  await system.advance(60_000)
  await system.advance(backOffMinMs)
  const [ofA, ofB] = [dialsOf(a), dialsOf(b)]
  dialer.kick(a)
  assert.ok(dialsOf(a) === ofA + 1 || dialsOf(a) === ofA)
  await system.advance(backOffMinMs)
  assert.ok(dialsOf(a) >= ofA + 1)
  assert.ok(dialsOf(b) <= ofB + 1)
  dialer.kick(c)
  dialer.kick()
  await system.advance(backOffMinMs * 3)
  assert.ok(dialsOf(a) >= ofA + 2)
  assert.ok(dialsOf(b) >= ofB + 2)
})

test('however much good news there is, an address is not dialled more often than every backOffMinMs', async () => {
  const { dialer, system, dials } = setUp()
  dialer.add(a)
  for (let i = 0; i < 1000; i++) {
    dialer.kick()
    await system.advance(1)
  }
  const gapsMs = dials.slice(1).map(({ atMs }, i) => atMs - (dials[i]?.atMs ?? 0))
  assert.ok(gapsMs.slice(1).every((gapMs) => gapMs >= backOffMinMs / 2), gapsMs.join())
  assert.ok(dials.length <= 1000 / (backOffMinMs / 2) + 1)
  assert.ok(dials.length >= 1000 / backOffMinMs)
})

test('a set that replaces takes out what was of the set before, not what was added', async () => {
  const { dialer, system } = setUp()
  const known = (): string[] => dialer.states().map(({ address }) => formatAddress(address))
  dialer.setAddresses([a, b])
  dialer.add(b)
  dialer.setAddresses([c], { replace: true })
  assert.equal(known(), ['far:9002', 'far:9003'])
  dialer.setAddresses([a])
  assert.equal(known(), ['far:9002', 'far:9003', 'far:9001'])
  dialer.remove(b)
  assert.equal(known(), ['far:9003', 'far:9001'])
  await system.settle()
})

test('what stays in a set is not dialled anew for it, however often that is given', async () => {
  const { dialer, system, dialsOf } = setUp()
  dialer.setAddresses([a])
  await system.advance(60_000)
  const before = dialsOf(a)
  for (let passedMs = 0; passedMs < backOffMaxMs; passedMs += 10) {
    dialer.setAddresses([a], { replace: true })
    await system.advance(10)
  }
  assert.ok(dialsOf(a) <= before + 2, `${dialsOf(a) - before} dials`)
  assert.is(dialer.states()[0]!.attempts, dialsOf(a))
})

test('news of an address of the user counts, though nobody was met there; taken out of the set it is still one that was heard of', async () => {
  const { dialer, system, dialsOf } = setUp()
  dialer.remove(a)
  dialer.add(a)
  dialer.setAddresses([b])
  await system.advance(60_000)
  for (const address of [a, b]) {
    for (let round = 0; round < 3; round++) {
      const before = dialsOf(address)
      dialer.suggest(address)
      await system.advance(2 * backOffMinMs)
      assert.ok(dialsOf(address) > before)
      await system.advance(60_000)
    }
  }
  dialer.setAddresses([], { replace: true })
  assert.equal(dialer.states().map(({ address }) => formatAddress(address)), ['far:9001', 'far:9002'])
})

test('what is taken out is not dialled again, and its link is left alone', async () => {
  const { dialer, system, accept, connections, dialsOf } = setUp()
  await accept(a)
  dialer.setAddresses([a, b])
  await system.settle()
  dialer.linked(a)
  dialer.setAddresses([], { replace: true })
  assert.equal(dialer.states(), [])
  dialer.add(a)
  assert.equal(dialer.states().map(({ state }) => state), ['connected'], 'its link is remembered')
  dialer.remove(a)
  const before = dialsOf(b)
  dialer.released(a)
  await system.advance(60_000)
  assert.equal([dialsOf(a), dialsOf(b)], [1, before])
  assert.is(connections.length, 1)
  assert.is(system.timers, 0)
})

test('ourselves: left alone for a while, however often it is named, and dialled again: it may be somebody else then', async () => {
  const { dialer, system, accept, dialsOf, stateOf } = setUp()
  await accept(a)
  dialer.add(a)
  await system.settle()
  dialer.exclude(a)
  dialer.released(a)
  dialer.add(a)
  dialer.setAddresses([a])
  dialer.suggest(a)
  dialer.kick(a)
  dialer.kick()
  await system.advance(selfRetryMs / 2 - 1)
  assert.is(dialsOf(a), 1)
  assert.equal(dialer.states(), [])
  await system.advance(selfRetryMs / 2 + 1)
  assert.is(dialsOf(a), 2)
  dialer.linked(a)
  assert.is(stateOf(a), 'connected')
  await dialer.close()
  assert.is(system.timers, 0)
})

test('a suggestion that is ourselves is forgotten after a few times', async () => {
  const { dialer, system, accept, dialsOf } = setUp()
  await accept(a)
  dialer.suggest(a)
  for (let dials = 0; dials < suggestionAttemptsMax; dials++) {
    await system.advance(selfRetryMs)
    dialer.exclude(a)
  }
  assert.is(dialsOf(a), suggestionAttemptsMax)
  assert.is(system.timers, 0)
})

test('at most 16 dials are under way, in the order of their coming, and everybody has a turn', async () => {
  const context = setUp()
  const { dialer, system, network, dials } = context
  network.partition('near', 'far', true)
  const addresses = Array.from({ length: 40 }, (_, i) => ({ host: 'far', port: 9000 + i }))
  dialer.setAddresses(addresses)
  await system.settle()
  assert.equal(dials.map(({ key }) => key), addresses.slice(0, 16).map(formatAddress))
  await system.advance(dialTimeoutMs)
  assert.equal(dials.map(({ key }) => key), addresses.slice(0, 32).map(formatAddress))
  await system.advance(dialTimeoutMs * 2)
  assert.is(new Set(dials.map(({ key }) => key)).size, 40)
  assert.is(context.underWayMax, 16)
})

test('firstAttempts() is settled when each has been linked or has failed once', async () => {
  const { dialer, system, network, accept } = setUp()
  await accept(a)
  network.partition('near', 'other', true)
  const hanging = { host: 'other', port: 1 }
  dialer.setAddresses([a, b, hanging])
  let settled = false
  dialer.firstAttempts().then(() => { settled = true }, assert.unreachable)
  dialer.add(c)
  await system.settle()
  assert.not(settled)
  dialer.linked(a)
  await system.advance(dialTimeoutMs - 1)
  assert.not(settled)
  await system.advance(1)
  assert.ok(settled)
  await dialer.firstAttempts()
})

test('firstAttempts() does not wait for what was only heard of, nor for what is taken out or is ourselves, nor without addresses, nor after close()', async () => {
  const { dialer, network } = setUp()
  network.partition('near', 'far', true)
  await dialer.firstAttempts()
  dialer.suggest({ host: 'far', port: 1 })
  await dialer.firstAttempts()
  dialer.setAddresses([a, b])
  const attempts = dialer.firstAttempts()
  dialer.remove(a)
  dialer.exclude(b)
  await attempts
  dialer.setAddresses([c])
  const last = dialer.firstAttempts()
  await dialer.close()
  await last
  await dialer.firstAttempts()
})

test('an onConnection that throws closes the connection and counts as a failure', async () => {
  const { dialer, system, accept, connections, failures } = setUp({ onConnection: () => { throw new Error('ours') } })
  await accept(a)
  dialer.add(a)
  await system.settle()
  assert.is(failures[0]?.error.code, 'REPLICATION_INTERNAL')
  assert.is(failures[0]?.error.message, 'ours')
  await assertRejects(async () => { for await (const _ of connections[0]?.source ?? []); })
  assert.is(dialer.states()[0]?.state, 'waiting')
})

test('close() ends dials and waits: no callback, no timer, no connection is left', async () => {
  const { dialer, system, network, accept, connections, failures, dials } = setUp()
  await accept(a)
  network.partition('near', 'other', true)
  dialer.setAddresses([a, b, { host: 'other', port: 1 }])
  await dialer.close()
  dialer.add(c)
  dialer.kick()
  dialer.linked(c)
  await system.advance(60_000)
  assert.equal([connections, failures], [[], []])
  assert.is(dials.length, 3)
  assert.is(system.timers, 0)
  assert.equal(dialer.states(), [])
})

test('a connection that opens although its dial was aborted is closed', async () => {
  const system = new VirtualSystem()
  let open: (connection: Connection) => void = () => {}
  let closed = 0
  const transport = { dial: async () => await new Promise<Connection>((resolve) => { open = resolve }) } as unknown as Transport
  const dialer = new Dialer({ transport, system, onConnection: () => assert.unreachable(), onFailed: () => assert.unreachable() })
  dialer.add(a)
  const end = dialer.close()
  open({ close: () => { closed++ } } as unknown as Connection)
  await end
  assert.is(closed, 1)
})

test('a suggestion is tried a few times, then forgotten, and back when it is heard of again', async () => {
  const { dialer, system, dials } = setUp()
  dialer.suggest(a)
  assert.is(dials.length, 0, 'not in the same moment as everybody else')
  assert.is(dialer.states()[0]?.state, 'waiting')
  await system.advance(60_000)
  assert.is(dials.length, suggestionAttemptsMax)
  assert.equal(dialer.states(), [])
  assert.is(system.timers, 0)
  dialer.suggest(a)
  await system.advance(60_000)
  assert.is(dials.length, 2 * suggestionAttemptsMax)
})

test('a suggestion at which a replica was met is tried for ever, in time more slowly', async () => {
  const { dialer, system, accept, dialsOf } = setUp()
  await accept(a)
  dialer.suggest(a)
  await system.advance(1000)
  dialer.linked(a)
  dialer.released(a)
  await system.advance(1000)
  for (let attempt = 0; attempt < 50; attempt++) {
    dialer.released(a)
    await system.advance(backOffMaxMs)
  }
  assert.ok(dialsOf(a) > 50)
  for (let attempt = 0; attempt < metAttemptsMax; attempt++) {
    dialer.released(a)
    await system.advance(backOffMaxMs)
  }
  const before = dialsOf(a)
  for (let minute = 0; minute < 60; minute++) {
    dialer.released(a)
    await system.advance(metRetryMs)
  }
  assert.ok(dialsOf(a) - before >= 55 && dialsOf(a) - before <= 70, `${dialsOf(a) - before} dials in an hour`)
})

test('news of a suggestion, however often it comes, makes few dials', async () => {
  const { dialer, system, dialsOf } = setUp()
  for (let i = 0; i < 100_000; i += 10) {
    dialer.suggest(a)
    await system.advance(10)
  }
  assert.ok(dialsOf(a) < 200, `${dialsOf(a)} dials in 100 s`)
})

test('nor does news of one where a replica was met', async () => {
  const { dialer, system, dialsOf } = setUp()
  dialer.met(a)
  dialer.released(a)
  for (let i = 0; i < 100_000; i += 10) {
    dialer.suggest(a)
    await system.advance(10)
  }
  assert.ok(dialsOf(a) < 500, `${dialsOf(a)} dials in 100 s`)
})

test('news of one where a replica was met, which comes while it is dialled in vain, counts when that has failed', async () => {
  const { dialer, system, network, dialsOf } = setUp()
  dialer.met(a)
  dialer.released(a)
  await system.advance(metAttemptsMax * backOffMaxMs)
  network.partition('near', 'far', true)
  const before = dialsOf(a)
  while (dialsOf(a) === before) await system.advance(1000)
  dialer.suggest(a)
  await system.advance(dialTimeoutMs + backOffMaxMs)
  assert.is(dialsOf(a), before + 2)
  await system.advance(dialTimeoutMs + metRetryMs / 2 - 1)
  assert.is(dialsOf(a), before + 2, 'once')
})

test('addresses of the user that do not answer do not keep a suggestion from being dialled', async () => {
  const { dialer, system, network, dialsOf } = setUp()
  network.partition('near', 'black', true)
  dialer.setAddresses(Array.from({ length: 12 }, (_, index) => ({ host: 'black', port: 1 + index })))
  dialer.suggest(a)
  await system.advance(1000)
  assert.ok(dialsOf(a) > 0)
})

test('suggestions that do not answer take half of the dials, and what the user gives comes before those that wait', async () => {
  const flood = setUp()
  flood.network.partition('near', 'far', true)
  for (let port = 1; port <= 20; port++) flood.dialer.suggest({ host: 'far', port })
  await flood.system.advance(1000)
  assert.is(flood.underWayMax, 8)
  const { dialer, system, network, dials } = setUp()
  network.partition('near', 'far', true)
  dialer.setAddresses(Array.from({ length: 16 }, (_, index) => ({ host: 'far', port: 1 + index })))
  dialer.suggest(a)
  await system.advance(1000)
  dialer.add(b)
  await system.advance(dialTimeoutMs)
  assert.equal(dials.slice(16, 18).map(({ key }) => key), [b, a].map(formatAddress))
})

test('those of whom there is good news at once are not dialled at once', async () => {
  const { dialer, system, dials } = setUp()
  dialer.setAddresses(Array.from({ length: 5 }, (_, index) => ({ host: 'far', port: 1 + index })))
  await system.advance(60_000)
  dials.length = 0
  dialer.kick()
  await system.advance(backOffMinMs)
  assert.is(new Set(dials.slice(0, 5).map(({ atMs }) => atMs)).size, 5)
})

test('after a long silence a flood of suggestions may begin no more dials than at first', async () => {
  const { dialer, system, dials } = setUp()
  await system.advance(3_600_000)
  for (let port = 1; port <= 1000; port++) {
    dialer.suggest({ host: 'far', port })
    await system.advance(1)
  }
  await system.advance(200)
  const { size } = new Set(dials.map(({ key }) => key))
  assert.ok(size <= 80, `${size} addresses`)
})

test('a flood of suggestions is bounded, lets a good one through, and keeps nobody of the user from his turn', async () => {
  const { dialer, system, network, accept, dialsOf, dials } = setUp({ onConnection: () => {} })
  network.partition('near', 'black', true)
  await accept(a)
  await accept(b)
  for (let i = 0; i < 20_000; i++) dialer.suggest({ host: 'black', port: 1 + i })
  assert.ok(dialer.states().length <= suggestionsMax)
  await system.advance(100)
  dialer.add(a)
  await system.advance(1)
  assert.is(dialsOf(a), 1)
  for (let i = 0; i < 300; i++) {
    for (let j = 0; j < 10; j++) {
      dialer.suggest({ host: 'black', port: 20_000 + i * 10 + j })
      if (i % 10 === 0 && j === 5) dialer.suggest(b)
    }
    await system.advance(1000)
  }
  assert.ok(dialsOf(b) > 0, 'the good one among forged ones')
  assert.ok(dialer.states().length <= suggestionsMax + 1)
  assert.ok(dials.length < 300 * 16, `${dials.length} dials`)
  // Where nobody listens the answer comes at once, and so would the next dial.
  network.partition('near', 'black', false)
  const before = dials.length
  for (let i = 0; i < 20_000; i++) {
    dialer.suggest({ host: 'black', port: 30_000 + i })
    await system.advance(1)
  }
  assert.ok(dials.length - before < 20 * 60, `${dials.length - before} dials in 20 s`)
})

test('a replica that came in is not dialled where it listens while its link lasts, then it is; but what the user gave is', async () => {
  const { dialer, system, dialsOf } = setUp()
  assert.ok(dialer.met(a))
  dialer.suggest(a)
  await system.advance(60_000)
  assert.is(dialsOf(a), 0)
  dialer.released(a)
  await system.advance(backOffMinMs)
  assert.is(dialsOf(a), 1)
  dialer.add(b)
  assert.not(dialer.met(b))
  await system.advance(60_000)
  assert.ok(dialsOf(b) > 5)
})

test('what was removed by hand comes back neither by suggestions nor by the next set, until it is added', async () => {
  const { dialer, system, dialsOf } = setUp()
  dialer.suggest(a)
  dialer.remove(a)
  dialer.suggest(a)
  assert.not(dialer.met(a))
  dialer.setAddresses([a], { replace: true })
  await system.advance(60_000)
  assert.is(dialsOf(a), 0)
  dialer.add(a)
  await system.advance(10)
  assert.is(dialsOf(a), 1)
})

test('replicas met at a thousand addresses: a bounded number is kept', async () => {
  const { dialer, system } = setUp()
  for (let i = 0; i < 1000; i++) {
    dialer.met({ host: 'far', port: 1 + i })
    dialer.released({ host: 'far', port: 1 + i })
  }
  assert.is(dialer.states().length, metMax)
  for (let i = 0; i <= metMax; i++) dialer.met({ host: 'near', port: 1 + i })
  assert.is(dialer.states().filter(({ state }) => state === 'connected').length, metMax + 1, 'but none that is linked is forgotten')
  await dialer.close()
  assert.is(system.timers, 0)
})

test('whatever happens in whatever order: one dial per address, 16 in all, none lost, none after close', async () => {
  const hosts = ['far', 'other']
  const addresses = Array.from({ length: 30 }, (_, i) => ({ host: hosts[i % 2] as string, port: 9000 + i }))
  const some = fc.constantFrom(...addresses)
  const step = fc.oneof(
    fc.record({ act: fc.constantFrom('add', 'remove', 'linked', 'released', 'kick', 'accept', 'suggest', 'met', 'exclude'), address: some }),
    fc.record({ act: fc.constant('set'), set: fc.array(some), replace: fc.boolean() }),
    fc.record({ act: fc.constant('partition'), host: fc.constantFrom(...hosts), on: fc.boolean() }),
    fc.record({ act: fc.constant('advance'), ms: fc.integer({ min: 0, max: 4000 }) })
  )
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
    const context = setUp()
    const { dialer, system, network, accept, stateOf, dials } = context
    const listening = new Set<string>()
    for (const each of steps) {
      if ('set' in each) dialer.setAddresses(each.set, { replace: each.replace })
      else if ('host' in each) network.partition('near', each.host, each.on)
      else if ('ms' in each) await system.advance(each.ms)
      else if (each.act === 'accept') {
        if (!listening.has(formatAddress(each.address))) await accept(each.address)
        listening.add(formatAddress(each.address))
      } else dialer[each.act as 'add' | 'remove' | 'linked' | 'released' | 'kick' | 'suggest' | 'met' | 'exclude'](each.address)
    }
    assert.is(context.perAddressMax <= 1, true, 'two dials of one address')
    assert.ok(context.underWayMax <= 16)
    // Liveness: once the faults are over, whoever is not linked is dialled again.
    for (const host of hosts) network.partition('near', host, false)
    await system.advance(dialTimeoutMs * 2)
    for (const { address, state } of dialer.states()) if (state === 'dialling') dialer.released(address)
    const count = dials.length
    const waiting = dialer.states().filter(({ state }) => state === 'waiting')
    await system.advance(backOffMaxMs)
    for (const { address } of waiting) assert.ok(dials.slice(count).some(({ key }) => key === formatAddress(address)), stateOf(address))
    await dialer.close()
    assert.is(system.timers, 0)
  }), runs(150))
})

async function assertRejects (run: () => Promise<void>): Promise<void> {
  let rejected = false
  await run().catch(() => { rejected = true })
  assert.ok(rejected)
}

test.run()
