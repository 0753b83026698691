/**
 * Names of hosts and their addresses, as the resolver of the operating system knows them.
 *
 * A question to it cannot be taken back. It holds one of the two threads that a process has for questions until the
 * resolver gives up, which may be long after the dial has. So no name is asked for twice at once, and an answer that
 * comes too late for one dial serves the next: names that nobody answers for do not keep others from being found, and
 * a resolver whose first server is gone costs the first dial only.
 *
 * Of several addresses Node.js gives each but the last a quarter of a second (after RFC 8305, but the connection is given
 * up then). So each dial has another order: whoever takes longer, and is beside one that is gone, is the last one in time.
 */
import { lookup, type LookupAddress, type LookupAllOptions } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { nameFreshMs, nameKeptMs } from '../limits.ts'
import type { System } from '../types.ts'

type Answered = (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void

/** `lookup` of `node:dns`. */
export type NameResolver = (host: string, options: LookupAllOptions, answered: Answered) => void

interface Name {
  addresses: LookupAddress[]
  /** When it was last answered; infinite while it is asked for. */
  answeredMs: number
  readonly waiting: Answered[]
  /** How many dials have been given its addresses. */
  given: number
}

export class Names {
  readonly #system: System
  readonly #resolver: NameResolver
  readonly #names = new Map<string, Name>()

  constructor (system: System, resolver: NameResolver = lookup) {
    this.#system = system
    this.#resolver = resolver
  }

  /** As `connect` of `node:net` takes it. */
  readonly lookup: LookupFunction = (host, options, done) => {
    const nowMs = this.#system.monotonicMs()
    for (const [host, { answeredMs }] of this.#names) if (nowMs - answeredMs > nameKeptMs) this.#names.delete(host)
    const name = this.#names.get(host) ?? { addresses: [], answeredMs: -Infinity, waiting: [], given: 0 }
    this.#names.set(host, name)
    const answered: Answered = (error, addresses) => {
      if (error !== null) return done(error, [])
      const first = name.given++ % addresses.length
      const turned = [...addresses.slice(first), ...addresses.slice(0, first)]
      if (options.all === true) done(null, turned)
      else done(null, turned[0]!.address, turned[0]!.family)
    }
    if (name.addresses.length > 0 && nowMs - name.answeredMs < nameFreshMs) {
      process.nextTick(answered, null, name.addresses)
      return
    }
    name.waiting.push(answered)
    if (name.waiting.length === 1) this.#ask(host, name, options)
  }

  #ask (host: string, name: Name, { hints }: { hints?: number | undefined }): void {
    name.answeredMs = Infinity
    this.#resolver(host, { all: true, ...(hints === undefined ? {} : { hints }) }, (error, addresses) => {
      name.answeredMs = this.#system.monotonicMs()
      name.addresses = error === null ? addresses : []
      for (const answered of name.waiting.splice(0)) answered(error, addresses)
    })
  }
}
