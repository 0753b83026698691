/**
 * A catch-up over connections none of which lives long enough for it.
 */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newDirectory } from '../support/directory.ts'
import { eventually } from '../support/eventually.ts'
import { addressOf, closeAll, equal, openDatabase } from '../support/replicas.ts'
import { tcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'

const test = suite('resume')
test.after.each(closeAll)

const values = 60
const valueBytes = 200_000
const bytesEach = 3_000_000

test('a first sync goes on after each cut, with another source and after a restart too, and brings little twice', async () => {
  const first = await openDatabase()
  for (let index = 0; index < values; index++) await first.put(`key ${index}`, String(index).padEnd(valueBytes, '.'))
  const second = await openDatabase({ peers: [addressOf(first)] })
  await equal(first, second)

  let carried = 0
  let carriedByThisOne = 0
  let cuts = 0
  const proxies: TcpProxy[] = []
  for (const source of [first, second]) {
    proxies.push(await tcpProxy(source.replication.address!.port, (bytes, direction) => {
      if (direction === 'fromDialler') return bytes
      carried += bytes.length
      carriedByThisOne += bytes.length
      if (carriedByThisOne > bytesEach) {
        carriedByThisOne = 0
        cuts++
        void first.put(`key ${cuts}`, `changed ${cuts}`)
        for (const proxy of proxies) setImmediate(() => { proxy.cut() })
      }
      return bytes
    }))
  }
  // By its first addresses only: told of others, it would reach them past the proxies.
  const options = { peers: proxies.map(({ port }) => `127.0.0.1:${port}`), port: false as const, initialSyncMs: 0 }
  const directory = newDirectory()
  const before = await openDatabase(options, directory)
  await eventually(() => cuts >= 2, { message: 'it was cut twice' })
  await before.close()
  const target = await openDatabase(options, directory)
  await equal(first, second, target)
  for (const proxy of proxies) proxy.close()
  console.log(`${cuts} cuts, ${(carried / values / valueBytes).toFixed(2)} times the data`)
  assert.ok(cuts >= 3, `${cuts} cuts`)
  assert.ok(carried < 2 * values * valueBytes, `${carried} bytes`)
})

test.run()
