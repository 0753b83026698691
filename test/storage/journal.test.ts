/**
 * The journal beside batches in flight, and how its records go.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import type { LogId } from '../../lib/core/ids.ts'
import { housekeepingDelayMs, journalSlots, journalTrimMin, journalTrimmedAtOnce } from '../../lib/limits.ts'
import type { Engine, EngineBatch } from '../../lib/storage/engine.ts'
import { Journal, loadJournal } from '../../lib/storage/journal.ts'
import { meta } from '../../lib/storage/keyspaces.ts'
import { checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { openReplica, put, type TestReplica } from '../support/store.ts'

const log = 'a log id' as LogId

/** Says which keys a batch of these advances writes. */
function add (journal: Journal, sequence: number): string[] {
  const keys: string[] = []
  journal.add({ put: (key: Buffer) => { keys.push(key.toString('latin1')) } } as unknown as EngineBatch, [{ log, sequence, hlc: sequence }])
  return keys
}

test('a checkpoint that is ready while a batch is in flight is for the batch after', async () => {
  const journal = new Journal({ number: 1, first: 2, checkpoint: 1, changes: [] })
  add(journal, 1)
  journal.committed([{ log, sequence: 1, hlc: 1 }])
  const checkpoint = meta.checkpoint.toString('latin1')

  assert.not.ok(add(journal, 2).includes(checkpoint))
  await journal.take({} as Engine)
  journal.committed([{ log, sequence: 2, hlc: 2 }])
  assert.ok(journal.writesCheckpoint)
  assert.ok(add(journal, 3).includes(checkpoint))
  journal.committed([{ log, sequence: 3, hlc: 3 }])
  assert.not.ok(journal.writesCheckpoint)
})

async function records ({ engine }: TestReplica): Promise<number> {
  return (await engine.keys({ ...meta.all('J'), keyEncoding: 'buffer' }).all()).length
}

test('records that no open needs any more go by themselves, and with a close', async () => {
  const replica = await openReplica()
  for (let index = 0; index < journalTrimMin - 10; index++) await replica.put('a', String(index))
  await replica.system.advance(2 * housekeepingDelayMs)
  assert.ok(await records(replica) > journalTrimMin - 10, 'not yet')
  for (let index = 0; index < 20; index++) await replica.put('a', String(index))
  await replica.system.advance(2 * housekeepingDelayMs)
  assert.ok(await records(replica) < 10)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })

  await replica.store.commit(Array.from({ length: journalTrimMin }, (_, index) => put(`batch${index}`, '')), false)
  for (let index = 0; index < journalTrimMin; index++) await replica.put(`k${index}`, '')
  await replica.system.advance(2 * housekeepingDelayMs)
  assert.ok(await records(replica) > journalTrimMin, 'as many as there are live keys may stay')
  await replica.store.close()
  assert.ok(await records(replica) < 10)
  const again = await replica.reopened()
  assert.ok(again.store.vector.equals(replica.store.vector))
})

test('a close takes no checkpoint, and what it has counted is not counted again', async () => {
  const replica = await openReplica()
  for (let index = 0; index < 20; index++) await replica.put(`k${index}`, '')
  await replica.store.commit([{ type: 'del', key: Buffer.from('k1') }], false)
  const { garbage } = replica.store
  assert.is(garbage.tombstones.count, 1)
  await replica.store.close()
  const { number, checkpoint } = await loadJournal(replica.engine)
  assert.ok(number - checkpoint > 20)
  const again = await replica.reopened()
  assert.equal(again.store.garbage, garbage)
  const crashed = await again.reopened()
  assert.equal(crashed.store.garbage.tombstones, garbage.tombstones, 'the first batch has written a checkpoint')
})

test('also when running numbers have gone round the slots, and go on doing so', async () => {
  const first = await openReplica()
  await first.put('a', '1')
  await first.store.close()
  const near = journalSlots - 20
  await first.engine.batch([
    { type: 'put', key: meta.checkpoint, value: new ByteWriter().varint(near).take() },
    { type: 'put', key: meta.journal(near), value: new ByteWriter().varint(near).varint(0).take() }
  ], { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const replica = await first.reopened()
  for (let index = 0; index < journalTrimMin; index++) await replica.put('a', String(index))
  const trimming = replica.store.housekeeping.trim()
  let written = 0
  const writing = (async () => { for (; written < 200; written++) await replica.put('b', String(written)) })()
  await trimming
  await writing
  assert.ok(await records(replica) < 500)
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
  const again = await replica.reopened()
  assert.ok(again.store.vector.equals(replica.store.vector))
  assert.is(again.errors.length, 0)
})

test('while a checkpoint is slow to be taken no record goes that an open would need', async () => {
  const first = await openReplica()
  await first.put('a', '0')
  await first.store.close()
  const replica = await first.reopened()
  const engine = replica.engine as Engine & { compactRange?: () => Promise<void> }
  let goOn = (): void => {}
  const gone = new Promise<void>((resolve) => { goOn = resolve })
  engine.compactRange = async () => { await gone }
  const { number, checkpoint } = await loadJournal(engine)
  for (let since = number - checkpoint; since < journalSlots - 3; since++) await replica.put('a', String(since))
  // One is in flight and one behind it when a job comes, of which that is not known yet when it is asked for how many there is room.
  const writes = [replica.put('a', 'flying'), replica.put('a', 'last'), replica.store.flush()]
  // And there are a transaction and a job in one round of the writer.
  const source = replica.store.openSource(replica.store.vector)
  writes.push(replica.put('a', 'last'), replica.store.flush())
  for (let turn = 0; turn < 20; turn++) {
    await new Promise((resolve) => { setImmediate(resolve) })
    assert.ok((await loadJournal(engine)).number > number, 'what a crash now would leave can be opened')
  }
  goOn()
  await Promise.all(writes)
  await (await source).close()
})

test('whatever LevelDB loses while records go, the loss is noticed, and nothing but that is missed', async () => {
  const memory = await LossyMemory.open()
  const replica = await openReplica({ engine: memory.asEngine })
  for (let index = 0; index < 4 * journalTrimmedAtOnce; index++) await replica.put('k', String(index))
  let losses = 0
  const loseEach = async (): Promise<void> => {
    for (let lost = Math.max(0, memory.logLength - 8); lost < memory.logLength - 1; lost++) {
      const opened = await openReplica({ engine: (await memory.reopenedWithout(new Set([lost]))).asEngine, identity: replica.identity })
      assert.match(opened.errors[0]!.message, /has lost 1 of/)
      losses++
    }
  }
  const writeOut = memory.engine.compactRange!
  memory.engine.compactRange = async () => {
    await loseEach()
    await writeOut()
  }
  await replica.store.housekeeping.trim()
  assert.ok(await records(replica) < 10)
  await replica.put('k', 'again')
  await loseEach()
  assert.ok(losses > 10, `${losses} losses`)
})

test.run()
