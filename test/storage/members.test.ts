import { randomBytes } from 'node:crypto'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { writeAdvances } from '../../lib/codec/advances.ts'
import { ByteWriter } from '../../lib/codec/bytes.ts'
import { newLogId, type ReplicaId } from '../../lib/core/ids.ts'
import { VersionVector, type Advance } from '../../lib/core/version-vector.ts'
import { heartbeatIntervalMs, logsMax, memberEntriesMax, memberRefreshMs, memberTtlDefaultMs, membersMax, runningTimeSaveMs } from '../../lib/limits.ts'
import type { InnerBatch } from '../../lib/storage/inner-batch.ts'
import { meta } from '../../lib/storage/keyspaces.ts'
import { Members } from '../../lib/storage/members.ts'
import { newMemory, openReplica } from '../support/store.ts'

const self = id(0)
const memberTtlMs = 100_000

function id (number: number): ReplicaId {
  return number.toString(16).padStart(32, '0')
}

function someLogs (count: number): Advance[] {
  return Array.from({ length: count }, () => ({ log: newLogId(randomBytes(8)), sequence: 1, hlc: 1024 }))
}

/** Members, and a clock. */
function newMembers (): { members: Members, clock: { ms: number } } {
  const clock = { ms: 0 }
  const members = new Members({ self, monotonicMs: () => clock.ms, memberTtlMs, onChange: () => {} })
  members.met(self)
  return { members, clock }
}

/** Fills all entries. */
function fillEntries (members: Members, from: number): void {
  const logs = someLogs(logsMax)
  for (let left = memberEntriesMax - [...members].reduce((sum, { acknowledged }) => sum + acknowledged.size, 0), number = from; left > 0; left -= logsMax, number++) members.acknowledge(id(number), logs.slice(0, left))
}

function throwsTooMany (call: () => void): void {
  assert.throws(call, ({ code }: { code?: string }) => code === 'REPLICATION_TOO_MANY_MEMBERS')
}

/** Saves, and returns what was written and removed. */
function save (members: Members): { put: Buffer[], removed: Buffer[] } {
  const put: Buffer[] = []
  const removed: Buffer[] = []
  const batch: Pick<InnerBatch, 'putRaw' | 'delRaw'> = { putRaw: (key) => { put.push(Buffer.from(key)) }, delRaw: (key) => { removed.push(Buffer.from(key)) } }
  members.save(batch as InnerBatch)()
  return { put, removed }
}

test('no member holds more logs than a vector names: what is too much changes nothing', () => {
  const { members } = newMembers()
  const first = someLogs(10_000)
  assert.ok(members.acknowledge(id(1), first))
  throwsTooMany(() => members.acknowledge(id(1), someLogs(10_000)))
  assert.is(members.acknowledged(id(1)).size, 10_000)
  assert.not.ok(members.acknowledge(id(1), first), 'it goes on')
  assert.ok(members.acknowledge(id(1), someLogs(logsMax - 10_000)))
  throwsTooMany(() => members.acknowledge(id(1), someLogs(1)))
  assert.ok(members.acknowledge(id(1), [{ ...first[0]!, sequence: 2 }]), 'news of a log that it holds')
  throwsTooMany(() => members.acknowledge(id(2), someLogs(logsMax + 1)))
  assert.not.ok(members.has(id(2)))
})

test('a database that holds a member with too many logs opens', async () => {
  const replica = await openReplica()
  replica.store.members.met(id(1))
  await replica.store.close()
  const writer = new ByteWriter().varint(0).byte(0)
  writeAdvances(writer, someLogs(logsMax + 1))
  await replica.engine.put(meta.member(id(1)), writer.take(), { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const { store } = await replica.reopened()
  assert.ok(store.members.has(id(1)))
  assert.is(store.members.acknowledged(id(1)).size, 0, 'it has to say anew what it holds')
})

test('where all entries are in use, who says nothing new goes on, and this replica itself', () => {
  const { members } = newMembers()
  const [log] = someLogs(1) as [Advance]
  members.acknowledge(id(1), [log])
  fillEntries(members, 2)
  throwsTooMany(() => members.acknowledge(id(1), someLogs(1)))
  assert.not.ok(members.acknowledge(id(1), [log]))
  assert.ok(members.acknowledge(id(1), [{ ...log, sequence: 2 }]))
  assert.ok(members.acknowledge(self, someLogs(1)))
})

test('where all entries are in use, who does not count gives way', () => {
  const { members } = newMembers()
  fillEntries(members, 1)
  members.retire(id(3))
  assert.ok(members.acknowledge(id(1000), someLogs(logsMax)))
  assert.not.ok(members.has(id(3)))
  throwsTooMany(() => members.acknowledge(id(1000), someLogs(1)))
})

test('who does not count does not give way to itself', () => {
  const { members, clock } = newMembers()
  members.acknowledge(id(1), someLogs(1))
  clock.ms = memberTtlMs
  fillEntries(members, 2)
  throwsTooMany(() => members.acknowledge(id(1), someLogs(1)))
  assert.is(members.acknowledged(id(1)).size, 1)
})

test('whoever begins anew, or has lost something, leaves the entries that it had to others', () => {
  const { members } = newMembers()
  const logs = someLogs(logsMax)
  for (let round = 0; round <= memberEntriesMax / logsMax; round++) {
    members.acknowledge(id(1), logs)
    members.retire(id(1))
    members.met(id(1))
  }
  for (let round = 0; round <= memberEntriesMax / logsMax; round++) {
    members.acknowledge(id(1), logs)
    members.rewind(id(1), new VersionVector())
  }
  assert.ok(members.acknowledge(id(1), logs))
})

test('what a member has of a log that is left does not count beyond that, and what it says later does', () => {
  const { members } = newMembers()
  const [old, next] = someLogs(2) as [Advance, Advance]
  const vector = new VersionVector([{ ...old, sequence: 9 }])
  members.acknowledge(id(1), vector)
  assert.is(members.frontier(vector, vector).sequenceOf(old.log), 9)
  members.forget({ ...old, sequence: 5 })
  assert.is(members.acknowledged(id(1)).sequenceOf(old.log), 5)
  const left = new VersionVector([{ ...old, sequence: 5 }, next])
  assert.is(members.frontier(left, left).sequenceOf(old.log), 5)
  members.acknowledge(id(1), [next])
  assert.is(members.frontier(left, left).sequenceOf(next.log), 1)
})

test('a member that is there counts, and that is written now and then', () => {
  const { members, clock } = newMembers()
  members.met(id(1))
  let written = 0
  for (; clock.ms < 2 * memberTtlMs; clock.ms += 500) {
    members.seen(id(1))
    written += save(members).put.filter((key) => key.equals(meta.member(id(1)))).length
  }
  assert.ok(members.countedIds.includes(id(1)))
  assert.ok(written > 10 && written < 40, `written ${written} times`)
  members.seen(id(2))
  assert.not.ok(members.has(id(2)))
})

test('a full table has room for one that counts as long as there is one that does not', () => {
  const { members, clock } = newMembers()
  members.met(id(1))
  for (let number = 2; number < membersMax; number++) {
    members.met(id(number))
    if (number % 2 === 0) members.retire(id(number))
    clock.ms++
  }
  save(members)
  members.met(id(membersMax))
  assert.is([...members].length, membersMax)
  assert.not.ok(members.has(id(2)), 'the longest unseen of them')
  assert.ok(members.has(id(1)), 'longer unseen, but it counts')
  assert.equal(save(members).removed, [meta.member(id(2))])
  assert.equal(save(members).removed, [])
  assert.not.ok(members.acknowledge(id(2), [], memberTtlMs), 'one that would not count pushes out nobody')
  assert.ok(members.has(id(4)))
  clock.ms = memberTtlMs + membersMax
  for (let number = 1; number < 200; number++) {
    members.met(id(membersMax + number))
    clock.ms += memberTtlMs / 50
  }
  assert.is([...members].length, membersMax)
  assert.ok(members.has(self))
})

test('where all count, nobody new is let in but this replica itself', () => {
  const { members } = newMembers()
  for (let number = 1; number < membersMax; number++) members.met(id(number))
  throwsTooMany(() => { members.met(id(membersMax)) })
  throwsTooMany(() => members.acknowledge(id(membersMax), []))
  members.become(id(membersMax + 1))
  assert.ok(members.countedIds.includes(id(membersMax + 1)))
})

test('a full table does not grow with each id that this replica has had', () => {
  const { members } = newMembers()
  for (let number = 1; number < membersMax; number++) members.met(id(number))
  save(members)
  for (let number = 1; number < 5; number++) members.become(id(membersMax + number))
  assert.is([...members].length, membersMax)
  assert.ok(members.countedIds.includes(id(membersMax + 4)))
  assert.equal(save(members).removed, [meta.member(self), ...[1, 2, 3].map((number) => meta.member(id(membersMax + number)))])
})

test('a copy of a database with a full table opens', async () => {
  const replica = await openReplica()
  for (let number = 1; number < membersMax; number++) replica.store.members.met(id(number))
  await replica.store.flush()
  await replica.store.close()
  replica.identity.current = { ...replica.identity.current!, inode: 'another' }
  const { store } = await replica.reopened()
  assert.is.not(store.replica, replica.store.replica)
  assert.ok(store.members.has(store.replica))
})

test('a member that is read from disk is not older than it was', async () => {
  const replica = await openReplica()
  await replica.system.advance(5900)
  replica.store.members.met(id(1))
  await replica.store.flush()
  await replica.system.advance(1200)
  await replica.store.flush()
  const again = await replica.reopened()
  const [member] = [...again.store.members].filter(({ replica }) => replica === id(1))
  assert.ok(member!.unseenMs <= 1200, `${member!.unseenMs}`)
})

test('a member that greets and knows less than it has acknowledged begins anew: another one has had its id, or its disk went back', () => {
  const { members } = newMembers()
  const [one, two] = someLogs(2) as [Advance, Advance]
  const here = new VersionVector([one])
  members.met(id(1))
  members.acknowledge(id(1), [one, two])
  assert.is(members.frontier(here, here).size, 0, 'what is not known here holds all of it back')
  members.met(id(1), new VersionVector([one, two]))
  assert.is(members.acknowledged(id(1)).size, 2)
  members.met(id(1), here)
  assert.is(members.acknowledged(id(1)).size, 0)
  members.acknowledge(id(1), [one])
  members.frontier(here, here)
  assert.equal([...members.frontier(here, here)], [one])
})

test('a member that others had not seen for long is not seen by an open', async () => {
  const replica = await openReplica()
  replica.store.members.acknowledge(id(1), [], memberTtlMs)
  await replica.store.close()
  const { store } = await replica.reopened()
  assert.ok([...store.members].find(({ replica }) => replica === id(1))!.unseenMs >= memberTtlMs)
})

test('a member is as old as the last who saw it says, whatever others have heard', () => {
  const { members, clock } = newMembers()
  clock.ms = memberTtlMs
  const [one, two] = someLogs(2) as [Advance, Advance]
  members.acknowledge(id(1), [one], 1000)
  members.acknowledge(id(1), [two], memberTtlMs)
  assert.ok(members.countedIds.includes(id(1)))
  members.acknowledge(id(2), [one], memberTtlMs)
  assert.ok(members.has(id(2)), 'one that does not count is remembered while there is room')
  assert.not.ok(members.countedIds.includes(id(2)))
})

test('of what a member has acknowledged nothing counts before all of it is known here, also what it says later', () => {
  const { members } = newMembers()
  const [one, two] = someLogs(2) as [Advance, Advance]
  const next = { ...one, sequence: 2 }
  members.acknowledge(id(1), [one])
  let here = new VersionVector([one])
  assert.equal([...members.frontier(here, here)], [one])
  members.acknowledge(id(1), [next, two])
  here = new VersionVector([next])
  for (let look = 0; look < 3; look++) assert.equal([...members.frontier(here, here)], [one])
  here = new VersionVector([next, two])
  assert.equal([...members.frontier(here, here)], [next, two])
})

test('the frontier is what all that count hold, and this replica on disk', () => {
  const { members } = newMembers()
  const log = someLogs(1)[0]!
  const at = (sequence: number): VersionVector => new VersionVector([{ ...log, sequence }])
  assert.equal([...members.frontier(at(3), at(9))], [...at(3)], 'alone')
  members.acknowledge(id(1), at(5))
  members.acknowledge(id(2), at(2))
  assert.equal([...members.frontier(at(7), at(9))], [...at(2)])
  members.retire(id(2))
  assert.equal([...members.frontier(at(7), at(9))], [...at(5)])
  assert.equal([...members.frontier(at(3), at(9))], [...at(3)])
})

test('what a member has said of a log that is left does not count when as much of it is here again', () => {
  const { members } = newMembers()
  const log = someLogs(1)[0]!
  const at = (sequence: number): VersionVector => new VersionVector([{ ...log, sequence }])
  members.acknowledge(id(1), at(9))
  assert.is(members.frontier(at(9), at(9)).sequenceOf(log.log), 9)
  members.forget({ ...log, sequence: 5 })
  assert.is(members.frontier(at(9), at(9)).sequenceOf(log.log), 5)
})

test('whatever changes of a member is written, once, and again if it changes while it is written', () => {
  let changes = 0
  const members = new Members({ self, monotonicMs: () => 0, memberTtlMs, onChange: () => { changes++ } })
  members.met(self)
  save(members)
  const log = someLogs(1)[0]!
  const steps: Array<[step: () => unknown, changed: boolean]> = [
    [() => { members.met(id(1)) }, true],
    [() => members.acknowledge(id(1), [{ ...log, sequence: 9 }]), true],
    [() => members.acknowledge(id(1), [{ ...log, sequence: 8 }]), false],
    [() => { members.rewind(id(1), new VersionVector([{ ...log, sequence: 7 }])) }, false],
    [() => { members.forget({ ...log, sequence: 5 }) }, false],
    [() => { members.retire(id(1)) }, true],
    [() => { members.met(id(1)) }, true]
  ]
  for (const [index, [step, changed]] of steps.entries()) {
    const before = changes
    step()
    assert.is(changes - before, changed ? 1 : 0, `change ${index}`)
    assert.equal(save(members).put, index === 2 ? [] : [meta.member(id(1))], `save ${index}`)
    assert.equal(save(members).put, [])
  }
  members.changed()
  assert.is(save(members).put.length, 2)
  members.acknowledge(id(1), [log])
  const committed = members.save({ putRaw: () => {} } as never)
  members.acknowledge(id(1), [{ ...log, sequence: 2 }])
  committed()
  assert.equal(save(members).put, [meta.member(id(1))])
})

test('who has been met and is not on disk yet is new, until it is there or gives way', () => {
  const { members } = newMembers()
  save(members)
  assert.not(members.hasNew)
  members.met(id(1))
  assert.ok(members.hasNew)
  save(members)
  assert.not(members.hasNew)
  members.seen(id(1))
  members.acknowledge(id(1), someLogs(1))
  assert.not(members.hasNew)
  for (let number = 2; number < membersMax; number++) members.met(id(number))
  save(members)
  members.retire(id(1))
  members.met(id(membersMax))
  members.retire(id(membersMax))
  members.become(id(membersMax + 1))
  save(members)
  assert.not(members.hasNew)
})

test('a member is seen by who brings news of it, or has seen it, and not by hearsay', () => {
  const { members, clock } = newMembers()
  const unseen = (): number => [...members].find(({ replica }) => replica === id(1))!.unseenMs
  const log = someLogs(1)[0]!
  members.acknowledge(id(1), [log])
  clock.ms = 1000
  assert.not(members.acknowledge(id(1), [log]))
  assert.is(unseen(), 1000)
  assert.not(members.acknowledge(id(1), [log], 400, true))
  assert.is(unseen(), 400)
  members.acknowledge(id(1), [log], 700, true)
  assert.is(unseen(), 400, 'others have seen it earlier')
  members.acknowledge(id(1), [{ ...log, sequence: 2 }], 300)
  assert.is(unseen(), 300)
})

test('this replica always counts, as one that is seen, and a member as long as it has been seen in time', () => {
  const { members, clock } = newMembers()
  members.met(id(1))
  clock.ms = memberTtlMs - 1
  assert.equal(members.countedIds, [self, id(1)])
  clock.ms = memberTtlMs
  assert.equal(members.countedIds, [self])
  assert.is([...members][0]!.unseenMs, 0)
})

test('all are present that have been seen in the time in which news of one comes over all others', () => {
  const { members, clock } = newMembers()
  for (const number of [1, 2]) members.met(id(number))
  clock.ms = 3 * members.refreshMs
  members.seen(id(1))
  assert.ok(members.allPresent)
  clock.ms++
  assert.not(members.allPresent)
  members.retire(id(2))
  assert.ok(members.allPresent, 'who does not count need not be there')
})

for (const [ttlMs, refreshMs, savedMs] of [[memberTtlDefaultMs, memberRefreshMs, runningTimeSaveMs], [100_000, 6250, 6250], [1000, heartbeatIntervalMs, 62.5]] as const) {
  test(`members that are waited for ${ttlMs} ms are told of every ${refreshMs} ms, and that they are there is written every ${savedMs} ms`, () => {
    const clock = { ms: 0 }
    const members = new Members({ self, monotonicMs: () => clock.ms, memberTtlMs: ttlMs, onChange: () => {} })
    assert.is(members.refreshMs, refreshMs)
    members.met(id(1))
    save(members)
    const writes = (ms: number): boolean => {
      clock.ms = ms
      members.seen(id(1))
      return save(members).put.some((key) => key.equals(meta.member(id(1))))
    }
    assert.equal([writes(savedMs), writes(savedMs + 1), writes(2 * savedMs + 1), writes(2 * savedMs + 2)], [false, true, false, true])
  })
}

test('a member that is on disk, and not for how long this replica has run since, is not younger than all that', async () => {
  const engine = newMemory()
  await engine.open()
  const write = async (replica: ReplicaId, logs: number): Promise<void> => {
    const writer = new ByteWriter().varint(1000).byte(0)
    writeAdvances(writer, someLogs(logs))
    await engine.put(meta.member(replica), writer.take())
  }
  await write(id(1), 1)
  await write(id(2), logsMax + 1)
  await engine.put(meta.runningTime, new ByteWriter().varint(900).take())
  const { members, clock } = newMembers()
  await members.load(engine as never)
  assert.is(members.runningMs, 900_000)
  assert.equal(save(members).put, [meta.member(self), meta.member(id(2))], 'what is too much is not kept')
  clock.ms = memberTtlMs
  assert.not(members.countedIds.includes(id(1)))
})

test('running time is saved, however often it is', () => {
  const { members, clock } = newMembers()
  let written = 0
  for (let round = 0; round < 100; round++) {
    clock.ms += 500
    written += save(members).put.filter((key) => key.equals(meta.runningTime)).length
  }
  assert.is(written, 50)
})

test.run()
