/**
 * One process with one side of a peer, told what to do by the process that forked it. Nothing is told while
 * something is timed, but for single writes: their next begins when the last was seen.
 */
import { mkdirSync } from 'node:fs'
import { keyOf, putsOf, valueOf, windowsOf } from '../data.ts'
import { nowMs } from '../clock.ts'
import { peakMemoryBytes, resetPeakMemory } from '../memory.ts'
import { timeWrites, windowSize, type Task, type Timing, type WriteName } from '../operations.ts'
import { serve } from '../serve.ts'
import { assertSame, verify, type Checked } from '../verification.ts'
import { resetWireBytes, wireBytes } from '../wire.ts'
import { Expectation } from './expectation.ts'
import { kinds } from './kinds.ts'
import type { OpenOptions, Peer, TextPut } from './peer.ts'

/** Entries by index, and which of the values that each gets one after another. */
export interface Entries {
  readonly from: number
  readonly count: number
  readonly generation?: number
}

/** The least pause between two questions how much has come; a question that takes long is asked less often. */
const pollMs = 1
const pausePerQuestion = 10

let peer: Peer | undefined
let expectation: Expectation | undefined
let wireStartBytes = 0

function current (): Peer {
  if (peer === undefined) throw new Error('Nothing is open')
  return peer
}

function textPuts ({ from, count, generation }: Entries): TextPut[] {
  return putsOf(from, count, 'utf8', generation) as TextPut[]
}

async function untilKnown (count: number): Promise<number> {
  while (true) {
    const askedMs = nowMs()
    const known = await current().known()
    const answeredMs = nowMs()
    if (known >= count) return answeredMs
    await new Promise((resolve) => { setTimeout(resolve, Math.max(pollMs, pausePerQuestion * (answeredMs - askedMs))) })
  }
}

const commands = {
  /** Opens it, and gives what the other side has to know to connect. */
  async open ({ kind, ...options }: OpenOptions & { kind: string }): Promise<unknown> {
    mkdirSync(options.directory, { recursive: true })
    peer = await kinds[kind]!.open(options)
    return peer.invitation()
  },

  async close (): Promise<void> {
    await peer?.close()
    peer = undefined
    expectation = undefined
  },

  async welcome (invitation: never): Promise<void> {
    await current().welcome?.(invitation)
  },

  /** Gives the moment at which it began to connect. */
  async connect (invitation: never): Promise<number> {
    const startMs = nowMs()
    await current().connect(invitation)
    return startMs
  },

  async disconnect (): Promise<void> {
    await current().disconnect()
  },

  async time (task: Task<WriteName>): Promise<Timing> {
    return await timeWrites(current(), task, 'utf8')
  },

  /** Writes one after another; gives the moment at which it began. */
  async put (entries: Entries): Promise<number> {
    const puts = textPuts(entries)
    const startMs = nowMs()
    for (const { key, value } of puts) await current().put(key, value)
    return startMs
  },

  /** Writes concurrently while the other side does, and waits until so many entries are known. */
  async converge ({ known, ...entries }: Entries & { known: number }): Promise<{ startMs: number, endMs: number }> {
    const windows = windowsOf(textPuts(entries), windowSize)
    const startMs = nowMs()
    for (const window of windows) await Promise.all(window.map(({ key, value }) => current().put(key, value)))
    return { startMs, endMs: await untilKnown(known) }
  },

  untilKnown,

  /** From now on, looks whether these values are there whenever something changes. */
  async expect ({ from, count, generation = 0 }: Entries): Promise<void> {
    if (expectation === undefined) {
      expectation = new Expectation(current())
      await current().onChange((key) => { expectation!.look(key) })
    }
    expectation.begin(textPuts({ from, count, generation }))
  },

  /** Waits until all that was expected is there; gives the moment of the last. */
  async seen (): Promise<number> {
    return await expectation!.met
  },

  async verify (total: number): Promise<Checked> {
    return await verify(current(), 'utf8', total)
  },

  /** @throws Error if one of these entries has another value */
  async verifyValues ({ from, count, generation = 0 }: Entries): Promise<void> {
    for (let index = from; index < from + count; index++) {
      assertSame(await current().get(keyOf(index, 'utf8') as string), valueOf(index, 'utf8', generation), index)
    }
  },

  /** Counts bytes and memory from here. */
  async resetCounts (): Promise<void> {
    for (const process of ['self', ...current().processes ?? []] as const) resetPeakMemory(process)
    resetWireBytes()
    wireStartBytes = await current().wireBytes?.() ?? 0
  },

  async counts (): Promise<{ wireBytes: number, peakMemoryBytes: number }> {
    const processes = ['self', ...current().processes ?? []] as const
    return {
      wireBytes: (await current().wireBytes?.() ?? wireBytes()) - wireStartBytes,
      peakMemoryBytes: processes.reduce<number>((sum, process) => sum + peakMemoryBytes(process), 0)
    }
  }
}

export type PeerCommands = typeof commands

serve(commands)
