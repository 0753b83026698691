/**
 * Addresses as text: 'host:port', '[::1]:9000', 'host'.
 *
 * An address has one canonical text, which is its key in maps: the host in lower case, IPv6 in brackets and
 * compressed (RFC 5952), an IPv4 address mapped into IPv6 as the IPv4 address it is, and always the port.
 * `parseAddress(formatAddress(address))` gives the same address. Names are not resolved here.
 */
import { ReplicationError } from '../errors.ts'
import type { Address } from '../types.ts'

const defaultPort = 9000

const hostCharactersMax = 253
const ipv4 = /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/
const name = /^[\p{L}\p{N}_]([\p{L}\p{N}_.-]*[\p{L}\p{N}_.])?$/u
const bracketed = /^\[([^\]]*)\](?::(.*))?$/s
const plain = /^([^:]*)(?::([^:]*))?$/s

/**
 * Reads 'host:port', '[IPv6]:port' or either without a port, which is then 9000. Throws
 * REPLICATION_INVALID_OPTION for everything else.
 */
export function parseAddress (text: unknown): Address {
  if (typeof text !== 'string') throw invalid(text, 'expected a string')
  const ipv6 = bracketed.exec(text)
  const match = ipv6 ?? plain.exec(text)
  if (match === null) throw invalid(text, "an IPv6 address is written as '[::1]:9000'")
  const host = canonicalHost(match[1] ?? '')
  if (ipv6 !== null ? !isIpv6(match[1] ?? '') : !isName(host)) throw invalid(text, 'the host is empty or malformed')
  return { host, port: parsePort(text, match[2]) }
}

/** The canonical text of an address, 'host:port' or '[IPv6]:port'. Never throws. */
export function formatAddress ({ host, port }: Address): string {
  const canonical = canonicalHost(host)
  return canonical.includes(':') ? `[${canonical}]:${port}` : `${canonical}:${port}`
}

/** The one spelling of a host: lower case, IPv6 compressed and without brackets. Never throws. */
export function canonicalHost (host: string): string {
  if (!host.includes(':')) return host.toLowerCase()
  const [address = '', zone] = host.split('%', 2)
  const canonical = compressIpv6(address)
  if (canonical === undefined) return host.toLowerCase()
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(canonical)
  if (mapped !== null) {
    const [high, low] = [parseInt(mapped[1] ?? '', 16), parseInt(mapped[2] ?? '', 16)]
    return [high >> 8, high & 255, low >> 8, low & 255].join('.')
  }
  // A zone names an interface of this machine, where case may matter.
  return zone === undefined ? canonical : `${canonical}%${zone}`
}

/** The platform's URL parser knows IPv6; it gives RFC 5952's form back. */
function compressIpv6 (address: string): string | undefined {
  if (!/^[0-9a-f:.]+$/i.test(address) || !URL.canParse(`http://[${address}]`)) return undefined
  return new URL(`http://[${address}]`).hostname.slice(1, -1)
}

function isIpv6 (host: string): boolean {
  return compressIpv6(host.replace(/%[\w.-]+$/, '')) !== undefined
}

/** A name whose last label is a number would be taken for an IPv4 address: '9000' is 0.0.35.40 to a resolver. */
function isName (host: string): boolean {
  if (host.length > hostCharactersMax || !name.test(host) || host.includes('..')) return false
  return ipv4.test(host) || !/(^|\.)\d+\.?$/.test(host)
}

function parsePort (text: string, digits: string | undefined): number {
  if (digits === undefined) return defaultPort
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : 0
  if (port < 1 || port > 65_535) throw invalid(text, 'the port is a number from 1 to 65535')
  return port
}

function invalid (value: unknown, reason: string): ReplicationError {
  const shown = typeof value === 'string' ? `'${value.slice(0, 300)}'` : String(value === null ? null : typeof value)
  return new ReplicationError(`Invalid address ${shown}: ${reason}`, { code: 'REPLICATION_INVALID_OPTION' })
}
