import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { redoPace } from '../../lib/limits.ts'
import { checkInvariants } from '../support/invariants.ts'
import { LossyMemory } from '../support/lossy-memory.ts'
import { rejection } from '../support/rejection.ts'
import { del, failReads, holdBatches, MemoryRedoFile, openReplica, pull, put, rest, type ReplicaOptions, type TestReplica } from '../support/store.ts'

async function openWithRedo (options: ReplicaOptions = {}): Promise<TestReplica & { readonly redoFile: MemoryRedoFile }> {
  const redoFile = options.redoFile as MemoryRedoFile ?? new MemoryRedoFile()
  const replica = await openReplica({ ...options, redoFile })
  await rest()
  return Object.assign(replica, { redoFile })
}

/** What the next process finds: the one before has ended, and batches that it had asked for have not come. */
async function afterKill (replica: TestReplica & { readonly redoFile: MemoryRedoFile }): Promise<TestReplica> {
  replica.memory.revive()
  return await replica.reopened({ redoFile: replica.redoFile })
}

test('what is written behind a synced transaction that changes nothing survives the end of the process', async () => {
  const replica = await openWithRedo()
  await replica.put('before', '1')
  await replica.store.flush()
  holdBatches(replica)
  void replica.store.commit([del('absent')], true)
  await rest()
  let isAcknowledged = false
  void replica.put('behind', '1').then(() => { isAcknowledged = true })
  await rest()
  const next = await afterKill(replica)
  assert.ok(!isAcknowledged || (await next.data()).behind === '1')
})

test('of what an open has taken from the redo log nothing is lost without a trace, whatever batch LevelDB loses of its write-ahead log', async () => {
  const memory = await LossyMemory.open()
  const replica = await openWithRedo({ engine: memory.asEngine })
  holdBatches(replica)
  await replica.put('flying', '1')
  await replica.system.advance(redoPace.keptMs)
  await replica.put('open', '1')
  const { redoFile, identity, system } = replica
  const killed = await memory.reopenedWithout(new Set())
  const next = await openReplica({ engine: killed.asEngine, redoFile, identity, system })
  assert.equal(await next.data(), { flying: '1', open: '1' })
  for (let lost = 0; lost < killed.logLength - 1; lost++) {
    const damaged = await openReplica({ engine: (await killed.reopenedWithout(new Set([lost]))).asEngine, redoFile, identity: identity.clone(), system })
    if (damaged.errors.some(({ code }) => code === 'REPLICATION_HOLE')) continue
    assert.equal(await damaged.data(), { flying: '1', open: '1' }, `without batch ${lost} of ${killed.logLength}`)
    await checkInvariants(damaged.engine, { vector: damaged.store.vector as never })
  }
})

test('what a batch added after a failed write to the redo log gets into no later record', async () => {
  const replica = await openWithRedo()
  const release = holdBatches(replica)
  await replica.put('first', '1')
  await replica.system.advance(redoPace.keptMs)
  replica.redoFile.failNext()
  const unrecorded = replica.put('k', 'unrecorded')
  await rest()
  const stale = replica.put('k', 'stale')
  await rest()
  release()
  await Promise.all([unrecorded, stale])
  await replica.put('k', 'newer')
  await replica.system.advance(redoPace.restMs)
  holdBatches(replica)
  await replica.put('other', '1')
  const next = await afterKill(replica)
  assert.equal(await next.data(), { first: '1', k: 'newer', other: '1' })
  await checkInvariants(next.engine, { vector: next.store.vector as never })
})

test('a checkpoint that was to be written with a failed batch is written with a later one', async () => {
  const other = await openReplica()
  await other.put('other', '1')
  const replica = await openWithRedo()
  await pull(replica, other)
  await replica.put('a', '1')
  replica.memory.failNext()
  // The batch that has 'a' is to have a checkpoint, too.
  await replica.store.housekeeping.trim()
  for (let round = 0; round < 3; round++) {
    await replica.put('b', String(round))
    await replica.store.flush()
    await replica.store.housekeeping.trim()
  }
  const next = await afterKill(replica)
  assert.equal(sorted(next.store.vector), sorted(replica.store.vector))
})

function sorted (vector: Iterable<{ readonly log: string, readonly sequence: number }>): string[] {
  return [...vector].map(({ log, sequence }) => `${log} ${sequence}`).sort()
}

test('of a batch that the redo log holds in part, nothing else counts when the engine has it from there', async () => {
  const untilItSucceeds = async (look: () => Promise<void>): Promise<void> => { await look().catch(async () => { await untilItSucceeds(look) }) }
  const replica = await openWithRedo({ reopen: untilItSucceeds })
  const release = holdBatches(replica)
  await replica.put('first', '1')
  await replica.system.advance(redoPace.keptMs)
  await replica.put('recorded', '1')
  replica.redoFile.failNext()
  const unrecorded = rejection(replica.put('unrecorded', '1'))
  await rest()
  replica.memory.revive()
  let asked = 0
  const { _batch } = replica.memory
  replica.memory._batch = async (operations, options) => {
    asked++
    if (asked === 2) await _batch.call(replica.memory, operations, options) // it is there all the same
    if (asked <= 2) throw new Error('disk full')
    await _batch.call(replica.memory, operations, options)
  }
  release()
  assert.ok(await unrecorded)
  await rest()
  assert.equal(await replica.data(), { first: '1', recorded: '1' })
  assert.is(replica.store.vector.sequenceOf(replica.store.ownLog), 2)
})

test('a record that stands there although its write has failed is not given to the engine behind the one before it', async () => {
  const replica = await openWithRedo()
  const peer = await openReplica()
  await replica.put('first', '1')
  const { write } = replica.redoFile
  replica.redoFile.write = (bytes, position) => {
    write.call(replica.redoFile, bytes, position)
    throw new Error('input/output error')
  }
  replica.memory.failNext()
  assert.is((await rejection(replica.put('failed', '1'))).code, 'REPLICATION_WRITE_INDETERMINATE')
  replica.redoFile.write = write
  await rest()
  assert.equal(await replica.data(), { first: '1' })
  await pull(peer, replica)
  await replica.put('next', '1')
  await pull(peer, replica)
  assert.equal(await peer.data(), await replica.data())
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

/** One whose directory is moved away, and another one put in its place. */
class MovedRedoFile extends MemoryRedoFile {
  isElsewhere = false

  override write (bytes: Buffer, position: number): void {
    if (!this.isElsewhere) super.write(bytes, position)
  }

  override close (): void {
    this.isElsewhere = false
  }
}

test('when the engine is open again, the redo log is written to where that is now', async () => {
  const redoFile = new MovedRedoFile()
  const replica = await openWithRedo({ redoFile })
  redoFile.isElsewhere = true
  replica.memory.failNext()
  await rejection(replica.store.flush())
  await rest()
  holdBatches(replica)
  await replica.put('after', '1')
  assert.equal(await (await afterKill(replica)).data(), { after: '1' })
})

test('a del that fails does not hide the value from the next one', async () => {
  const replica = await openWithRedo()
  await replica.put('k', '1')
  await replica.system.advance(redoPace.keptMs)
  await rest()
  await replica.put('other', '1')
  const release = holdBatches(replica)
  const mend = failReads(replica)
  assert.ok(await rejection(replica.del('k')))
  mend()
  const deleted = replica.del('k')
  await rest()
  release()
  await deleted
  await replica.store.flush()
  assert.equal(await replica.data(), { other: '1' })
})

test('a snapshot that cannot be taken is an error for the one who asked', async () => {
  const replica = await openWithRedo()
  await replica.put('a', '1')
  const { snapshot } = replica.memory
  replica.memory.snapshot = (): never => { throw new Error('no snapshot') }
  const error = await rejection(replica.store.atMoment(() => replica.engine.snapshot()))
  assert.is((error as Error).message, 'no snapshot')
  replica.memory.snapshot = snapshot
  await replica.put('b', '1')
  await replica.store.flush()
  assert.equal(await replica.data(), { a: '1', b: '1' })
})

test('a synced write that counts already is not refused when the batch before it fails', async () => {
  const replica = await openWithRedo()
  const release = holdBatches(replica)
  await replica.put('first', '1')
  await replica.system.advance(redoPace.keptMs)
  const synced = rejection(replica.store.commit([put('synced', '1')], true))
  await rest()
  release(new Error('disk full'))
  assert.is((await synced).code, 'REPLICATION_WRITE_INDETERMINATE')
  await rest()
  assert.equal(await replica.data(), { first: '1', synced: '1' })
})

test('what is added in the moment in which the batch before it fails is refused, and then is not there', async () => {
  const replica = await openWithRedo({ reopen: async (look) => { await rest(); await look() } })
  const { memory } = replica
  await replica.put('first', '1')
  let refused: Promise<Error & { code: string }> | undefined
  memory.beforeBatch = () => {
    memory.revive()
    refused = rejection(replica.put('second', '1')) as typeof refused
    throw new Error('disk full')
  }
  await replica.system.advance(redoPace.keptMs)
  assert.is((await refused)?.code, 'LEVEL_IO_ERROR')
  await rest()
  await replica.put('third', '1')
  await replica.store.flush()
  assert.equal(await replica.data(), { first: '1', third: '1' })
  assert.equal(await (await afterKill(replica)).data(), { first: '1', third: '1' })
})

test('while the engine gets from the redo log what counts of a batch, it gets nothing of the next one, of which more comes', async () => {
  const replica = await openWithRedo()
  const { redoFile } = replica
  await replica.put('counts', '1')
  const read = redoFile.read.bind(redoFile)
  let goOn = (): void => {}
  redoFile.read = async () => {
    await new Promise<void>((resolve) => { goOn = resolve })
    return await read()
  }
  const mend = failReads(replica)
  assert.ok(await rejection(replica.del('absent')))
  mend()
  await rest()
  await replica.put('next', '1')
  redoFile.read = read
  goOn()
  await rest()
  assert.equal(await replica.data(), { counts: '1' })
  await replica.put('last', '1')
  const next = await afterKill(replica)
  assert.equal(await next.data(), { counts: '1', next: '1', last: '1' })
  await checkInvariants(next.engine, { vector: next.store.vector as never })
})

test('behind a record that may be there or not nothing counts before the engine has what is before it, also if a transaction fails meanwhile', async () => {
  const replica = await openWithRedo()
  const release = holdBatches(replica)
  await replica.put('flying', '1')
  await replica.system.advance(redoPace.keptMs)
  replica.redoFile.failNext()
  const unrecorded = rejection(replica.put('unrecorded', '1'))
  await rest()
  const mend = failReads(replica)
  await rejection(replica.del('absent'))
  mend()
  assert.is((await unrecorded).code, 'REPLICATION_WRITE_INDETERMINATE')
  await replica.system.advance(redoPace.restMs)
  let counts = false
  const put = replica.put('next', '1').then(() => { counts = true })
  await rest()
  assert.not(counts)
  release()
  await put
  const next = await afterKill(replica)
  assert.equal(await next.data(), { flying: '1', next: '1' })
})

test('what counts and is not in the redo log any more, when the engine is to get it from there, is missed', async () => {
  const replica = await openWithRedo()
  await replica.put('counts', '1')
  replica.redoFile.bytes = Buffer.alloc(0)
  const mend = failReads(replica)
  assert.ok(await rejection(replica.del('absent')))
  mend()
  await rest()
  assert.is(replica.errors.at(-1)?.code, 'REPLICATION_CORRUPT')
  assert.is((await rejection(replica.put('next', '1'))).code, 'REPLICATION_CORRUPT')
})

test('of a transaction that did not get into the redo log nothing is read alone, not where the engine has all of it and nobody knows yet', async () => {
  const replica = await openWithRedo()
  const { memory } = replica
  await replica.put('k', '1')
  const { _batch } = memory
  let goOn = (): void => {}
  memory._batch = async (operations, options) => {
    await new Promise<void>((resolve) => { goOn = resolve })
    await _batch.call(memory, operations, options)
    await new Promise<void>((resolve) => { goOn = resolve })
  }
  replica.redoFile.failNext()
  const written = replica.store.commit([put('k', '2'), put('j', '2')], false)
  const seen = async (): Promise<object> => {
    const data = await replica.data()
    for (const [key, { value }] of replica.store.pending() ?? []) data[key] = String(value)
    return data
  }
  for (let stage = 0; stage < 2; stage++) {
    await rest()
    const found = await seen() as { k: string, j?: string }
    assert.is(found.j, found.k === '2' ? '2' : undefined, `stage ${stage}`)
    goOn()
  }
  await written
  assert.equal(await seen(), { j: '2', k: '2' })
})

test('of transactions that fail with another one nothing is read, nor does it count for a del', async () => {
  const replica = await openWithRedo()
  await replica.put('k', '1')
  const mend = failReads(replica)
  const failed = [replica.put('l', '1'), replica.store.commit([del('k'), del('absent')], false)].map(rejection)
  mend()
  await Promise.all(failed)
  assert.is(replica.store.find('l'), undefined)
  assert.is(replica.store.find('k')?.type, 'put')
  await replica.del('k')
  await replica.store.flush()
  assert.equal(await replica.data(), {})
  await checkInvariants(replica.engine, { vector: replica.store.vector as never })
})

test('links are told of what counts of a batch, though a transaction in it has failed', async () => {
  const told: number[] = []
  const replica = await openWithRedo({ onCommit: ({ changes }) => { told.push(...changes.map(({ sequence }) => sequence)) } })
  await replica.put('alone', '1')
  await replica.put('fast', '1')
  const mend = failReads(replica)
  const failed = [replica.put('uncounted', '1'), replica.del('absent')].map(rejection)
  mend()
  await Promise.all(failed)
  await rest()
  assert.equal(told, [1, 2])
})

test('behind a batch of which the redo log lacks the end nothing counts before the engine has that', async () => {
  const replica = await openWithRedo()
  await replica.put('first', '1')
  const release = holdBatches(replica)
  replica.redoFile.failNext()
  const unrecorded = replica.put('unrecorded', '1')
  await rest()
  await replica.system.advance(redoPace.restMs)
  let counts = false
  const next = replica.put('next', '1').then(() => { counts = true })
  await rest()
  assert.not(counts)
  release()
  await Promise.all([unrecorded, next])
})

test('after a batch that was given up what counts is given to the engine after a while, as ever', async () => {
  const replica = await openWithRedo()
  await replica.del('absent')
  const mend = failReads(replica)
  assert.ok(await rejection(replica.del('k')))
  mend()
  await replica.system.advance(redoPace.keptMs)
  await replica.put('a', '1')
  await replica.system.advance(redoPace.keptMs)
  await rest()
  assert.equal(await replica.data(), { a: '1' })
})

test.run()
