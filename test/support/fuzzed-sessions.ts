/**
 * Conversations with a hostile peer, without sockets: each from a seed, so that one that went wrong can be had again.
 */
import * as assert from 'uvu/assert'
import { decodeFrame } from '../../lib/codec/message.ts'
import { ReplicationError } from '../../lib/errors.ts'
import { End, FakeReplica } from './session-pair.ts'
import { FrameFuzzer } from './frame-fuzzer.ts'

export interface Outcome {
  readonly frames: number
  /** Codes that the conversation ended with; undefined if it never did. */
  readonly code: string | undefined
  /** The longest that one frame took. */
  readonly longestMs: number
}

const framesMax = 60

/** One conversation: greeted first or not, then frames until it ends. */
export function fuzzedSession (seed: number): Outcome {
  const replica = new FakeReplica(1)
  for (let count = 0; count < 3; count++) replica.write()
  const fuzzer = new FrameFuzzer(seed, { logs: [replica.log] })
  const end = new End(replica)
  end.connected(fuzzer.chance(0.5))
  let longestMs = 0
  let frames = 0
  const take = (bytes: Buffer): void => {
    const startMs = performance.now()
    try {
      end.receive(bytes)
    } catch (error) {
      // What makes no sense ends a link; here the conversation mostly goes on without it, to come further.
      if (!(error instanceof ReplicationError)) throw Object.assign(error as Error, { message: `SEED ${seed}, frame ${bytes.toString('hex').slice(0, 400)}: ${(error as Error).message}` })
      if (fuzzer.chance(0.05)) end.handle({ type: 'received', frame: decodeFrame(Buffer.from('0a0000', 'hex')), timeMs: 0 })
    }
    longestMs = Math.max(longestMs, performance.now() - startMs)
    frames++
  }
  if (fuzzer.chance(0.6)) take(fuzzer.hello({ credit: 1_000_000 }))
  for (let count = 0; count < framesMax && end.ended === undefined; count++) {
    take(fuzzer.frame())
    if (fuzzer.chance(0.1)) end.handle({ type: 'tick', timeMs: end.clockMs })
  }
  const code = end.ended
  assert.ok(code === undefined || code.startsWith('REPLICATION_'), `SEED ${seed}: ended with ${code}`)
  assert.is.not(code, 'REPLICATION_INTERNAL', `SEED ${seed}`)
  return { frames, code, longestMs }
}

/** As many conversations as it takes for so many frames; what they ended with. */
export function fuzzSessions (firstSeed: number, framesWanted: number, longestAllowedMs: number): Map<string | undefined, number> {
  const codes = new Map<string | undefined, number>()
  for (let seed = firstSeed, frames = 0; frames < framesWanted; seed++) {
    const outcome = fuzzedSession(seed)
    frames += outcome.frames
    codes.set(outcome.code, (codes.get(outcome.code) ?? 0) + 1)
    // Another process may have had the processor; a frame that is slow by itself is slow each time.
    let { longestMs } = outcome
    for (let again = 0; again < 3 && longestMs > longestAllowedMs; again++) longestMs = Math.min(longestMs, fuzzedSession(seed).longestMs)
    assert.ok(longestMs <= longestAllowedMs, `SEED ${seed}: a frame took ${longestMs.toFixed(1)} ms`)
  }
  return codes
}
