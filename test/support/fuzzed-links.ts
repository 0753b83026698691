/**
 * Hostile frames over sockets, to a replica in a process of its own: before it has authenticated the other end, before it
 * has greeted it, and after. From a seed, as far as sockets allow.
 */
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { logIdFrom } from '../../lib/core/ids.ts'
import { deriveGroupKeys } from '../../lib/network/secret.ts'
import { newDirectory } from './directory.ts'
import { FrameFuzzer } from './frame-fuzzer.ts'
import { framed, HostilePeer } from './hostile-peer.ts'
import { converged, ReplicaProcess } from './replica-process.ts'
import { seed } from './seed.ts'

const MiB = 2 ** 20
const heldMaxMs = 50
const group = 'shop'
const conversationsAtOnce = 4
const framesPerConversation = 60

/** How far the hostile one comes: he is let in with the group's key, and greets. */
interface Stage {
  readonly name: string
  readonly secret: boolean
  readonly hasKey: boolean
  readonly greets: boolean
}

const stages: Stage[] = [
  { name: 'where there is no secret, before the greeting', secret: false, hasKey: false, greets: false },
  { name: 'where there is no secret, after the greeting', secret: false, hasKey: false, greets: true },
  { name: 'where there is a secret, without it', secret: true, hasKey: false, greets: false },
  { name: 'with the secret, before the greeting', secret: true, hasKey: true, greets: false },
  { name: 'with the secret, after the greeting', secret: true, hasKey: true, greets: true }
]

/** The beginning of a TLS handshake: what a stranger may say before he is found out. */
const clientHello = Buffer.from('16030100a5010000a10303' + '5a'.repeat(32) + '000004cca800ff01000074' + '000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d0030002e' + '040305030603080708080809080a080b080408050806040105010601030302030301020103020202040205020602' + '002b00050403040303', 'hex')

/** So many frames at each stage. The conversations of one that is found out end, and others follow. */
export function fuzzedLinksSuite (framesWanted: number): { run: () => void } {
  const test = suite('hostile frames over sockets')
  const secret = randomBytes(24).toString('base64url')
  const pairs = new Map<boolean, Promise<[ReplicaProcess, ReplicaProcess]>>()

  /** One that is attacked and one that is linked with it; those with a secret, or those without. */
  async function openPair (isSecret: boolean): Promise<[ReplicaProcess, ReplicaProcess]> {
    const options = { group, host: '127.0.0.1', ...(isSecret ? { secret } : {}) }
    const victim = await ReplicaProcess.open(newDirectory(), options)
    const friend = await ReplicaProcess.open(newDirectory(), { ...options, peers: [victim.address] })
    await victim.do('fill', { prefix: 'f', count: 1000 })
    await converged([victim, friend])
    return [victim, friend]
  }

  test.after(async () => {
    for (const pair of pairs.values()) for (const replica of await pair) await replica.close()
  })

  for (const [number, { name, secret: isSecret, hasKey, greets }] of stages.entries()) {
    test(`${framesWanted} frames ${name}: no crash, no hang, the event loop is not held, memory goes back`, async () => {
      if (!pairs.has(isSecret)) pairs.set(isSecret, openPair(isSecret))
      const [victim, friend] = await pairs.get(isSecret)!
      const port = Number(victim.address.split(':')[1])
      const key = hasKey ? (await deriveGroupKeys(secret, group)).connection : undefined
      const log = logIdFrom(Buffer.from((await victim.do('status')).log, 'hex'))

      const startMs = performance.now()
      const heldMs: number[] = []
      const said = { frames: 0, conversations: 0 }
      let bytesBefore = 0

      const converse = async (slot: number): Promise<void> => {
        const fuzzer = new FrameFuzzer(seed + 1_000_000 * number + said.conversations++, { logs: [log], group })
        // Some say nothing that is malformed, only what is false: these come further.
        const mutated = fuzzer.pick([0, 0.02, 0.4])
        const peer = await HostilePeer.dial(port, { key })
        if (greets) await peer.say(fuzzer.hello({ credit: 1_000_000, replica: Buffer.alloc(16, 0x70 + slot).toString('hex') }))
        for (let count = 0; count < framesPerConversation && !peer.isClosed; count++) {
          if (isSecret && !hasKey) await peer.write(fuzzer.chance(0.7) ? fuzzer.mutate(clientHello) : framed(fuzzer.frame()))
          else await peer.say(fuzzer.frame(mutated))
          said.frames++
          // Whoever is found out learns it: what is said to nobody does not count.
          if (count % 2 === 1) await new Promise((resolve) => { setTimeout(resolve, 1) })
        }
        peer.leave()
      }
      const slots = Array.from({ length: conversationsAtOnce }, (_, slot) => slot)

      const steps = 6
      for (let step = 1; step <= steps; step++) {
        await victim.do('watchLoop')
        const until = said.frames + framesWanted / steps
        await Promise.all(slots.map(async (slot) => {
          while (said.frames < until) await converse(slot)
        }))
        heldMs.push(await victim.do('loopHeld'))
        await victim.do('put', { key: 'step', value: `${step}` })
        await converged([victim, friend])
        // What the first ones make it load and remember is the baseline.
        if (step === 1) bytesBefore = await victim.do('held')
      }
      const bytes: number = await victim.do('held') - bytesBefore
      console.log(`  ${said.frames} frames in ${said.conversations} conversations ${name}: ${((performance.now() - startMs) / 1000).toFixed(0)} s; event loop held for ${Math.min(...heldMs).toFixed(0)} to ${Math.max(...heldMs).toFixed(0)} ms; ${(bytes / MiB).toFixed(1)} MiB more`)
      assert.ok(Math.max(...heldMs) <= heldMaxMs, `held for ${heldMs.join()} ms`)
      assert.ok(bytes < 64 * MiB, `${bytes} bytes more`)
      const codes = new Set((await victim.do('errors')).map((error: string) => error.split(':')[0]))
      assert.not(codes.has('REPLICATION_INTERNAL'), [...codes].join())
    })
  }

  return test
}
