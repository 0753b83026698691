import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FileInPlace } from '../../lib/storage/file-in-place.ts'
import { newDirectory } from '../support/directory.ts'

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

test.run()
