/**
 * The process at the other end of `replica-process.ts`: one replica, and the tasks that it is given over IPC.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { ReplicatedLevel } from '../../lib/index.ts'
import { LoopWatch } from './loop-watch.ts'
import { bytesHeld } from './memory-use.ts'
import { randomNumbers } from './random.ts'

type Db = ReplicatedLevel<any, any>

let db: Db
let random = randomNumbers(1)
let counter = 0
let links = 0
const errors: string[] = []
let loopWatch: LoopWatch | undefined

/** Where the random work goes: the database, and sublevels with other encodings. */
function places (): any[] {
  const text = (value: string): unknown => value
  const bytes = (value: string): unknown => Buffer.from(value)
  const json = (value: string): unknown => ({ value, nested: [1, null] })
  return [
    Object.assign(db, { value: text }),
    Object.assign(db.sublevel<string, unknown>('json', { valueEncoding: 'json' }), { value: json }),
    Object.assign(db.sublevel<string, unknown>('bytes', { valueEncoding: 'buffer' }).sublevel<string, unknown>('nested', { valueEncoding: 'buffer' }), { value: bytes }),
    Object.assign(db.sublevel<string, unknown>('view', { valueEncoding: 'view' }), { value: bytes })
  ]
}

const tasks: Record<string, (options: any) => Promise<unknown>> = {
  async open ({ directory, seed, resolver, ...options }) {
    random = randomNumbers(seed)
    // eslint-disable-next-line no-new-func
    if (resolver !== undefined) options.resolver = new Function('return ' + resolver)()
    db = new ReplicatedLevel(directory, { port: 0, discovery: false, ...options })
    ;(db as unknown as NodeJS.EventEmitter).on('error', ({ code, message }: { code: string, message: string }) => { errors.push(`${code}: ${message}`) })
    for (const event of ['connect', 'connection']) (db as unknown as NodeJS.EventEmitter).on(event, () => { links++ })
    await db.open()
    return db.replication.address === undefined ? '' : `127.0.0.1:${db.replication.address.port}`
  },
  async connect ({ address }) { db.replication.connect(address) },
  async disconnect ({ address }) { db.replication.disconnect(address) },
  async put ({ key, value, sync }) { await db.put(key, value, { sync }) },
  /** One transaction of so many small puts. */
  async transaction ({ prefix, count }) { await db.batch(Array.from({ length: count }, (_, index) => ({ type: 'put' as const, key: `${prefix}${index}`, value: '' }))) },
  async get ({ key }) { return await db.get(key) },
  async versions ({ key }) { return (await db.replication.versions(key)).map(({ value, timestamp }) => ({ value, timestamp })) },
  /** Which of these keys are not there. */
  async missing ({ keys }: { keys: string[] }) {
    const values = await db.getMany(keys)
    return keys.filter((_, index) => values[index] === undefined)
  },
  /** Batches of the task `stream` that are there in part. */
  async torn ({ batchSize }: { batchSize: number }) {
    const counts = new Map<string, number>()
    for await (const key of db.keys()) {
      const batch = /^(.*-\d+)-\d+$/.exec(String(key))?.[1]
      if (batch !== undefined) counts.set(batch, (counts.get(batch) ?? 0) + 1)
    }
    return [...counts].filter(([, count]) => count !== batchSize)
  },
  async count () {
    let count = 0
    const keys = db.keys()
    for (let page = await keys.nextv(1000); page.length > 0; page = await keys.nextv(1000)) count += page.length
    await keys.close()
    return count
  },
  async vector () { return db.replication.status().vector },
  async id () { return db.replication.id },
  async status () { return db.replication.status() },
  async remove ({ keys }: { keys: string[] }) { await db.batch(keys.map((key) => ({ type: 'del', key }))) },
  async errors () { return errors },
  /** Answers each key `ping-n` that comes with a key `pong-n`. */
  async pong () {
    (db as unknown as NodeJS.EventEmitter).on('replicate', (operations: Array<{ key: string }>) => {
      for (const { key } of operations) if (String(key).startsWith('ping-')) db.put(String(key).replace('ping', 'pong'), '').catch(() => {})
    })
  },
  /** Times in milliseconds until each of so many pings is answered, one after another. */
  async ping ({ count }) {
    const tookMs: number[] = []
    for (let index = 0; index < count; index++) {
      const key = `${process.pid}-${++counter}`
      const answered = new Promise<void>((resolve) => {
        const hear = (operations: Array<{ key: string }>): void => {
          if (!operations.some((operation) => String(operation.key) === `pong-${key}`)) return
          ;(db as unknown as NodeJS.EventEmitter).off('replicate', hear)
          resolve()
        }
        ;(db as unknown as NodeJS.EventEmitter).on('replicate', hear)
      })
      const startMs = performance.now()
      await db.put(`ping-${key}`, '')
      await answered
      tookMs.push(performance.now() - startMs)
      await new Promise((resolve) => { setTimeout(resolve, 5) })
    }
    return tookMs
  },
  /** Resident bytes, after a collection of garbage if that can be had. */
  async memory () {
    globalThis.gc?.()
    return process.memoryUsage().rss
  },
  /** Bytes on the heap and beside it. */
  async held () { return await bytesHeld() },
  async watchLoop () { loopWatch = new LoopWatch() },
  /** The longest that the event loop was held since `watchLoop`, in milliseconds of the processor. */
  async loopHeld () { return loopWatch!.end() },
  /** How many were made since it was opened. */
  async links () { return links },
  async peers () { return db.replication.peers() },
  async synced () { await db.replication.synced({ timeoutMs: 60_000 }) },
  async conflicts () {
    let count = 0
    for await (const conflict of db.replication.conflicts()) count += conflict.versions.length > 0 ? 1 : 0
    return count
  },
  /** Random operations, twenty at once. */
  async work ({ operations, keys }) {
    const spots = places()
    for (let done = 0; done < operations; done += 20) {
      const running: Array<Promise<void>> = []
      for (let index = 0; index < 20 && done + index < operations; index++) running.push(operate(spots, keys))
      await Promise.all(running)
    }
  },
  /** Writes, and tells each that is acknowledged. */
  async stream ({ prefix, count, batch }) {
    for (let index = 0; index < count; index++) {
      const value = `${prefix}-${index}`
      if (batch > 1) await db.batch(Array.from({ length: batch }, (_, part) => ({ type: 'put', key: `${value}-${part}`, value })))
      else await db.put(value, value)
      process.send!({ acknowledged: value })
    }
  },
  /** Entries of 16 and 100 bytes. */
  async fill ({ prefix, count }) {
    for (let start = 0; start < count; start += 1000) {
      await db.batch(Array.from({ length: Math.min(1000, count - start) }, (_, index) => ({ type: 'put', key: prefix + String(start + index).padStart(16 - prefix.length, '0'), value: String(random()).padEnd(100, 'x') })))
    }
  },
  /** Until all that the peer had has come: writes new keys, and of those that `fill` has written there random ones, each once; returns which, and whether the peer's value was read before. */
  async writeDuringSync ({ prefix, count }) {
    const written: Array<{ key: string, seen: boolean }> = []
    const tried = new Set<string>()
    while (!db.replication.peers().some(({ state }) => state === 'live')) {
      const key = prefix + String(Math.floor(random() * count)).padStart(16 - prefix.length, '0')
      if (tried.has(key)) continue
      tried.add(key)
      const seen = await db.get(key) !== undefined
      await db.batch([{ type: 'put', key, value: 'own' }, { type: 'put', key: `new-${key}`, value: 'own' }])
      written.push({ key, seen })
    }
    return written
  },
  async conflictingKeys () {
    const keys: string[] = []
    for await (const { key } of db.replication.conflicts()) keys.push(key)
    return keys
  },
  /** Of everything that has to be the same on all replicas. */
  async digest () {
    const hash = createHash('sha256')
    let count = 0
    const iterator = db.iterator<Buffer, Buffer>({ keyEncoding: 'buffer', valueEncoding: 'buffer' })
    for (let page = await iterator.nextv(1000); page.length > 0; page = await iterator.nextv(1000)) {
      for (const [key, value] of page) hash.update(key).update('=').update(value).update('\n')
      count += page.length
    }
    await iterator.close()
    for await (const { versions } of db.replication.conflicts()) {
      for (const { type, keyBytes, valueBytes, timestamp, origin } of versions) hash.update(`${type} ${timestamp} ${origin}`).update(keyBytes).update(valueBytes ?? '')
    }
    return { count, hash: hash.digest('hex') }
  },
  /** In MB; undefined where there is no /proc. */
  async peakMemory () {
    try {
      return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1000
    } catch {
      return undefined
    }
  },
  async close () { await db.close() }
}

async function operate (spots: any[], keys: number): Promise<void> {
  const place = spots[Math.floor(random() * spots.length)]
  const key = (): string => `key-${Math.floor(random() * keys)}`
  const value = (): unknown => place.value(`${process.pid}-${++counter}`)
  const dice = random()
  if (dice < 0.6) return await place.put(key(), value())
  if (dice < 0.8) return await place.del(key())
  if (dice < 0.99) {
    return await place.batch(Array.from({ length: 2 + Math.floor(random() * 5) }, () => random() < 0.7 ? { type: 'put', key: key(), value: value() } : { type: 'del', key: key() }))
  }
  const from = key()
  return await place.clear({ gte: from, lt: from + '9', limit: 5 })
}

process.on('message', ({ id, task, options }: { id: number, task: string, options: object }) => {
  tasks[task]!(options).then(
    (result) => process.send!({ id, result }),
    (error) => process.send!({ id, error: `${error.stack}${error.cause?.stack ?? ''}` })
  )
})
process.on('disconnect', () => { process.exit() })
