/**
 * One replica of the demonstration, in a process of its own; does what its parent asks, one thing after another.
 */
import { createHash } from 'node:crypto'
import { ReplicatedLevel, type Version } from '../../lib/index.ts'

export interface Place {
  readonly name: string
  readonly country: string
  readonly lat: string
  readonly lng: string
  visitors?: number
}

export type Request =
  | { readonly do: 'open', readonly directory: string }
  | { readonly do: 'connect' | 'disconnect', readonly address: string }
  | { readonly do: 'load', readonly entries: ReadonlyArray<{ key: string, value: Place }> }
  | { readonly do: 'put', readonly key: string, readonly value: Place }
  | { readonly do: 'del' | 'get' | 'versions', readonly key: string }
  | { readonly do: 'known' | 'synced' | 'digest' | 'close' }

let db: ReplicatedLevel<string, Place>

/** Visitors counted on both sides of a cut are added up: neither count is lost. */
function addVisitors (accepted: Version<string, Place>, challenger: Version<string, Place>): boolean | { value: Place } {
  if (accepted.type === 'del' || challenger.type === 'del') return true
  return { value: { ...challenger.value, visitors: (accepted.value.visitors ?? 0) + (challenger.value.visitors ?? 0) } }
}

async function carryOut (request: Request): Promise<unknown> {
  switch (request.do) {
    case 'open':
      db = new ReplicatedLevel(request.directory, { valueEncoding: 'json', group: 'places', discovery: false, port: 0, resolver: addVisitors })
      await db.open()
      return `127.0.0.1:${db.replication.address!.port}`
    case 'connect': db.replication.connect(request.address); return
    case 'disconnect': db.replication.disconnect(request.address); return
    case 'load': await db.batch(request.entries.map(({ key, value }) => ({ type: 'put', key, value }))); return
    case 'put': await db.put(request.key, request.value); return
    case 'del': await db.del(request.key); return
    case 'get': return await db.get(request.key)
    case 'versions': return (await db.replication.versions(request.key)).map(({ type, value, origin }) => ({ type, visitors: value?.visitors, origin }))
    case 'known': return Object.values(db.replication.status().vector).reduce((sum, operations) => sum + operations, 0)
    case 'synced': await db.replication.synced({ timeoutMs: 60_000 }); return
    case 'digest': return await digest()
    case 'close': return await db.close()
  }
}

/** Everything there is, in order, as one hash; and what this replica knows. */
async function digest (): Promise<{ count: number, hash: string, vector: string }> {
  const hash = createHash('sha256')
  let count = 0
  const iterator = db.iterator({ valueEncoding: 'utf8' })
  for (let page = await iterator.nextv(1000); page.length > 0; page = await iterator.nextv(1000)) {
    for (const [key, value] of page) hash.update(JSON.stringify([key, value]))
    count += page.length
  }
  await iterator.close()
  const vector = Object.entries(db.replication.status().vector).sort(([a], [b]) => a < b ? -1 : 1)
  return { count, hash: hash.digest('hex').slice(0, 16), vector: JSON.stringify(vector) }
}

process.on('message', ({ id, request }: { id: number, request: Request }) => {
  carryOut(request).then(
    (result) => process.send!({ id, result }, () => { if (request.do === 'close') process.disconnect() }),
    (error: Error) => process.send!({ id, error: error.stack })
  )
})
process.on('disconnect', () => { process.exit() })
