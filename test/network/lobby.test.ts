import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { strangersMax, strangersPerHostMax } from '../../lib/limits.ts'
import { Lobby } from '../../lib/network/lobby.ts'

/** A lobby, and who had to leave it. */
function open () {
  const lobby = new Lobby()
  const dismissed: string[] = []
  const enter = (name: string, host: string): object => {
    const key = {}
    lobby.enter(key, host, () => { dismissed.push(name) })
    return key
  }
  return { lobby, dismissed, enter }
}

test('where one host has its full share, its own oldest has to go, and nobody else', () => {
  const { lobby, dismissed, enter } = open()
  enter('other', 'b')
  for (let number = 0; number < strangersPerHostMax + 3; number++) enter(`a${number}`, 'a')
  assert.equal(dismissed, ['a0', 'a1', 'a2'])
  assert.is(lobby.size, strangersPerHostMax + 1)
})

test('where it is full, the oldest of all has to go', () => {
  const { lobby, dismissed, enter } = open()
  for (let number = 0; number < strangersMax + 2; number++) enter(`n${number}`, `h${number}`)
  assert.equal(dismissed, ['n0', 'n1'])
  assert.is(lobby.size, strangersMax)
})

test('who has left makes room, and is not sent away', () => {
  const { lobby, dismissed, enter } = open()
  const first = enter('first', 'a')
  for (let number = 1; number < strangersPerHostMax; number++) enter(`a${number}`, 'a')
  lobby.leave(first)
  enter('last', 'a')
  assert.equal(dismissed, [])
  lobby.close()
  assert.is(dismissed.length, strangersPerHostMax)
  assert.is(lobby.size, 0)
})

test.run()
