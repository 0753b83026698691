/**
 * Directories that are copied, put back and moved, as people and backup programs do: no write that had been replicated
 * is lost, no two replicas differ in the end, and no two write in one log.
 */
import { execFileSync } from 'node:child_process'
import { chownSync, existsSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { converged, killAll, type ReplicaProcess } from '../support/replica-process.ts'
import { identity, link, open, settled, write, type Identity } from '../support/known-replicas.ts'

test.after(killAll)

function copy (from: string, to = newDirectory()): string {
  execFileSync('cp', ['-a', from, to])
  return to
}

/** Two replicas that have the same, the first of which is closed. */
async function pair (directory = newDirectory()): Promise<{ directory: string, original: Identity, peer: ReplicaProcess, keys: string[] }> {
  const peer = await open()
  const a = await open(directory, peer)
  const keys = [...await write(a, 'first', 20), ...await write(peer, 'peer', 20)]
  await a.do('synced')
  const original = await identity(a)
  await a.close()
  return { directory, original, peer, keys }
}

test('copies of a closed directory that write less, as much and more than it are other replicas, and it goes on in its log', async () => {
  const { directory, original, peer, keys } = await pair()
  const copies = await Promise.all(Array.from({ length: 3 }, async () => await open(copy(directory))))
  const a = await open(directory)
  assert.equal(await identity(a), original)
  for (const replica of copies) {
    const { id, log } = await identity(replica)
    assert.ok(id !== original.id && log !== original.log)
  }
  keys.push(...await write(a, 'original', 6))
  await link(a, peer)
  for (const [index, replica] of copies.entries()) {
    keys.push(...await write(replica, `copy-${index}`, 3 * 2 ** index))
    await link(replica, peer, a)
  }
  await settled([a, ...copies, peer], keys)
})

test('copies of an open directory that is written to are refused, or are other replicas', async () => {
  const directory = newDirectory()
  const peer = await open()
  const a = await open(directory, peer)
  const keys = await write(a, 'first', 20)
  await a.do('synced')
  const filling = a.do('fill', { prefix: 'f', count: 25_000 })
  const copies: string[] = []
  for (let filled = false; !filled;) {
    const target = newDirectory()
    try { copy(directory, target) } catch {} // a file was gone before its turn came
    copies.push(target)
    filled = await Promise.race([filling.then(() => true), new Promise<false>((resolve) => { setTimeout(resolve, 100, false) })])
  }
  const opened: ReplicaProcess[] = []
  for (const target of copies.reverse()) {
    if (opened.length === 2) break
    try {
      opened.push(await open(target))
    } catch (error) {
      assert.match(String(error), /LEVEL_DATABASE_NOT_OPEN|LEVEL_CORRUPTION|REPLICATION_CORRUPT|Corruption/)
    }
  }
  assert.ok(opened.length > 0)
  for (const [index, replica] of opened.entries()) {
    keys.push(...await write(replica, `copy-${index}`, 5))
    await link(replica, peer, a)
  }
  await settled([a, peer, ...opened], keys)
})

test('a directory that is put back as it was is another replica, which gets back what was lost', async () => {
  const { directory, original, peer, keys } = await pair()
  const backup = copy(directory)
  let a = await open(directory, peer)
  keys.push(...await write(a, 'lost', 20))
  await a.do('synced')
  await a.close()
  rmSync(directory, { recursive: true })
  copy(backup, directory)
  a = await open(directory)
  const { id, log } = await identity(a)
  assert.ok(id !== original.id && log !== original.log)
  assert.is((await a.do('missing', { keys })).length, 20)
  keys.push(...await write(a, 'restored', 10))
  await link(a, peer)
  await settled([a, peer], keys)
})

for (const reopened of [false, true]) {
  test(`a copy that is put back over what ${reopened ? 'two runs have' : 'one run has'} written since is refused${reopened ? '' : ', or another replica'}`, async () => {
    const { directory, original, peer, keys } = await pair()
    const backup = copy(directory)
    let a = await open(directory, peer)
    keys.push(...await write(a, 'lost', 20))
    if (reopened) {
      await a.close()
      a = await open(directory, peer)
    } else {
      await a.do('fill', { prefix: 'f', count: 25_000 })
    }
    keys.push(...await write(a, 'later', 20))
    await a.do('synced')
    await a.kill()
    execFileSync('cp', ['-a', `${backup}/.`, directory])
    try {
      a = await open(directory)
      assert.not(reopened)
    } catch (error) {
      assert.match(String(error), 'files of different moments')
      rmSync(directory, { recursive: true })
      copy(backup, directory)
      a = await open(directory)
    }
    const { id, log } = await identity(a)
    assert.ok(id !== original.id && log !== original.log)
    keys.push(...await write(a, 'restored', 10))
    await link(a, peer)
    await settled([a, peer], keys)
  })
}

test('an old copy, from before deletes that are forgotten since, brings nothing back', async () => {
  const { directory, peer, keys } = await pair()
  const old = copy(directory)
  const deleted = keys.splice(0, 30)
  const a = await open(directory, peer)
  await a.do('remove', { keys: deleted })
  await a.do('synced')
  for (const replica of [a, peer]) await eventually(async () => (await replica.do('status')).tombstones.count === 0, { message: 'the deletes are forgotten' })
  const b = await open(old)
  assert.equal(await b.do('missing', { keys: deleted }), [])
  keys.push(...await write(b, 'old', 10))
  await link(b, peer)
  await converged([a, b, peer])
  for (const replica of [a, b, peer]) assert.equal(await replica.do('missing', { keys: deleted }), deleted)
  await settled([a, b, peer], keys)
})

test('who owns the directory and what it is called may change: the same replica, and at most a new log', async () => {
  const { directory, original, peer, keys } = await pair()
  for (const name of [directory, ...readdirSync(directory).map((name) => join(directory, name))]) chownSync(name, process.getuid!(), process.getgid!())
  let a = await open(directory)
  const { id, log } = await identity(a)
  assert.is(id, original.id)
  keys.push(...await write(a, 'chowned', 10))
  await a.close()
  const renamed = newDirectory()
  renameSync(directory, renamed)
  a = await open(renamed, peer)
  assert.equal(await identity(a), { id, log })
  keys.push(...await write(a, 'renamed', 10))
  assert.not(existsSync(directory))
  await settled([a, peer], keys)
})

test.run()
