/**
 * Keeps trying to be connected with a set of addresses.
 *
 * Each address is in one of three states:
 *
 *     waiting ----- its turn comes ----> dialling ----- linked() ----> connected
 *        ^                                   |                             |
 *        +--- failed, or released() ---------+--------- released() --------+
 *
 * A connection that opens is handed on and stays `dialling` until the layer above says that it is greeted
 * (`linked`) or gone (`released`): a peer that accepts and hangs up is as bad as one that does not answer, and so is one
 * whose links all end at once. Who fails waits longer and longer; whoever was linked for a while, or of whom there is good
 * news, is tried again soon.
 *
 * Addresses that the user gave are tried for ever. One that was merely heard of, a *suggestion*, is forgotten after a
 * few failures, unless a replica was once *met* there: then it is tried for ever too, in time more slowly. Both kinds
 * have a limit; beyond it the one that failed most often gives way. An address that turns out to be our own is left alone for
 * a while, and tried again: addresses change hands, and a name may stand for others too.
 *
 * What must always hold: at most one dial per address (one that is being aborted counts) and `dialsMax` in all;
 * two dials of an address that stays in the set begin at least `backOffMinMs / 2` apart, whatever the news;
 * suggestions never keep an address of the user from its turn.
 */
import { type ReplicationError, toReplicationError } from '../errors.ts'
import { backOffMaxMs, backOffMinMs, dialTimeoutMs, metAttemptsMax, metMax, metRetryMs, selfRetryMs, suggestionAttemptsMax, suggestionsMax } from '../limits.ts'
import { BackOff } from '../sync/back-off.ts'
import type { Address, System, Timer } from '../types.ts'
import { formatAddress } from './addresses.ts'
import type { Connection, Transport } from './transport.ts'

/** Dials under way at once. */
const dialsMax = 16

/** Of these, dials of suggestions. */
const suggestionDialsMax = 8

/** Good news of a suggestion counts so often: whoever hears it from many does not dial more. */
const newsIntervalMs = 1000

/** New suggestions: so many at once, and so many a second after that. Who makes them up shall not keep us busy. */
const suggestionBurst = 64
const suggestionsPerSecond = 10

/** A suggestion that fails waits longer than others: it may be nobody's. */
const suggestionBackOffMs = 500

/** How long a suggestion waits at most, so that two that hear of each other at once do not both dial. */
const suggestionDelayMs = 200

export interface DialState {
  address: Address
  state: 'waiting' | 'dialling' | 'connected'
  /** Dials since it was last linked. */
  attempts: number
  lastError: Error | undefined
}

export interface DialerOptions {
  transport: Transport
  system: System
  /** A connection has opened, and now belongs to the callee, who answers with `linked` or `released`. */
  onConnection: (connection: Connection, address: Address) => void
  /** A dial has failed, with REPLICATION_DIAL_FAILED, or with REPLICATION_INTERNAL if `onConnection` threw. */
  onFailed: (address: Address, error: ReplicationError) => void
}

interface Target extends DialState {
  backOff: BackOff
  /** Wanted since it is of the set given last, or since it was added; neither: it is only known to be linked. */
  inSet: boolean
  added: boolean
  /** It was heard of; and a replica was linked there. */
  suggested: boolean
  met: boolean
  /** It was ourselves when it was last dialled. */
  isSelf: boolean
  /** Good news came while it was dialled: if that fails, it is tried once more soon. */
  encouraged: boolean
  /** When good news of it last counted. */
  newsMs: number
  /** It has failed, or was linked, once. */
  tried: boolean
  /** Its connection has been handed on, and is neither linked nor released yet. */
  opened: boolean
  dialledAtMs: number
  /** When it was last linked. */
  linkedAtMs: number
  /** When its wait is over. */
  dueAtMs: number
  timer: Timer | undefined
  dial: AbortController | undefined
}

export class Dialer {
  readonly #options: DialerOptions
  readonly #targets = new Map<string, Target>()
  /** Taken out by hand: neither a suggestion nor a set brings them back. */
  readonly #unwanted = new Set<string>()
  /** Those whose wait is over, in order. */
  readonly #ready = new Set<Target>()
  /** The dials under way, by address; an aborted one until it has ended. */
  readonly #dials = new Map<string, Promise<void>>()
  readonly #untried = new Set<{ targets: Set<Target>, resolve: () => void }>()
  /** New suggestions that may be taken now, and when that was counted. */
  #allowance = suggestionBurst
  #allowanceMs = 0
  #closed = false

  constructor (options: DialerOptions) {
    this.#options = options
  }

  /** Adds to the set of configured addresses; with `replace`, those not named leave it. */
  setAddresses (addresses: Address[], { replace = false }: { replace?: boolean } = {}): void {
    const keys = new Set(addresses.map(formatAddress))
    if (replace) {
      for (const [key, target] of this.#targets) {
        if (keys.has(key)) continue
        target.inSet = false
        this.#dropUnwanted(target)
      }
    }
    for (const address of addresses) if (!this.#unwanted.has(formatAddress(address))) this.#want(address, 'inSet')
  }

  /** Adds an address that was found in another way; only `remove` takes it out again. */
  add (address: Address): void {
    this.#unwanted.delete(formatAddress(address))
    this.#want(address, 'added')
  }

  /** An address that was heard of: dialled soon, a few times. If it is known, this is good news of it. */
  suggest (address: Address): void {
    const key = formatAddress(address)
    if (this.#closed || this.#unwanted.has(key)) return
    const nowMs = this.#options.system.monotonicMs()
    const known = this.#targets.get(key)
    if (known === undefined) {
      if (!this.#mayBeginOne(nowMs) || !this.#makeRoom(false, suggestionsMax)) return
      const target = this.#create(key, address)
      target.suggested = target.tried = true
      target.backOff = this.#backOff(suggestionBackOffMs)
      this.#wait(target, this.#options.system.random() * suggestionDelayMs)
    } else {
      known.suggested = true
      if (nowMs - known.newsMs < newsIntervalMs) return
      known.newsMs = nowMs
      if (known.met || !isSuggestion(known)) this.kick(address)
    }
  }

  /**
   * A link that did not come from here leads to a replica that listens there: as long as it lasts it is not dialled. False if
   * what the user gave is dialled all the same: who comes from there may not be who listens there.
   */
  met (address: Address): boolean {
    const key = formatAddress(address)
    if (this.#closed || this.#unwanted.has(key)) return false
    const known = this.#targets.get(key)
    if (known !== undefined && !isSuggestion(known)) return false
    const target = known ?? this.#create(key, address)
    target.suggested = true
    this.linked(address)
    return true
  }

  /** Stops dialling it, however it was added. A link over it is left alone. */
  remove (address: Address): void {
    this.#unwanted.add(formatAddress(address))
    const target = this.#targets.get(formatAddress(address))
    if (target === undefined) return
    target.inSet = target.added = target.suggested = false
    this.#dropUnwanted(target)
  }

  /** It is ourselves: not to be dialled for a while. */
  exclude (address: Address): void {
    const target = this.#targets.get(formatAddress(address))
    if (target === undefined) return
    target.isSelf = true
    this.#markTried(target)
    if (!isWanted(target) || (isSuggestion(target) && target.attempts >= suggestionAttemptsMax)) return this.#drop(target)
    this.#wait(target, selfRetryMs * (0.5 + this.#options.system.random() / 2))
  }

  /** A link over this address, or to the replica behind it, is greeted: stop dialling it. */
  linked (address: Address): void {
    const key = formatAddress(address)
    if (this.#closed) return
    const target = this.#targets.get(key) ?? this.#create(key, address)
    this.#halt(target)
    target.state = 'connected'
    target.isSelf = false
    if (isSuggestion(target) && !target.met) this.#makeRoom(true, metMax)
    target.met = true
    target.attempts = 0
    target.lastError = undefined
    target.linkedAtMs = this.#options.system.monotonicMs()
    this.#markTried(target)
  }

  /** The last link with this address, or the connection that was handed on, is gone: dial again after a while. */
  released (address: Address, error?: Error): void {
    const target = this.#targets.get(formatAddress(address))
    if (target === undefined || !(target.state === 'connected' || target.opened)) return
    const linkedMs = this.#options.system.monotonicMs() - target.linkedAtMs
    if (target.state === 'connected' && linkedMs >= backOffMaxMs) target.backOff = this.#backOff(backOffMinMs)
    this.#failed(target, error)
  }

  /** Good news of an address, or of all: reset the back-off, and dial soon what waits. */
  kick (address?: Address): void {
    const only = address === undefined ? undefined : this.#targets.get(formatAddress(address))
    const { system } = this.#options
    const nowMs = system.monotonicMs()
    const targets = address === undefined ? [...this.#targets.values()] : only === undefined ? [] : [only]
    for (const target of targets) {
      if (target.state === 'connected' || target.isSelf) continue
      target.backOff.reset()
      target.encouraged = target.state === 'dialling'
      if (target.state !== 'waiting' || this.#ready.has(target)) continue
      // Not at once: whoever hears the same news at the same moment would dial us while we dial them.
      const delayMs = Math.max(0, target.dialledAtMs + backOffMinMs - nowMs) + system.random() * backOffMinMs
      if (nowMs + delayMs < target.dueAtMs) this.#wait(target, delayMs)
    }
    this.#dialReady()
  }

  /** The addresses that are to be kept connected, but for our own. */
  states (): DialState[] {
    return [...this.#targets.values()].filter((target) => isWanted(target) && !target.isSelf)
      .map(({ address, state, attempts, lastError }) => ({ address, state, attempts, lastError }))
  }

  /** Settled when every address known now has been linked, has failed, or has been taken out. Never rejects. */
  async firstAttempts (): Promise<void> {
    const targets = new Set([...this.#targets.values()].filter((target) => !target.tried))
    if (targets.size === 0) return
    await new Promise<void>((resolve) => { this.#untried.add({ targets, resolve }) })
  }

  /** Stops dialling for good, and resolves when no dial is under way. Connections handed on are left alone. */
  async close (): Promise<void> {
    this.#closed = true
    for (const target of [...this.#targets.values()]) this.#drop(target)
    await Promise.all(this.#dials.values())
  }

  #want (address: Address, reason: 'inSet' | 'added'): void {
    const key = formatAddress(address)
    if (this.#closed) return
    const known = this.#targets.get(key)
    const target = known ?? this.#create(key, address)
    target[reason] = true
    if (known === undefined) this.#wait(target, 0)
    this.#dialReady()
  }

  #create (key: string, address: Address): Target {
    const target: Target = {
      address,
      state: 'waiting',
      attempts: 0,
      lastError: undefined,
      backOff: this.#backOff(backOffMinMs),
      inSet: false,
      added: false,
      suggested: false,
      met: false,
      isSelf: false,
      encouraged: false,
      newsMs: -Infinity,
      tried: false,
      opened: false,
      dialledAtMs: -Infinity,
      linkedAtMs: -Infinity,
      dueAtMs: Infinity,
      timer: undefined,
      dial: undefined
    }
    this.#targets.set(key, target)
    return target
  }

  #backOff (minMs: number): BackOff {
    return new BackOff({ minMs, maxMs: backOffMaxMs, random: () => this.#options.system.random() })
  }

  #wait (target: Target, delayMs: number): void {
    this.#halt(target)
    target.state = 'waiting'
    target.dueAtMs = this.#options.system.monotonicMs() + Math.max(0, delayMs)
    if (delayMs <= 0) {
      this.#ready.add(target)
      return
    }
    target.timer = this.#options.system.setTimer(() => {
      target.timer = undefined
      this.#ready.add(target)
      this.#dialReady()
    }, delayMs)
  }

  #dialReady (): void {
    for (const target of [...this.#ready].sort(byUrgency)) {
      const key = formatAddress(target.address)
      if (this.#dials.size >= dialsMax) return
      if (!this.#ready.has(target) || this.#dials.has(key)) continue
      if (isSuggestion(target) && this.#suggestionsDialled() >= suggestionDialsMax) continue
      this.#ready.delete(target)
      this.#dials.set(key, this.#dial(target).finally(() => {
        this.#dials.delete(key)
        this.#dialReady()
      }))
    }
  }

  #suggestionsDialled (): number {
    return [...this.#dials.keys()].map((key) => this.#targets.get(key)).filter((target) => target !== undefined && isSuggestion(target)).length
  }

  /** Never rejects. If the target is halted meanwhile, its outcome is of no interest any more. */
  async #dial (target: Target): Promise<void> {
    const { transport, system, onConnection, onFailed } = this.#options
    const controller = target.dial = new AbortController()
    target.state = 'dialling'
    target.attempts++
    target.dialledAtMs = system.monotonicMs()
    let connection: Connection | undefined
    try {
      connection = await transport.dial(target.address, { signal: controller.signal, timeoutMs: dialTimeoutMs })
      if (controller.signal.aborted) {
        connection.close()
        return
      }
      target.dial = undefined
      target.opened = true
      onConnection(connection, target.address)
    } catch (thrown) {
      if (controller.signal.aborted) return
      const error = toReplicationError(thrown)
      connection?.close(error)
      this.#failed(target, error)
      try {
        onFailed(target.address, error)
      } catch (thrownAgain) {
        target.lastError = toReplicationError(thrownAgain)
      }
    }
  }

  #failed (target: Target, error: Error | undefined): void {
    target.lastError = error
    target.isSelf = false
    this.#markTried(target)
    if (!isWanted(target)) return this.#drop(target)
    if (!isSuggestion(target)) return this.#wait(target, target.backOff.next())
    if (!target.met && target.attempts >= suggestionAttemptsMax) return this.#drop(target)
    const { system } = this.#options
    const isSoon = target.encouraged || target.attempts < metAttemptsMax
    target.encouraged = false
    this.#wait(target, isSoon ? target.backOff.next() : metRetryMs * (0.5 + system.random() / 2))
  }

  #mayBeginOne (nowMs: number): boolean {
    this.#allowance = Math.min(suggestionBurst, this.#allowance + (nowMs - this.#allowanceMs) / 1000 * suggestionsPerSecond)
    this.#allowanceMs = nowMs
    if (this.#allowance < 1) return false
    this.#allowance--
    return true
  }

  /** Makes room for one more that was merely heard of, or met; false if all that there are have done better. */
  #makeRoom (met: boolean, max: number): boolean {
    const all = [...this.#targets.values()].filter((target) => isSuggestion(target) && target.met === met)
    if (all.length < max) return true
    const worst = all.filter(({ state }) => state === 'waiting').reduce<Target | undefined>((worst, target) => worst === undefined || target.attempts > worst.attempts ? target : worst, undefined)
    if (worst === undefined || (!met && worst.attempts === 0 && this.#options.system.random() < 0.5)) return false
    this.#drop(worst)
    return true
  }

  /** Ends its wait or its dial. */
  #halt (target: Target): void {
    this.#ready.delete(target)
    this.#options.system.clearTimer(target.timer)
    target.timer = undefined
    target.dial?.abort()
    target.dial = undefined
    target.opened = false
  }

  /** One that is linked is remembered, so that it is not dialled beside its link when it is wanted again. */
  #dropUnwanted (target: Target): void {
    if (!isWanted(target) && target.state !== 'connected') this.#drop(target)
  }

  #drop (target: Target): void {
    this.#halt(target)
    this.#targets.delete(formatAddress(target.address))
    this.#markTried(target)
  }

  #markTried (target: Target): void {
    target.tried = true
    for (const waiter of this.#untried) {
      if (!waiter.targets.delete(target) || waiter.targets.size > 0) continue
      this.#untried.delete(waiter)
      waiter.resolve()
    }
  }
}

function isWanted (target: Target): boolean {
  return target.inSet || target.added || target.suggested
}

function isSuggestion (target: Target): boolean {
  return target.suggested && !target.inSet && !target.added
}

/** Those of the user first, then who failed less often; else in the order of their coming. */
function byUrgency (a: Target, b: Target): number {
  return Number(isSuggestion(a)) - Number(isSuggestion(b)) || a.attempts - b.attempts
}
