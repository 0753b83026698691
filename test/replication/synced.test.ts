/**
 * `synced()` speaks of the moment at which it was called, at both ends.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { pipe } from 'it-pipe'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Bytes, Duplex } from '../../lib/network/transport.ts'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { closeAll, openDatabase } from '../support/replicas.ts'

const test = suite('synced()')
test.after.each(closeAll)

// Replicas without sockets do not keep a process alive.
const alive = setInterval(() => {}, 1000)
test.after(() => { clearInterval(alive) })

/** Carries bytes on, as long as it is open. */
class Gate {
  #open = true
  readonly #held: Bytes[] = []
  #wake: () => void = () => {}

  /** From now on what comes is kept. */
  shut (): void {
    this.#open = false
  }

  get held (): number {
    return this.#held.length
  }

  /** Lets the first so many pieces of what was kept through, or all, and what follows. */
  release (pieces = Infinity): void {
    if (pieces === Infinity) this.#open = true
    this.#released += Math.min(pieces, this.#held.length)
    this.#wake()
  }

  #released = 0

  readonly through = async function * (this: Gate, source: AsyncIterable<Bytes>): AsyncGenerator<Bytes> {
    const reading = (async () => {
      for await (const bytes of source) {
        this.#held.push(bytes.slice())
        this.#wake()
      }
      this.#ended = true
      this.#wake()
    })()
    while (true) {
      while (this.#held.length > 0 && (this.#open || this.#released > 0)) {
        this.#released = Math.max(0, this.#released - 1)
        yield this.#held.shift()!
      }
      if (this.#ended && this.#held.length === 0) break
      await new Promise<void>((resolve) => { this.#wake = resolve })
    }
    await reading
  }.bind(this)

  #ended = false
}

function connect (a: Duplex, b: Duplex, toA: Gate): void {
  pipe(a.source, b.sink).catch(() => {})
  pipe(b.source, toA.through, a.sink).catch(() => {})
}

test('an acknowledgement that was under way at the call does not count', async () => {
  const a = await openDatabase({ port: false })
  const b = await openDatabase({ port: false })
  const gate = new Gate()
  connect(a.replication.stream(), b.replication.stream(), gate)
  await a.put('a', '1')
  await a.replication.synced()
  gate.shut()
  await b.put('early', '1')
  await eventually(() => b.replication.status().durable[b.replication.status().log] === 1)
  const underWay = gate.held
  assert.ok(underWay > 0, 'an acknowledgement waits')
  await b.put('late', '2')
  let done = false
  const synced = a.replication.synced().then(() => { done = true })
  await eventually(() => gate.held > underWay)
  gate.release(underWay)
  await eventually(async () => await a.get('early') === '1')
  for (let look = 0; look < 50; look++) await new Promise((resolve) => { setTimeout(resolve, 10) })
  assert.is(await a.get('late'), undefined, 'it is still under way')
  assert.not(done, 'b had `late` when synced() was called')
  gate.release()
  await synced
  assert.is(await a.get('late'), '2')
  assert.equal(a.replication.status().durable, b.replication.status().durable)
})

test('calls that come together each wait for their own moment', async () => {
  const a = await openDatabase({ port: false })
  const b = await openDatabase({ port: false })
  const gate = new Gate()
  connect(a.replication.stream(), b.replication.stream(), gate)
  await b.put('first', '1')
  const first = a.replication.synced()
  await first
  gate.shut()
  const second = a.replication.synced()
  await eventually(() => gate.held > 0)
  await b.put('late', '2')
  const before = gate.held
  let done = false
  const third = a.replication.synced().then(() => { done = true })
  gate.release(before)
  for (let look = 0; look < 50; look++) await new Promise((resolve) => { setTimeout(resolve, 10) })
  assert.ok(!done || await a.get('late') === '2', 'resolved before what the peer had at the call is here')
  gate.release()
  await Promise.all([second, third])
  assert.is(await a.get('late'), '2')
})

test('a process stays while it waits, also if it has no socket', () => {
  const child = fileURLToPath(new URL('../support/waiting-child.ts', import.meta.url))
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', child, newDirectory(), newDirectory()], { encoding: 'utf8' })
  assert.equal([status, stdout.split('\n')], [0, ['open', 'REPLICATION_TIMEOUT', 'closed', '']], stderr)
})

test.run()
