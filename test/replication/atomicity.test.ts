/**
 * A batch becomes visible on another replica as a whole, and never before what its author had seen.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../support/eventually.ts'
import { addressOf, closeAll, equal, linked, openDatabase } from '../support/replicas.ts'

const test = suite('atomic and causal')
test.after.each(closeAll)

for (const [name, valueBytes, batches] of [['small batches', 20, 300], ['batches of 5 MB', 50_000, 8]] as const) {
  test(`a reader that never stops sees ${name} whole or not at all, while live`, async () => {
    const writer = await openDatabase()
    const reader = await openDatabase()
    reader.replication.connect(addressOf(writer))
    await linked(reader, writer)
    const keys = Array.from({ length: 100 }, (_, index) => `key-${index}`)
    const writing = new AbortController()
    let looks = 0
    const seen = new Set<string | undefined>()
    const reading = (async () => {
      while (!writing.signal.aborted) {
        const snapshot = reader.snapshot()
        const values = await reader.getMany(keys, { snapshot })
        await snapshot.close()
        looks++
        seen.add(values[0]?.slice(0, 8))
        assert.ok(values.every((value) => value?.slice(0, 8) === values[0]?.slice(0, 8)), 'a batch is torn')
      }
    })()
    const hasSeenSome = (): boolean => looks > 10 && seen.size > 1
    for (let round = 0; round < batches || !hasSeenSome(); round++) {
      const value = String(round).padStart(8, '0').padEnd(valueBytes, '.')
      await writer.batch(keys.map((key) => ({ type: 'put', key, value })))
      // A peer that falls behind what is kept in memory catches up key by key: that is the limit of the promise.
      if (valueBytes > 1000) await equal(writer, reader)
    }
    await equal(writer, reader)
    writing.abort()
    await reading
  })
}

test('in a ring of four, no replica shows an effect before its cause', async () => {
  const replicas = await Promise.all(Array.from({ length: 4 }, async () => await openDatabase()))
  for (let index = 0; index < 4; index++) {
    replicas[index]!.replication.connect(addressOf(replicas[(index + 1) % 4]!))
    await linked(replicas[index]!, replicas[(index + 1) % 4]!)
  }
  const running = new AbortController()
  // Each value names the one that its writer had seen: whoever sees a value must see one at least as high elsewhere.
  const watching = replicas.map(async (db) => {
    while (!running.signal.aborted) {
      const snapshot = db.snapshot()
      const [even = '0', odd = '0'] = await db.getMany(['even', 'odd'], { snapshot })
      await snapshot.close()
      assert.ok(Math.abs(Number(even) - Number(odd)) <= 1, `even ${even}, odd ${odd}`)
    }
  })
  for (let turn = 1; turn <= 200; turn++) {
    const db = replicas[turn % 4]!
    const [mine, other] = turn % 2 === 0 ? ['even', 'odd'] : ['odd', 'even']
    const before = turn === 1 ? undefined : String(turn - 1)
    await eventually(async () => await db.get(other) === before)
    await db.put(mine, String(turn))
  }
  await equal(...replicas)
  running.abort()
  await Promise.all(watching)
})

test.run()
