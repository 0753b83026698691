/**
 * The option `peers`, whatever its form, as a stream of addresses.
 *
 * An array or a record is known at once and does not change. A function is asked again and again, also if it does not
 * answer, and each answer replaces the one before. An async iterable adds what it yields. What a function or an iterable gives later is
 * the world's doing: it is reported with REPLICATION_PEERS and never fatal, and the good addresses of an answer
 * are used beside the bad ones.
 */
import { ReplicationError, toReplicationError } from '../errors.ts'
import { peersIntervalMs, peersTimeoutMs } from '../limits.ts'
import type { PeerSet, PeersOption } from '../options.ts'
import type { Address, ErrorListener, System, Timer } from '../types.ts'
import { formatAddress, parseAddress } from './addresses.ts'

export interface PeerSourceOptions {
  system: System
  /** Called with each set: in place of the one before if `replace`, else in addition. */
  onAddresses: (addresses: Address[], options: { replace: boolean }) => void
  /** Called with REPLICATION_PEERS. */
  onError: ErrorListener
}

/**
 * The option `peers`, of which a later change has no effect.
 *
 * @throws `REPLICATION_INVALID_OPTION` if it has none of the forms, or is a set with a bad address
 */
export function checkedPeers (peers: PeersOption): PeersOption {
  return isFunction(peers) || isAsyncIterable(peers) ? peers : addressesOf(peers).map(formatAddress)
}

/** Watches the option `peers` between `start()` and `stop()`. */
export class PeerSource {
  readonly #peers: PeersOption
  readonly #options: PeerSourceOptions
  /** Runs out when the function is to be asked again, or has been asked for too long. */
  #timer: Timer | undefined
  /** How often the function was asked, and what its last answer was to. */
  #asked = 0
  #answered = 0
  #iterator: AsyncIterator<string | readonly string[]> | undefined
  #stopped = false
  #stop: () => void = () => {}

  /** @param peers what {@link checkedPeers} has returned */
  constructor (peers: PeersOption, options: PeerSourceOptions) {
    this.#peers = peers
    this.#options = options
  }

  /**
   * Begins. Resolves when the first answer is known: of a function when it has answered, failed, or let pass its time, of an iterable
   * at once. Never rejects.
   */
  async start (): Promise<void> {
    const peers = this.#peers
    if (isFunction(peers)) {
      const stopped = new Promise<void>((resolve) => { this.#stop = resolve })
      await Promise.race([this.#ask(peers), stopped])
    } else if (isAsyncIterable(peers)) {
      this.#follow(peers).catch((error) => { this.#report(error) })
    } else {
      this.#give(peers, true)
    }
  }

  /** Ends it: nothing is called any more, whatever a function or an iterable may still be doing. */
  stop (): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#options.system.clearTimer(this.#timer)
    this.#stop()
    const iterator = this.#iterator
    if (iterator?.return === undefined) return
    // Not awaited: the return of a generator that waits comes when its wait is over, perhaps never.
    new Promise((resolve) => { resolve(iterator.return?.()) }).catch(() => {})
  }

  async #ask (peers: () => PeerSet | Promise<PeerSet>): Promise<void> {
    const { system } = this.#options
    const late = new Promise<'late'>((resolve) => { this.#timer = system.setTimer(() => { resolve('late') }, peersTimeoutMs) })
    if (await Promise.race([this.#answer(peers), late]) === 'late') this.#report(new Error(`no answer within ${peersTimeoutMs} ms`))
    if (this.#stopped) return
    system.clearTimer(this.#timer)
    this.#timer = system.setTimer(() => { this.#ask(peers).catch(() => {}) }, peersIntervalMs)
  }

  /** An answer that comes late counts too, unless a later question has been answered. */
  async #answer (peers: () => PeerSet | Promise<PeerSet>): Promise<void> {
    const number = ++this.#asked
    try {
      const set = await peers()
      if (number < this.#answered) return
      this.#answered = number
      this.#give(set, true)
    } catch (error) {
      this.#report(error)
    }
  }

  async #follow (peers: AsyncIterable<string | readonly string[]>): Promise<void> {
    const iterator = peers[Symbol.asyncIterator]()
    this.#iterator = iterator
    while (!this.#stopped) {
      const { done, value } = await iterator.next()
      if (done === true) return
      this.#give(typeof value === 'string' ? [value] : value, false)
      await this.#options.system.yield() // one that never waits must not keep the event loop
    }
  }

  #give (set: PeerSet, replace: boolean): void {
    if (this.#stopped) return
    try {
      const addresses = addressesOf(set, (error) => { this.#report(error) })
      this.#options.onAddresses(addresses, { replace })
    } catch (error) {
      this.#report(error)
    }
  }

  #report (error: unknown): void {
    if (this.#stopped) return
    const { message } = toReplicationError(error)
    this.#options.onError(new ReplicationError(`Option 'peers': ${message}`, { code: 'REPLICATION_PEERS', cause: error }))
  }
}

/** The addresses of a set, each once. A bad one is thrown, or handed to `onBad` and left out. */
function addressesOf (set: unknown, onBad?: (error: unknown) => void): Address[] {
  if (!isSet(set)) {
    throw new ReplicationError(
      `Invalid peers, ${describe(set)}: expected an array of 'host:port', an object with such keys, a function that returns one of these or a promise of it, or an async iterable`,
      { code: 'REPLICATION_INVALID_OPTION' }
    )
  }
  const addresses = new Map<string, Address>()
  for (const text of Array.isArray(set) ? set : Object.keys(set)) {
    try {
      const address = parseAddress(text)
      addresses.set(formatAddress(address), address)
    } catch (error) {
      if (onBad === undefined) throw error
      onBad(error)
    }
  }
  return [...addresses.values()]
}

/** A promise has no addresses, nor has an iterator: taken for a record, it would be an empty one. */
function isSet (set: unknown): set is PeerSet {
  return Array.isArray(set) || (typeof set === 'object' && set !== null && !(Symbol.iterator in set) && !(Symbol.asyncIterator in set) && !isPromise(set))
}

function isPromise (value: object): boolean {
  return 'then' in value && typeof value.then === 'function'
}

function describe (value: unknown): string {
  if (typeof value === 'string') return `'${value.slice(0, 300)}'`
  if (typeof value !== 'object' || value === null) return value === null ? 'null' : `a ${typeof value}`
  return isPromise(value) ? 'a promise' : Symbol.asyncIterator in value ? 'an async iterable that a function has returned' : 'an iterable that is no array'
}

function isFunction (peers: PeersOption): peers is () => PeerSet | Promise<PeerSet> {
  return typeof peers === 'function'
}

function isAsyncIterable (peers: PeersOption): peers is AsyncIterable<string | readonly string[]> {
  return typeof peers === 'object' && peers !== null && Symbol.asyncIterator in peers
}
