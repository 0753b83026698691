/**
 * Which network interfaces discovery uses, and what it tells of them apart. Pure: what the machine has is an argument.
 */
import { isLoopback } from '../options.ts'
import type { Address } from '../types.ts'

const interfacesMax = 16

/** What `networkInterfaces()` of `node:os` gives. */
export type MachineInterfaces = Readonly<Record<string, ReadonlyArray<{
  readonly address: string
  readonly netmask: string
  readonly family: string
  readonly mac: string
  readonly internal: boolean
  readonly scopeid?: number
}> | undefined>>

export interface NetworkInterface {
  readonly name: string
  readonly address: string
  readonly netmask: string
  readonly internal: boolean
  /** Its number, as far as the operating system tells: one that was removed and made again has another. */
  readonly index: number | undefined
  /** Equal for the same address of the same interface. */
  readonly key: string
}

export interface InterfaceChoice {
  readonly machineOnly: boolean
  /** Names or addresses; undefined for all. */
  readonly interfaces: readonly string[] | undefined
  /** Where this replica listens. */
  readonly address: Address | undefined
}

/** IPv4 interfaces to announce and look on: of the network if allowed, and loopback if there is no other way. */
export function usableInterfaces (machine: MachineInterfaces, { machineOnly, interfaces, address }: InterfaceChoice): NetworkInterface[] {
  const all = Object.entries(machine).flatMap(([name, addresses = []]) => {
    const index = addresses.find(({ scopeid = 0 }) => scopeid !== 0)?.scopeid
    return addresses.filter(({ family }) => family === 'IPv4').map(({ address, netmask, mac, internal }) =>
      ({ name, address, netmask, internal, index, key: [name, address, netmask, mac].join(' ') }))
  }).filter(({ name, address }) => interfaces === undefined || interfaces.includes(name) || interfaces.includes(address))
  const network = machineOnly ? [] : all.filter(({ internal }) => !internal)
  const loopback = all.filter(({ internal }) => internal).slice(0, 1)
  const hidden = address !== undefined && isLoopback(address.host)
  return [...network, ...(network.length === 0 || hidden ? loopback : [])].slice(0, interfacesMax)
}

/** Whether the machine has a network, and none that Bonjour works on. */
export function isIpv6Only (machine: MachineInterfaces): boolean {
  const networks = Object.values(machine).flatMap((addresses = []) => addresses.filter(({ internal }) => !internal))
  return networks.every(({ family }) => family === 'IPv6') && networks.some(({ address }) => !address.startsWith('fe80:'))
}

/** Whether who comes over this interface can dial a replica that listens there. */
export function isReachableOver ({ address, internal }: NetworkInterface, { host }: Address): boolean {
  return host === '0.0.0.0' || host === '::' || host === address || (internal && isLoopback(host))
}

/** Whether a sender is a neighbour (RFC 6762, 11: others are not to be believed). An interface of one address says nothing. */
export function isOnLink ({ address, netmask }: Pick<NetworkInterface, 'address' | 'netmask'>, sender: string): boolean {
  const mask = bitsOf(netmask)
  return mask === 0xffff_ffff || ((bitsOf(address) ^ bitsOf(sender)) & mask) === 0
}

function bitsOf (address: string): number {
  return address.split('.').reduce((bits, part) => (bits << 8 | Number(part)) >>> 0, 0)
}
