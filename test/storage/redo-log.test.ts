import { readFile } from 'node:fs/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { crc32, crc32ByTable } from '../../lib/codec/crc32.ts'
import { redoAreaBytes } from '../../lib/limits.ts'
import { AreaFull, missingChanges, RedoLog, seedOf, type Redo } from '../../lib/storage/redo-log.ts'
import { MemoryRedoFile } from '../support/store.ts'

const epoch = 'epoch'

/** A redo log over a file, and a way to append a record with one key to it. */
function open (file = new MemoryRedoFile(), name = epoch): { file: MemoryRedoFile, redo: RedoLog, append: (number: number, key: string, value?: string) => void } {
  const redo = new RedoLog(file)
  redo.begin(name)
  return {
    file,
    redo,
    append: (number, key, value = 'value') => {
      redo.put(Buffer.from(key), value)
      redo.append(number)
    }
  }
}

/** The keys of what is missing, batch by batch. */
function missing ({ bytes }: MemoryRedoFile, last: number, name = epoch): string[] {
  return [...missingChanges(bytes, seedOf(name), last)].map((changes) => changes.map(({ key }) => key.toString()).join(' '))
}

test('what the engine lacks is given to it batch by batch, in the order in which it was written', () => {
  const { file, append } = open()
  append(7, 'a')
  append(7, 'b')
  append(8, 'c')
  assert.equal(missing(file, 6), ['a b', 'c'])
  assert.equal(missing(file, 7), ['c'])
  assert.equal(missing(file, 8), [])
})

test('changes come back as they were: puts of bytes and of text, empty ones, and deletes', () => {
  const { file, redo } = open()
  const taken: unknown[] = []
  const recording = redo.recording({ put: (key, value) => { taken.push([key, value]) }, del: (key) => { taken.push([key]) } })
  recording.put(Buffer.from([0, 255]), Buffer.from([1, 2]))
  recording.put(Buffer.alloc(0), '')
  recording.put(Buffer.from('text'), 'ü€😀')
  recording.del(Buffer.from('gone'))
  redo.append(1)
  assert.is(taken.length, 4)
  assert.equal([...missingChanges(file.bytes, seedOf(epoch), 0)], [[
    { type: 'put', key: Buffer.from([0, 255]), value: Buffer.from([1, 2]) },
    { type: 'put', key: Buffer.alloc(0), value: Buffer.alloc(0) },
    { type: 'put', key: Buffer.from('text'), value: Buffer.from('ü€😀') },
    { type: 'del', key: Buffer.from('gone') }
  ]] satisfies Redo[][])
})

test('what is left of earlier batches in an area is not taken for a part of the next one', () => {
  const { file, append } = open()
  for (const key of ['a', 'b', 'c']) append(1, key)
  append(2, 'd')
  append(3, 'e')
  assert.equal(missing(file, 0), [], 'the first batch is not there any more')
  assert.equal(missing(file, 1), ['d', 'e'])
  assert.equal(missing(file, 2), ['e'])
})

test('the records of an earlier epoch count for nothing, whatever their numbers', () => {
  const file = new MemoryRedoFile()
  const before = open(file, 'before')
  for (const key of ['a', 'b', 'c']) before.append(1, key)
  const after = open(file, 'after')
  after.append(1, 'x')
  assert.equal(missing(file, 0, 'after'), ['x'])
  assert.equal(missing(file, 0, 'before'), [])
})

test('a record that is torn, at whichever byte, ends what is redone; nothing behind it counts', () => {
  const { file, append } = open()
  append(1, 'a')
  const begin = file.bytes.length
  append(1, 'b')
  const end = file.bytes.length
  append(1, 'c')
  append(2, 'd')
  const whole = Buffer.from(file.bytes)
  for (let position = begin; position < end; position++) {
    file.bytes = Buffer.from(whole)
    file.bytes[position]! ^= 0x5a
    assert.equal(missing(file, 0), ['a'], `byte ${position}`)
    file.bytes = whole.subarray(0, position)
    assert.equal(missing(file, 0), ['a'], `cut at ${position}`)
  }
})

test('where nothing was written there is no record, whatever checksums begin with', () => {
  assert.equal([...missingChanges(Buffer.alloc(100), 0, 1)], [])
})

test('a record that could not be written ends what is redone, until the engine has that batch', () => {
  const { file, redo, append } = open()
  append(1, 'a')
  file.beforeWrite = () => { throw new Error('disk full') }
  assert.throws(() => { append(1, 'b') }, /disk full/)
  file.beforeWrite = () => {}
  append(2, 'c')
  assert.equal(missing(file, 0), ['a'])
  assert.equal(missing(file, 1), ['c'])
  assert.ok(redo.takes(2, 1000))
})

test('an area takes so much and no more, and the other one is not touched', async () => {
  const { file, redo, append } = open()
  append(1, 'other')
  const value = 'x'.repeat(redoAreaBytes / 4)
  for (const key of ['a', 'b', 'c']) append(2, key, value)
  assert.not.ok(redo.takes(2, value.length))
  assert.ok(redo.takes(3, value.length))
  assert.throws(() => { append(2, 'd', value) }, (error: unknown) => error instanceof AreaFull)
  assert.equal(missing(file, 0), ['other', 'a b c'])
})

test('what a batch has left of a record is not written with that of the next one', () => {
  const { file, redo, append } = open()
  redo.put(Buffer.from('half'), '')
  redo.recording({ put () {}, del () {} })
  append(1, 'a')
  assert.equal(missing(file, 0), ['a'])
})

test('the record of FORMAT.md is what the code writes', async () => {
  const text = await readFile(new URL('../../lib/storage/FORMAT.md', import.meta.url), 'utf8')
  const { file, redo, append } = open(undefined, 'nonce')
  for (const number of [5, 6, 7]) append(number, 'k')
  const recording = redo.recording({ put () {}, del () {} })
  recording.put(Buffer.from('a'), 'one')
  recording.del(Buffer.from('b'))
  redo.append(8)
  const [, example] = /```hex-redo\n(.*)\n```/.exec(text)!
  const bytes = example!.replaceAll(' ', '')
  assert.is(file.bytes.toString('hex', 0, bytes.length / 2), bytes)
})

test('the checksum is that of zlib, with the one by the table, of what comes in parts, too', () => {
  assert.is(crc32ByTable('123456789'), 0xcbf43926)
  assert.is(crc32ByTable(Buffer.from('56789'), crc32ByTable('1234')), 0xcbf43926)
  for (const size of [0, 1, 255, 10_000]) {
    const bytes = Buffer.from(Array.from({ length: size }, (_, index) => index * 7))
    assert.is(crc32ByTable(bytes, 5), crc32(bytes, 5))
  }
})

test.run()
