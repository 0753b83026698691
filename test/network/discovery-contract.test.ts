/**
 * What every discovery has to do, run on Bonjour over loopback and on the one in memory.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { BonjourDiscovery } from '../../lib/network/bonjour.ts'
import type { ActiveDiscovery, Discovery } from '../../lib/network/discovery.ts'
import { GroupToken, groupKey } from '../../lib/network/group-token.ts'
import { system } from '../../lib/system.ts'
import { eventually } from '../support/eventually.ts'
import { freeUdpPort } from '../support/multicast.ts'
import { MemoryDiscovery } from '../support/memory-discovery.ts'

await discoveryContract('Bonjour', () => new BonjourDiscovery({ system }))
await discoveryContract('memory', () => new MemoryDiscovery())

async function discoveryContract (name: string, make: () => Discovery): Promise<void> {
  const test = suite(`discovery contract: ${name}`)
  let discovery: Discovery
  let port: number
  const active = new Set<ActiveDiscovery>()

  test.before.each(async () => {
    discovery = make()
    port = await freeUdpPort()
  })
  test.after.each(async () => {
    await Promise.all([...active].map(async (each) => { await each.close() }))
    active.clear()
  })

  function start (group: string, listening: number | undefined, options: object = {}) {
    const found: number[] = []
    const errors: Error[] = []
    const started = discovery.start({
      token: new GroupToken(groupKey(group), (size) => system.randomBytes(size)),
      address: listening === undefined ? undefined : { host: '127.0.0.1', port: listening },
      machineOnly: true,
      interfaces: undefined,
      port,
      onFound: (address) => { found.push(address.port) },
      onNetworkChanged: () => {},
      onError: (error) => { errors.push(error) },
      ...options
    })
    active.add(started)
    return { found, errors, close: async () => { active.delete(started); await started.close() }, lookAgain: () => { started.lookAgain() } }
  }

  test('members find each other, whoever came first, and nobody finds himself', async () => {
    const members = [start('shop', 9001), start('shop', 9002), start('shop', undefined)]
    await eventually(() => members[0]!.found.includes(9002) && members[1]!.found.includes(9001) && members[2]!.found.includes(9001) && members[2]!.found.includes(9002))
    const late = start('shop', 9004)
    await eventually(() => late.found.includes(9001) && late.found.includes(9002) && members.every(({ found }) => found.includes(9004)))
    assert.not(members[0]!.found.includes(9001))
    assert.not(late.found.includes(9004))
    assert.equal([...members, late].flatMap(({ errors }) => errors), [])
  })

  test('groups do not find each other', async () => {
    const strangers = [start('home', 9001), start('homes', 9002)]
    const members = [start('shop', 9003), start('shop', 9004)]
    await eventually(() => members[0]!.found.includes(9004) && members[1]!.found.includes(9003))
    assert.equal(strangers.flatMap(({ found }) => found), [])
    assert.equal(new Set(members.flatMap(({ found }) => found)), new Set([9003, 9004]))
  })

  test('who has closed is told nothing, and can be closed again', async () => {
    const first = start('shop', 9001)
    await first.close()
    await first.close()
    const [second, third] = [start('shop', 9002), start('shop', 9003)]
    await eventually(() => second.found.includes(9003) && third.found.includes(9002))
    assert.equal(first.found, [])
    assert.equal(first.errors, [])
  })

  test('looking again finds again', async () => {
    const [one] = [start('shop', 9001), start('shop', 9002)]
    await eventually(() => one.found.length > 0)
    one.found.length = 0
    one.lookAgain()
    await eventually(() => one.found.includes(9002))
  })

  test.run()
}
