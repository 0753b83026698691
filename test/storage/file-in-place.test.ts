import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, symlinkSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FileInPlace } from '../../lib/storage/file-in-place.ts'
import { newDirectory } from '../support/directory.ts'

const onLinux = process.platform === 'linux' ? test : test.skip

function newFile (): { directory: string, file: FileInPlace } {
  const directory = newDirectory()
  mkdirSync(directory)
  return { directory, file: new FileInPlace(join(directory, 'file')) }
}

test('it is made by the first write, and what is written next stands where it is said to', () => {
  const { file } = newFile()
  assert.not(existsSync(file.path))
  file.write(Buffer.from('abcdef'), 0)
  file.write(Buffer.from('XY'), 1)
  assert.is(readFileSync(file.path, 'latin1'), 'aXYdef')
  file.sync()
  file.close()
  file.close()
  file.write(Buffer.from('Z'), 3)
  assert.is(readFileSync(file.path, 'latin1'), 'aXYZef')
  file.close()
})

test('once it has been let go of, what is in its place is written', () => {
  const { directory, file } = newFile()
  file.write(Buffer.from('old'), 0)
  renameSync(directory, `${directory}.moved`)
  mkdirSync(directory)
  file.close()
  file.write(Buffer.from('new'), 0)
  assert.is(readFileSync(file.path, 'latin1'), 'new')
  assert.is(readFileSync(join(`${directory}.moved`, 'file'), 'latin1'), 'old')
  file.close()
})

test('what cannot be written throws, and the next write finds what is there then', () => {
  const { file } = newFile()
  mkdirSync(file.path)
  assert.throws(() => { file.write(Buffer.from('a'), 0) }, /EISDIR/)
  rmdirSync(file.path)
  file.write(Buffer.from('a'), 0)
  assert.is(readFileSync(file.path, 'latin1'), 'a')
  file.close()
})

onLinux('after a write that fails what is in its place then is written', () => {
  const { file } = newFile()
  symlinkSync('/dev/full', file.path)
  assert.throws(() => { file.write(Buffer.from('a'), 0) }, /ENOSPC/)
  unlinkSync(file.path)
  file.write(Buffer.from('new'), 0)
  assert.is(readFileSync(file.path, 'latin1'), 'new')
  file.close()
})

onLinux('it takes one descriptor while it is written, and none once it has been let go of', () => {
  const { file } = newFile()
  const open = (): number => readdirSync('/proc/self/fd').length
  const before = open()
  for (let count = 0; count < 5; count++) {
    for (let write = 0; write < 5; write++) file.write(Buffer.from('a'), 0)
    assert.is(open(), before + 1)
    file.close()
    assert.is(open(), before)
  }
})

test.run()
