/**
 * DNS-SD (RFC 6763): the services in one multicast DNS response, as far as it names them whole.
 *
 * Pure. bonjour-service has a browser, which compares each service with each it has seen and keeps them all: a
 * hundred thousand forged ones would hold the event loop for minutes. Nothing is kept here, the work is linear in
 * the packet, and nothing of a packet becomes the key of an object.
 */
import { isLoopback } from '../options.ts'
import type { Address } from '../types.ts'
import { formatAddress, parseAddress } from './addresses.ts'

/** At most 15 characters (RFC 6335). */
export const serviceType = 'replicatedlevel'
export const serviceDomain = `_${serviceType}._tcp.local`

/** The text that says on which of this machine's own addresses a service listens, if on none but one of them. */
export const loopbackText = 'h'

const servicesPerPacketMax = 32
const addressesPerServiceMax = 4
const textCharactersMax = 64

/** A resource record as dns-packet decodes it: of a peer's making, so anything. */
export interface DnsRecord {
  readonly name?: unknown
  readonly type?: unknown
  readonly ttl?: unknown
  readonly data?: unknown
}

export interface Service {
  /** Its name without type and domain, in lower case. */
  readonly name: string
  readonly port: number
  /** The first texts `key=value` of its TXT record. */
  readonly text: ReadonlyMap<string, string>
  /** IPv4 addresses that the packet gives for its host. */
  readonly addresses: readonly string[]
}

/** The services of our type that have SRV and TXT in these records. A goodbye (time to live 0) is none. */
export function servicesIn (records: readonly DnsRecord[]): Service[] {
  const servers = new Map<string, { port: number, target: string }>()
  const texts = new Map<string, Map<string, string>>()
  const addresses = new Map<string, string[]>()
  for (const { name, type, ttl, data } of records) {
    if (typeof name !== 'string' || ttl === 0) continue
    const key = name.toLowerCase()
    if (type === 'A') {
      const known = addresses.get(key) ?? []
      if (typeof data === 'string' && known.length < addressesPerServiceMax) addresses.set(key, [...known, data])
    }
    if (!key.endsWith(`.${serviceDomain}`)) continue
    if (type === 'SRV' && servers.size < servicesPerPacketMax) {
      const { port, target } = (data ?? {}) as { port?: unknown, target?: unknown }
      if (typeof port === 'number' && port > 0 && typeof target === 'string') servers.set(key, { port, target: target.toLowerCase() })
    } else if (type === 'TXT') {
      texts.set(key, textIn(data))
    }
  }
  return [...servers].flatMap(([key, { port, target }]) => {
    const text = texts.get(key)
    return text === undefined ? [] : [{ name: key.slice(0, -serviceDomain.length - 1), port, text, addresses: addresses.get(target) ?? [] }]
  })
}

/**
 * Where to dial a service: at whoever said it, and if that is none of its addresses (a reflector), at those too. One that is of this
 * machine, and says at which of its own addresses it listens, there.
 */
export function addressesOf ({ port, addresses, text }: Service, sender: string): Address[] {
  const named = text.get(loopbackText) ?? sender
  const hosts = isLoopback(sender) ? [isLoopback(named) ? named : sender] : addresses.includes(sender) ? [sender] : [sender, ...addresses]
  return hosts.flatMap((host) => {
    try {
      return [parseAddress(formatAddress({ host, port }))]
    } catch {
      return []
    }
  })
}

function textIn (data: unknown): Map<string, string> {
  const texts = new Map<string, string>()
  for (const part of Array.isArray(data) ? data.slice(0, 8) : [data]) {
    if (!(part instanceof Uint8Array) || part.length > textCharactersMax) continue
    const [key, value] = Buffer.from(part).toString('latin1').split('=', 2)
    if (value !== undefined && !texts.has(key!)) texts.set(key!, value)
  }
  return texts
}
