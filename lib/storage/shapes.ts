/**
 * One object of each kind that comes and goes with every batch, so that there always is one.
 *
 * V8 forgets the hidden class of objects when a full garbage collection finds none of them, and with it all code that was
 * compiled for it. A process that had such a collection while nothing was being written would write at half its speed, or
 * less, until that code has been compiled again, tens of thousands of writes later.
 */
import { ByteReader, ByteWriter } from '../codec/bytes.ts'
import { EncodedEntries, writeEntry } from '../codec/entry.ts'
import { EntryScan } from '../codec/entry-scan.ts'
import { hlcMax } from '../core/hlc.ts'
import { logIdBytes, type LogId } from '../core/ids.ts'
import { InnerBatch } from './inner-batch.ts'
import { LocalBatch } from './local-batch.ts'
import { Memtable } from './memtable.ts'
import { Merger } from './merge.ts'
import { Recording } from './redo-log.ts'
import { UnitEntries } from './unit.ts'

const bytes = Buffer.of(0)
const entry = new ByteWriter(64)
writeEntry(entry, { key: bytes, siblings: [{ type: 'put', log: '\0'.repeat(logIdBytes) as LogId, sequence: 1, hlc: hlcMax }], values: [Buffer.alloc(64)] })
// The hidden class says of which kind the numbers in a scan are: it has to have read an entry, and not as one of those that it leaves to the decoder.
const scan = new EntryScan(entry.take())
scan.next()
const inner = new InnerBatch(undefined as never, undefined as never, false)

export const shapes: readonly object[] = [
  scan,
  new ByteReader(bytes),
  new EncodedEntries(bytes),
  new Memtable(),
  new UnitEntries(),
  inner,
  new Recording(undefined as never, undefined as never),
  new LocalBatch({ inner, isLocal: true, isRecorded: true }),
  new Merger(undefined as never, inner, undefined as never, async () => {})
]
