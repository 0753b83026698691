/**
 * What peers send, as far as it counts once it stands in the redo log: what readers, peers and the next process find then, and
 * what becomes of it when the disk fails.
 */
import { setImmediate } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { recordedUnitsBytesMax, redoPace } from '../../lib/limits.ts'
import { buffers } from '../../lib/storage/engine.ts'
import { meta } from '../../lib/storage/keyspaces.ts'
import type { MergeReport } from '../../lib/storage/merge.ts'
import { keyText } from '../../lib/storage/memtable.ts'
import { checkEqual, checkInvariants } from '../support/invariants.ts'
import { failBatch, holdBatches, LiveStream, MemoryRedoFile, openReplica, pull, put, type TestReplica } from '../support/store.ts'

interface Pair {
  readonly writer: TestReplica
  readonly reader: TestReplica
  readonly stream: LiveStream
  readonly file: MemoryRedoFile
  readonly reports: MergeReport[]
  /** Of each batch that was told of, whether it was said to be the reader's own. */
  readonly told: boolean[]
}

/** A writer and a reader that gets its units, and whose redo log is in memory. */
async function openPair (): Promise<Pair> {
  const file = new MemoryRedoFile()
  const reports: MergeReport[] = []
  const told: boolean[] = []
  const writer = await openReplica()
  await writer.put('before', '1')
  const reader = await openReplica({ redoFile: file, reports: () => true, onReport: (report) => { reports.push(report) }, onCommit: (_unit, local) => { told.push(local) } })
  const stream = await LiveStream.open(writer, reader)
  await setImmediate()
  reports.length = told.length = 0
  return { writer, reader, stream, file, reports, told }
}

function found ({ store }: TestReplica, key: string): string | undefined {
  return store.find(key)?.value?.toString()
}

test('a unit counts before the engine has it: it is told, read, covered and acknowledged, and an open gives it to the engine', async () => {
  const { writer, reader, stream, reports, told } = await openPair()
  holdBatches(reader)
  await writer.put('k', '1')
  await writer.store.commit([put('l', '2'), put('l', '3')], false)
  await stream.send()
  assert.equal([found(reader, 'k'), found(reader, 'l')], ['1', '3'])
  for (const key of ['k', 'l']) assert.equal(await reader.versions(key), await writer.versions(key))
  assert.ok(reader.store.vector.dominates(writer.store.vector))
  assert.equal(reports.flatMap(({ changed }) => changed.map(({ keyBytes }) => Buffer.from(keyBytes).toString())), ['k', 'l'])
  assert.equal(told, [false])
  assert.equal(await reader.data(), { before: '1' }, 'the engine does not have it')
  reader.memory.revive()
  const again = await reader.reopened()
  assert.equal(await again.data(), { before: '1', k: '1', l: '3' })
  await checkInvariants(again.engine, { vector: again.store.vector as never })
})

test('deletes of others are found, too; what is written here beside them comes after them', async () => {
  const { writer, reader, stream } = await openPair()
  await writer.put('other', '1')
  await stream.send()
  await reader.store.flush()
  const release = holdBatches(reader)
  await writer.del('before')
  await writer.put('k', '1')
  await stream.send()
  assert.is(reader.store.find('before')?.type, 'del')
  await reader.del('before')
  await reader.del('k')
  await reader.put('other', '2')
  assert.equal([...reader.store.pending()!].map(([key, { type, value }]) => [key, type, value?.toString()]), [['before', 'del', undefined], ['k', 'del', undefined], ['other', 'put', '2']])
  release()
  await reader.store.flush()
  assert.equal(await reader.data(), { other: '2' })
  assert.is(reader.store.vector.sequenceOf(reader.store.ownLog), 2, 'of what is not there nothing was deleted')
  await pull(writer, reader)
  await checkEqual([writer.engine, reader.engine])
  await checkInvariants(reader.engine, { vector: reader.store.vector as never })
})

test('keys and values of any bytes are found as they are', async () => {
  const { writer, reader, stream } = await openPair()
  holdBatches(reader)
  const entries = [[Buffer.of(), Buffer.of()], [Buffer.of(0), Buffer.of(0xff, 0x80)], [Buffer.from('ä'), Buffer.alloc(2000, 0xf1)]] as const
  for (const [key, value] of entries) await writer.store.commit([{ type: 'put', key, value }], false)
  await stream.send()
  for (const [key, value] of entries) assert.equal(reader.store.find(keyText(key))?.value ?? reader.store.find(key)?.value, value)
})

test('what the engine fails to take is given to it when it is open again, and told once', async () => {
  for (const isThere of [false, true]) {
    const { writer, reader, stream, reports } = await openPair()
    failBatch(reader, isThere)
    await writer.put('k', '1')
    await stream.send()
    await setImmediate()
    await reader.put('l', '1')
    await reader.store.flush()
    assert.equal(await reader.data(), { before: '1', k: '1', l: '1' })
    assert.is(reports.length, 1)
    assert.equal(reader.errors.map(({ code }) => code), ['LEVEL_IO_ERROR'])
    await checkInvariants(reader.engine, { vector: reader.store.vector as never })
  }
})

test('whoever hears of a unit may fail: it is there all the same, peers hear of it, and what follows gets to the engine', async () => {
  for (const redoFile of [new MemoryRedoFile(), undefined]) {
    const writer = await openReplica()
    const commits: boolean[] = []
    const reader = await openReplica({ redoFile, onReport: () => { throw new Error('a fault of who hears of it') }, onCommit: (_unit, local) => { commits.push(local) } })
    const stream = await LiveStream.open(writer, reader)
    await writer.put('k', '1')
    commits.length = 0
    await stream.send()
    await reader.put('l', '1')
    await reader.store.flush()
    assert.equal(await reader.data(), { k: '1', l: '1' })
    assert.equal(commits, [false, true])
    assert.ok(reader.errors.length > 0)
  }
})

test('where the redo log cannot be written, a unit counts when the engine has it', async () => {
  const { writer, reader, stream, file } = await openPair()
  const release = holdBatches(reader)
  file.beforeWrite = () => { throw new Error('disk full') }
  await writer.put('k', '1')
  const sent = stream.send() as Promise<unknown>
  await setImmediate()
  assert.not(reader.store.vector.dominates(writer.store.vector))
  release()
  await sent
  assert.equal(await reader.data(), { before: '1', k: '1' })
  await checkInvariants(reader.engine, { vector: reader.store.vector as never })
})

test('units are not recorded either for a while after the redo log could not be written', async () => {
  const { writer, reader, stream, file } = await openPair()
  for (const [key, records] of [['failed', 0], ['soon', 0], ['later', 1]] as const) {
    if (key === 'failed') file.failNext()
    if (key === 'later') await reader.system.advance(redoPace.restMs)
    const { written } = file
    await writer.put(key, '1')
    await stream.send()
    assert.is(file.written, written + records, key)
  }
  assert.equal(await reader.data(), { before: '1', failed: '1', soon: '1' })
})

test('much that waits goes to the engine alone, and so does what makes or ends a conflict', async () => {
  const { writer, reader, stream, file } = await openPair()
  let { written } = file
  await writer.put('long', 'x'.repeat(recordedUnitsBytesMax))
  await stream.send()
  assert.is(file.written, written)
  await reader.put('k', '1')
  await writer.put('k', '2')
  written = file.written
  await stream.send()
  assert.is(file.written, written)
  assert.equal((await reader.values('k')).sort(), ['1', '2'])
  await pull(writer, reader)
  const next = await LiveStream.open(writer, reader)
  await writer.put('k', '3')
  await next.send()
  assert.is(file.written, written)
  assert.equal(await reader.values('k'), ['3'])
  await writer.put('l', '1')
  await next.send()
  assert.is(file.written, written + 1)
  await reader.store.flush()
  await checkEqual([writer.engine, reader.engine])
})

test('a new member gets to the engine with a unit that brings nothing else', async () => {
  const { writer, reader } = await openPair()
  const member = 'ab'.repeat(16)
  reader.store.members.acknowledge(member, [])
  await reader.store.intake.apply({ stream: reader.store.vector.clone(), before: [], changes: [...writer.store.vector], collected: [], entries: [], bytes: 1 })
  assert.not(reader.store.members.hasNew)
  await reader.put('k', '1')
  await reader.store.flush()
  assert.ok(await reader.engine.get(meta.member(member), buffers) !== undefined)
})

test('what a peer has collected is not recorded: it goes beyond what keys hold', async () => {
  const { writer, reader, stream, file } = await openPair()
  await writer.del('before')
  await stream.send()
  const { written } = file
  await reader.store.intake.apply({ stream: reader.store.vector.clone(), before: [], changes: [], collected: [...writer.store.vector], entries: [], bytes: 1 })
  assert.is(file.written, written)
  assert.ok(reader.store.collected.dominates(writer.store.vector))
  await checkInvariants(reader.engine, { vector: reader.store.vector as never })
})

test.run()
