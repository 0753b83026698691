/**
 * The commands of the command line: each takes the rest of its line and says what came of it.
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { MiB } from './limits.ts'
import type { PeerStatus, ReplicatedLevel } from './index.ts'

/** What a command says: lines for people, or one value for `--json`. */
export interface Answer {
  readonly lines: string[]
  readonly value: unknown
}

/** A command that was given wrongly, or did not find what it was asked for. */
export class CommandError extends Error {}

export type Progress = (done: number, total: number, what: string) => void

interface Command {
  readonly usage: string
  readonly summary: string
  /** @param signal says that nobody waits for the end of it any more */
  run (db: ReplicatedLevel, rest: string, progress: Progress, signal: AbortSignal): Promise<Answer>
}

/** A transaction of an import takes so many lines, or so many bytes of them. */
const importBatch = 1000
const importBytes = MiB

export const commands: Readonly<Record<string, Command>> = {
  put: {
    usage: 'put <key> <value>',
    summary: 'write; the value is the rest of the line',
    run: async (db, rest) => {
      const [key, value] = takeKey(rest, 'put')
      if (value === '') throw new CommandError('put needs a key and a value')
      await db.put(key, unquoted(value))
      return { lines: ['ok'], value: { ok: true } }
    }
  },
  get: {
    usage: 'get <key>',
    summary: 'read',
    run: async (db, rest) => {
      const key = onlyKey(rest, 'get')
      const value = await db.get(key)
      if (value === undefined) throw new CommandError(`${JSON.stringify(key)} is not there`)
      return { lines: [value], value: { key, value } }
    }
  },
  del: {
    usage: 'del <key>',
    summary: 'delete',
    run: async (db, rest) => {
      await db.del(onlyKey(rest, 'del'))
      return { lines: ['ok'], value: { ok: true } }
    }
  },
  ls: {
    usage: 'ls [prefix]',
    summary: 'list entries, all or those whose key begins so',
    run: async (db, rest) => {
      const prefix = unquoted(rest)
      const entries = await db.iterator(prefix === '' ? {} : { gte: prefix, lt: prefix + '\u{10ffff}' }).all()
      return { lines: entries.map(([key, value]) => `${shown(key)} ${value}`), value: entries.map(([key, value]) => ({ key, value })) }
    }
  },
  count: {
    usage: 'count',
    summary: 'count the keys',
    run: async (db) => {
      let count = 0
      const keys = db.keys()
      for (let page = await keys.nextv(1000); page.length > 0; page = await keys.nextv(1000)) count += page.length
      await keys.close()
      return { lines: [String(count)], value: { count } }
    }
  },
  import: {
    usage: 'import <file.ndjson>',
    summary: 'write every line { "key": ..., "value": ... } of a file',
    run: async (db, rest, progress, signal) => {
      const count = await importFile(db, unquoted(rest), progress, signal)
      return { lines: [`${count} entries`], value: { imported: count } }
    }
  },
  peers: {
    usage: 'peers',
    summary: 'show the other replicas',
    run: async (db) => {
      const peers = db.replication.peers()
      return { lines: peers.length === 0 ? ['no peers'] : table(peers.map(peerRow)), value: peers.map((peer) => ({ ...peer, lastError: peer.lastError?.message })) }
    }
  },
  conflicts: {
    usage: 'conflicts',
    summary: 'show keys with concurrent versions, the visible one first',
    run: async (db) => {
      const conflicts = []
      for await (const { key, versions } of db.replication.conflicts()) {
        conflicts.push({ key, versions: versions.map(({ type, value, timestamp, origin }) => ({ type, value, timestamp, origin })) })
      }
      const lines = conflicts.flatMap(({ key, versions }) => [shown(key), ...versions.map(({ type, value, timestamp, origin }) =>
        `  ${type === 'put' ? value : '(deleted)'}  ${new Date(timestamp).toISOString()}  ${origin}`)])
      return { lines: conflicts.length === 0 ? ['no conflicts'] : lines, value: conflicts }
    }
  },
  status: {
    usage: 'status',
    summary: 'show who this replica is and what it knows',
    run: async (db) => {
      const status = db.replication.status()
      return { lines: JSON.stringify(status, null, 2).split('\n'), value: status }
    }
  },
  sync: {
    usage: 'sync',
    summary: 'wait until all linked peers and this replica are equal, on disk',
    run: async (db, _rest, _progress, signal) => {
      let stop = (): void => {}
      const stopped = new Promise<never>((_resolve, reject) => { stop = () => { reject(new CommandError('stopped before all were in sync')) } })
      signal.addEventListener('abort', stop)
      await Promise.race([db.replication.synced(), stopped]).finally(() => { signal.removeEventListener('abort', stop) })
      return { lines: ['in sync'], value: { synced: true } }
    }
  },
  help: {
    usage: 'help',
    summary: 'show this',
    run: async () => {
      const width = Math.max(...Object.values(commands).map(({ usage }) => usage.length))
      const lines = Object.values(commands).map(({ usage, summary }) => `${usage.padEnd(width)}  ${summary}`)
      return { lines: [...lines, `${'exit'.padEnd(width)}  leave`, 'A key with spaces is written as a JSON string: put "two words" value'], value: Object.values(commands).map(({ usage }) => usage) }
    }
  }
}

/**
 * The lines of a text, until its end or until it is destroyed, without the byte order mark that some editors put before
 * them. readline would cut them at U+2028 and U+2029 as well, from Node.js 24 on: JSON may hold these.
 */
export async function * linesOf (input: Readable): AsyncGenerator<string> {
  let rest = ''
  try {
    let first = true
    for await (const text of input.setEncoding('utf8') as AsyncIterable<string>) {
      rest += first ? text.replace(/^\ufeff/, '') : text
      first = false
      if (!text.includes('\n')) continue
      const lines = rest.split(/\r?\n/)
      rest = lines.pop()!
      yield * lines
    }
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
    return // what there is of a last line is not all of it
  }
  if (rest !== '') yield rest
}

/** Splits a line into a command and the rest, and runs it. */
export async function runCommand (db: ReplicatedLevel, line: string, progress: Progress, signal: AbortSignal): Promise<Answer> {
  const [, name, rest] = /^(\S+)\s*(.*)$/s.exec(line)!
  const command = Object.hasOwn(commands, name!) ? commands[name!]! : undefined
  if (command === undefined) throw new CommandError(`unknown command ${JSON.stringify(name)}; try help`)
  return await command.run(db, rest!, progress, signal)
}

/** A key at the beginning of a text: a word, or a JSON string; and what follows it. */
function takeKey (rest: string, command: string): [key: string, rest: string] {
  if (rest === '') throw new CommandError(`${commands[command]!.usage}`)
  const quoted = /^("(?:[^"\\]|\\.)*")(?:\s+(.*))?$/s.exec(rest)
  if (quoted !== null) return [unquoted(quoted[1]!), quoted[2] ?? '']
  const [, key, value] = /^(\S+)\s*(.*)$/s.exec(rest)!
  return [key!, value!]
}

/** A key that nothing follows: the first word of one with spaces is another key. */
function onlyKey (rest: string, command: string): string {
  const [key, more] = takeKey(rest, command)
  if (more !== '') throw new CommandError(`${commands[command]!.usage}; a key with spaces is written as a JSON string`)
  return key
}

/** A JSON string as its text; anything else as it stands. */
function unquoted (text: string): string {
  if (!/^".*"$/.test(text)) return text
  try {
    return String(JSON.parse(text))
  } catch {
    return text
  }
}

function shown (key: string): string {
  return /^[^\s"]+$/.test(key) ? key : JSON.stringify(key)
}

async function importFile (db: ReplicatedLevel, path: string, progress: Progress, signal: AbortSignal): Promise<number> {
  if (path === '') throw new CommandError(commands.import!.usage)
  const { size } = await stat(path).catch((error) => { throw new CommandError(error.message) })
  let done = 0
  let written = 0
  let lines = 0
  let entries = 0
  let batch: Array<{ type: 'put', key: string, value: string }> = []
  for await (const line of linesOf(createReadStream(path))) {
    lines++
    done += Buffer.byteLength(line) + 1
    if (line.trim() === '') continue
    entries++
    batch.push({ type: 'put', ...parseLine(line, lines) })
    if (batch.length < importBatch && done - written < importBytes) continue
    await db.batch(batch)
    batch = []
    written = done
    progress(done, size, 'import')
    if (signal.aborted) throw new CommandError(`stopped after ${entries} entries`)
  }
  if (batch.length > 0) await db.batch(batch)
  progress(size, size, 'import')
  return entries
}

function parseLine (line: string, number: number): { key: string, value: string } {
  let entry
  try {
    entry = JSON.parse(line)
  } catch (error) {
    throw new CommandError(`line ${number} is not JSON: ${(error as Error).message}`)
  }
  const { key, value } = entry ?? {}
  if (typeof key !== 'string' || value === undefined || value === null) throw new CommandError(`line ${number} has to be { "key": "...", "value": ... }`)
  return { key, value: typeof value === 'string' ? value : JSON.stringify(value) }
}

function peerRow ({ id, address, direction, state, lag, progress, lastError }: PeerStatus): string[] {
  return [
    `${address.host}:${address.port}`,
    direction,
    progress === undefined ? state : `${state} ${Math.round(progress * 100)}%`,
    id === undefined ? '-' : id.slice(0, 8),
    `lag ${lag.inbound} in, ${lag.outbound} out`,
    lastError?.message ?? ''
  ]
}

function table (rows: string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd())
}
