/**
 * The journal beside batches in flight.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { LogId } from '../../lib/core/ids.ts'
import { VersionVector } from '../../lib/core/version-vector.ts'
import type { Engine, EngineBatch } from '../../lib/storage/engine.ts'
import { Journal } from '../../lib/storage/journal.ts'
import { meta } from '../../lib/storage/keyspaces.ts'

const log = 'a log id' as LogId

/** Says which keys a batch of these advances writes. */
function add (journal: Journal, sequence: number): string[] {
  const keys: string[] = []
  journal.add({ put: (key: Buffer) => { keys.push(key.toString('latin1')) } } as unknown as EngineBatch, [{ log, sequence, hlc: sequence }])
  return keys
}

test('a checkpoint that is ready while a batch is in flight is for the batch after', async () => {
  const journal = new Journal(1, 1, [])
  add(journal, 1)
  journal.committed([{ log, sequence: 1, hlc: 1 }])
  const checkpoint = meta.checkpoint.toString('latin1')

  assert.not.ok(add(journal, 2).includes(checkpoint))
  await journal.take({} as Engine, new VersionVector([{ log, sequence: 1, hlc: 1 }]))
  journal.committed([{ log, sequence: 2, hlc: 2 }])
  assert.ok(journal.writesCheckpoint)
  assert.ok(add(journal, 3).includes(checkpoint))
  journal.committed([{ log, sequence: 3, hlc: 3 }])
  assert.not.ok(journal.writesCheckpoint)
})

test.run()
