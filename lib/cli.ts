#!/usr/bin/env node
/**
 * The command line: opens a replica, and runs commands from a prompt or from standard input, one a line, in order.
 *
 * Answers go to standard output; notices, progress and errors to standard error, but for the progress of a sync beside a
 * prompt, which is a part of that. Exit status: 0, 1 if a command of a script failed, 2 for bad usage or if the database
 * cannot be opened.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface, type Interface } from 'node:readline'
import { parseArgs } from 'node:util'
import { CommandError, commands, linesOf, runCommand, type Progress } from './cli-commands.ts'
import { formatAddress } from './network/addresses.ts'
import { ReplicatedLevel, type ReplicatedLevelOptions } from './index.ts'

const usage = `usage: replicated-level <directory> [--group g] [--host h] [--port n] [--peer host:port ...]
                        [--secret-file f] [--no-discovery] [--insecure] [--json]
       replicated-level secret
       replicated-level --help | --version`

const barWidth = 30

/** What ends it: whoever sends a second one does not wait for the database to be closed. */
const signals = ['SIGTERM', 'SIGINT'] as const

interface Arguments {
  readonly directory: string
  readonly json: boolean
  readonly options: ReplicatedLevelOptions
}

const promptText = '> '

class Screen {
  readonly #json: boolean
  readonly #terminal = process.stderr.isTTY === true
  prompt: Interface | undefined
  /** A command is at work: nobody is asked for the next one. */
  #busy = false
  #barShown = false
  /** It is that of the command. */
  #barTaken = false

  constructor (json: boolean) {
    this.#json = json
  }

  answer (lines: string[], value: unknown): void {
    this.#clearBar()
    const text = this.#json ? JSON.stringify(value) : lines.join('\n')
    if (text !== '') process.stdout.write(text + '\n')
  }

  /** Says something on its own account, without destroying the line that is being typed. */
  notice (text: string, value: object): void {
    this.#clearBar()
    if (this.prompt !== undefined) process.stderr.write('\r\x1b[K')
    process.stderr.write((this.#json ? JSON.stringify(value) : text) + '\n')
    if (!this.#busy) this.prompt?.prompt(true)
  }

  /** Asks for the next command. */
  ask (): void {
    this.#busy = false
    this.prompt?.prompt()
  }

  /** A command begins. */
  begin (): void {
    this.#busy = true
    this.#barTaken = false
  }

  /** How far a command has come. */
  readonly progress: Progress = (done, total, what) => {
    this.#barTaken = true
    this.#bar(total === 0 ? 1 : Math.min(1, done / total), what)
  }

  /** How far a sync has come that takes a while; undefined when none is under way. Where a line is being typed it stands before that. */
  syncing (part: number | undefined): void {
    if (!this.#terminal || this.#json || (this.#busy && this.#barTaken)) return
    if (this.prompt === undefined || this.#busy) {
      if (part === undefined) this.#clearBar()
      else this.#bar(part, 'sync')
      return
    }
    const text = part === undefined ? promptText : `${barText(part, 'sync')} ${promptText}`
    if (text === this.prompt.getPrompt()) return
    this.prompt.setPrompt(text)
    this.prompt.prompt(true)
  }

  #bar (part: number, what: string): void {
    if (!this.#terminal || this.#json) return
    process.stderr.write(`\r\x1b[K${barText(part, what)}`)
    this.#barShown = true
    if (part === 1) this.#clearBar()
  }

  #clearBar (): void {
    if (!this.#barShown) return
    process.stderr.write('\r\x1b[K')
    this.#barShown = false
  }
}

function barText (part: number, what: string): string {
  const filled = Math.round(part * barWidth)
  return `${what} [${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}] ${Math.round(part * 100)}%`
}

function readArguments (args: string[]): Arguments {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      group: { type: 'string' },
      host: { type: 'string' },
      port: { type: 'string' },
      peer: { type: 'string', multiple: true },
      'secret-file': { type: 'string' },
      'no-discovery': { type: 'boolean' },
      insecure: { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean', short: 'v' }
    }
  })
  if (values.help === true) leave(usage)
  if (values.version === true) leave((JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version)
  const [directory, ...more] = positionals
  if (directory === 'secret' && more.length === 0) leave(randomBytes(32).toString('base64url'))
  if (directory === undefined) throw new Error('a directory is missing')
  if (more.length > 0) throw new Error(`${JSON.stringify(more[0])} is one argument too many`)
  if (values.port !== undefined && !/^\d+$/.test(values.port)) throw new Error(`--port has to be a number, received ${JSON.stringify(values.port)}`)
  const options = {
    ...(values.group === undefined ? {} : { group: values.group }),
    ...(values.host === undefined ? {} : { host: values.host }),
    ...(values.port === undefined ? {} : { port: Number(values.port) }),
    ...(values['secret-file'] === undefined ? {} : { secret: readSecret(values['secret-file']) }),
    ...(values['no-discovery'] === true ? { discovery: false } : {}),
    ...(values.insecure === true ? { insecure: true } : {}),
    peers: values.peer ?? []
  }
  return { directory, json: values.json === true, options }
}

function readSecret (file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new Error(`--secret-file cannot be read: ${(error as Error).message}`)
  }
}

function leave (text: string): never {
  process.stdout.write(text + '\n')
  process.exit(0)
}

/** Tells what replication does, as it happens. */
function announce (db: ReplicatedLevel, screen: Screen): void {
  const place = (host: string, port: number): string => port === 0 ? host : formatAddress({ host, port })
  db.on('listening', (address) => { screen.notice(`listening on ${place(address.host, address.port)}`, { event: 'listening', ...address }) })
  db.on('connect', (host, port) => { screen.notice(`connected with ${place(host, port)}`, { event: 'connect', host, port }) })
  db.on('connection', (host, port) => { screen.notice(`connection from ${place(host, port)}`, { event: 'connection', host, port }) })
  db.on('disconnect', (host, port, error) => {
    const from = place(host, port)
    const reason = error?.message.replace(`${from}: `, '')
    screen.notice(reason === undefined ? `disconnected from ${from}` : `disconnected from ${from}: ${reason}`, { event: 'disconnect', host, port, error: error?.message })
  })
  db.on('error', (error) => { screen.notice(`${error.code}: ${error.message}`, { event: 'error', code: error.code, message: error.message }) })
}

/** Runs the commands of standard input; returns whether all of them succeeded. */
async function serve (db: ReplicatedLevel, screen: Screen): Promise<boolean> {
  const prompt = process.stdin.isTTY === true ? createInterface({ input: process.stdin, output: process.stdout, terminal: true, prompt: promptText, completer: complete }) : undefined
  const stopping = new AbortController()
  const stop = (): void => {
    for (const signal of signals) process.off(signal, stop) // the next one ends the process at once
    stopping.abort()
    prompt === undefined ? process.stdin.destroy() : prompt.close()
  }
  for (const signal of signals) process.on(signal, stop)
  prompt?.once('SIGINT', stop)
  prompt?.once('close', () => { screen.prompt = undefined }) // which may be before the last command has run
  screen.prompt = prompt
  let succeeded = true
  screen.ask()
  for await (const text of prompt ?? linesOf(process.stdin)) {
    const line = text.trim()
    if (line === 'exit' || stopping.signal.aborted) break
    screen.begin()
    if (line !== '' && !line.startsWith('#') && !await runLine(db, line, screen, stopping.signal)) succeeded = false
    screen.ask()
  }
  prompt?.close()
  return succeeded || prompt !== undefined
}

async function runLine (db: ReplicatedLevel, line: string, screen: Screen, signal: AbortSignal): Promise<boolean> {
  try {
    const { lines, value } = await runCommand(db, line, screen.progress, signal)
    screen.answer(lines, value)
    return true
  } catch (thrown) {
    const error = thrown as Error & { code?: string }
    screen.notice(textOf(error), { error: error.message, code: error.code, command: line })
    return false
  }
}

/** An error with its code, which Node.js says by itself. */
function textOf (error: Error & { code?: string }): string {
  const { code = 'error', message } = error
  return error instanceof CommandError || message.startsWith(`${code}: `) ? message : `${code}: ${message}`
}

function complete (line: string): [string[], string] {
  const names = [...Object.keys(commands), 'exit'].filter((name) => name.startsWith(line))
  return [names, line]
}

/** Shows how far a first sync has come, or another one that takes a while. */
function watchSync (db: ReplicatedLevel, screen: Screen): () => void {
  const timer = setInterval(() => {
    let peers
    try {
      peers = db.replication.peers()
    } catch {
      return // not open yet, or not any more
    }
    const syncing = peers.find(({ progress, state }) => state === 'syncing' && progress !== undefined)
    screen.syncing(syncing === undefined ? undefined : Math.min(0.99, syncing.progress!))
  }, 100)
  return () => {
    clearInterval(timer)
    screen.syncing(undefined)
  }
}

async function main (): Promise<number> {
  let given: Arguments
  let db: ReplicatedLevel
  try {
    given = readArguments(process.argv.slice(2))
    db = new ReplicatedLevel(given.directory, given.options)
  } catch (error) {
    const { message, code } = error as Error & { code?: string }
    process.stderr.write(`${code?.startsWith('ERR_') === false ? `${code}: ` : ''}${message}\n${usage}\n`)
    return 2
  }
  const screen = new Screen(given.json)
  announce(db, screen)
  const stopWatching = watchSync(db, screen)
  try {
    await db.open()
  } catch (error) {
    stopWatching()
    const reason = ((error as Error).cause ?? error) as Error & { code?: string }
    screen.notice(textOf(reason), { event: 'error', code: reason.code, message: reason.message })
    return 2
  }
  screen.notice(`replica ${db.replication.id}`, { event: 'open', id: db.replication.id })
  const succeeded = await serve(db, screen)
  stopWatching()
  await db.close()
  return succeeded ? 0 : 1
}

// Whoever reads our output may leave early: head(1) does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => { process.exit(error.code === 'EPIPE' ? 0 : 1) })
// What replication tells of itself may stay unheard.
process.stderr.on('error', () => {})
process.exitCode = await main()
