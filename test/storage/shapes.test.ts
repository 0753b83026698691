/**
 * The objects that are kept lest V8 should forget their hidden classes have those that objects in use have.
 */
import { setFlagsFromString } from 'node:v8'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteReader, ByteWriter } from '../../lib/codec/bytes.ts'
import { EncodedEntries, writeEntry } from '../../lib/codec/entry.ts'
import { EntryScan } from '../../lib/codec/entry-scan.ts'
import type { LogId } from '../../lib/core/ids.ts'
import { VersionVector } from '../../lib/core/version-vector.ts'
import { Derivation } from '../../lib/storage/derive.ts'
import { openBatch } from '../../lib/storage/engine.ts'
import { InnerBatch } from '../../lib/storage/inner-batch.ts'
import { LocalBatch } from '../../lib/storage/local-batch.ts'
import { Memtable } from '../../lib/storage/memtable.ts'
import { Merger } from '../../lib/storage/merge.ts'
import { openState } from '../../lib/storage/opening.ts'
import { RedoLog } from '../../lib/storage/redo-log.ts'
import { shapes } from '../../lib/storage/shapes.ts'
import { UnitEntries } from '../../lib/storage/unit.ts'
import { MemoryRedoFile, openReplica } from '../support/store.ts'

setFlagsFromString('--allow-natives-syntax')
const haveSameMap = new Function('a', 'b', 'return %HaveSameMap(a, b)') as (a: object, b: object) => boolean // eslint-disable-line no-new-func

const log = 'a log id' as LogId
const hlc = 2 ** 52

test('a scan of entries, also after it has read some', () => {
  const writer = new ByteWriter(64)
  for (let sequence = 1; sequence < 100; sequence++) writeEntry(writer, { key: Buffer.of(sequence), siblings: [{ type: 'put', log, sequence, hlc }], values: [Buffer.alloc(100)] })
  const bytes = writer.take()
  expectKept(new EntryScan(bytes), (scan) => { while (scan.next()); })
  expectKept(new ByteReader(bytes), (reader) => { reader.varint() })
  expectKept(new EncodedEntries(bytes), (entries) => [...entries])
})

test('what notes the keys of a batch', () => {
  expectKept(new Memtable(), (memtable) => {
    memtable.begin({ log, sequence: 1, hlc })
    memtable.add({ type: 'put', key: 'k', value: 'v' })
    memtable.acknowledge()
  })
  expectKept(new UnitEntries(), (entries) => {
    entries.begin(Buffer.from('k'), 0, 1)
    entries.encode([{ log, sequence: 1, hlc }], [])
  })
})

test('a batch, and what fills it', async () => {
  const { options } = await openReplica()
  const { state } = await openState(options)
  const engineBatch = openBatch(state.engine)
  expectKept(new RedoLog(new MemoryRedoFile()).recording(engineBatch), (recording) => { recording.put(Buffer.of(0), 'v') })
  engineBatch.clear()
  const batch = new InnerBatch(state, engineBatch, true)
  expectKept(batch, () => {
    const sequence = ++state.ownSequence
    batch.setKey('k')
    batch.beginSingle(log, hlc)
    batch.putSingle(sequence, 'v')
    batch.addSingleToUnit('v')
    batch.advance({ log, sequence, hlc })
  })
  await batch.write()
  batch.committed()
  expectKept(batch, () => {})
  expectKept(new LocalBatch({ inner: batch, isLocal: true, isRecorded: false, before: new Memtable() }), (local) => { local.latest('k') })
  const merger = new Merger(state, batch, new Derivation(options), async () => {}, { changed: [], conflicts: [] })
  expectKept(merger, () => { merger.mergeFew([{ key: Buffer.of(1), siblings: [{ type: 'put', log, sequence: 7, hlc }], values: [Buffer.of(1)] }], new VersionVector()) })
})

function expectKept<Thing extends object> (thing: Thing, use: (thing: Thing) => void): void {
  for (let round = 0; round < 20; round++) use(thing)
  assert.ok(shapes.some((kept) => haveSameMap(kept, thing)), thing.constructor.name)
}

test.run()
