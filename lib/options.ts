/**
 * The options of a `ReplicatedLevel`: checked and completed once, here, and frozen. Only `peers` is checked by what reads
 * its addresses.
 */
import { inspect } from 'node:util'
import type { DatabaseOptions } from 'classic-level'
import { lastWriterWins } from './core/resolve.ts'
import { ReplicationError } from './errors.ts'
import { groupBytesMax, memberTtlDefaultMs, messageTextBytesMax, transactionBytesCeiling, transactionBytesDefault } from './limits.ts'
import type { Resolver } from './types.ts'

/** Addresses as `'host:port'`, or `'[::1]:9000'`. */
export type PeerSet = readonly string[] | Readonly<Record<string, unknown>>

export type PeersOption = PeerSet | (() => PeerSet | Promise<PeerSet>) | AsyncIterable<string | readonly string[]>

/** A replica's own key and certificate (with intermediate ones, if any), and the authority that signs the group's. */
export interface CertificateOptions {
  key: string | Buffer
  cert: string | Buffer
  ca: string | Buffer | ReadonlyArray<string | Buffer>
}

export interface ReplicationOptions<K = string, V = string> {
  /** Only replicas of one group talk to each other. Default `'default'`; at most 255 bytes. */
  group?: string | undefined
  /**
   * Address to listen on. Default all interfaces with `secret` or `tls`, else `'127.0.0.1'`; anything beyond loopback
   * needs one of these, or `insecure: true`.
   */
  host?: string | undefined
  /** Port to listen on; `false` to dial only. Default 9000, and any free one if that is taken. */
  port?: number | false | undefined
  /** Replicas to connect to: a list, a record whose keys are addresses, a function that is asked again, or a feed. */
  peers?: PeersOption | undefined
  /** The group's shared secret: its replicas authenticate each other and encrypt what they say. 16 characters or more. */
  secret?: string | undefined
  /** The same with certificates of a private authority, in PEM. */
  tls?: CertificateOptions | undefined
  /**
   * Whether replicas of the group find each other by themselves. Default: true if `group` is given. Without encryption
   * on this machine only, unless `insecure` allows to listen beyond it.
   */
  discovery?: boolean | DiscoveryOptions | undefined
  /** Allows listening beyond loopback without encryption. Default false. */
  insecure?: boolean | undefined
  /** Decides between concurrent versions of a key; pure and synchronous. Default: the later one wins. */
  resolver?: Resolver<K, V> | undefined
  /** Change it together with the resolver. At most 1024 bytes. */
  resolverVersion?: string | undefined
  /** Whether every write is on disk before it resolves. Default false. */
  sync?: boolean | undefined
  /** Largest transaction that is accepted, in bytes of keys and values. Default 64 MiB, at most 512 MiB. */
  transactionBytesMax?: number | undefined
  /** How long `open()` tries to catch up with known peers before it accepts writes. Default 1000. */
  initialSyncMs?: number | undefined
  /** How long a replica may be unseen, while this one runs, before deletes are forgotten without it. Default 30 days. */
  memberTtlMs?: number | undefined
}

export interface DiscoveryOptions {
  /** Announce and look by Bonjour (multicast DNS). Default true. */
  bonjour?: boolean | undefined
  /** Tell linked replicas of each other's addresses. Default true. */
  exchange?: boolean | undefined
  /** Names or IPv4 addresses of the interfaces that Bonjour uses. Default: all. */
  interfaces?: readonly string[] | undefined
  /** UDP port of multicast DNS; only those with the same find each other. Default 5353. */
  port?: number | undefined
}

/** Options of a `ReplicatedLevel`: classic-level's, and those of replication. */
export type ReplicatedLevelOptions<K = string, V = string> = DatabaseOptions<K, V> & ReplicationOptions<K, V>

export interface CompleteDiscovery {
  readonly bonjour: boolean
  readonly exchange: boolean
  readonly interfaces: readonly string[] | undefined
  readonly port: number
  /** Whether it stays on this machine. */
  readonly machineOnly: boolean
}

export interface CompleteOptions {
  readonly group: string
  readonly host: string
  /** Port 0 stands for any free one. */
  readonly port: number | false
  /** Whether another port will do if it is taken. */
  readonly portIsPreference: boolean
  readonly peers: PeersOption
  readonly secret: string | undefined
  readonly tls: CertificateOptions | undefined
  readonly discovery: CompleteDiscovery
  readonly resolver: Resolver
  readonly resolverVersion: string
  readonly sync: boolean
  readonly transactionBytesMax: number
  readonly initialSyncMs: number
  readonly memberTtlMs: number
}

const portDefault = 9000
const secretCharactersMin = 16

/** The port of multicast DNS. */
const discoveryPortDefault = 5353

/**
 * Checks and completes what the user gave.
 *
 * @throws `REPLICATION_INVALID_OPTION`, `LEVEL_NOT_SUPPORTED`
 */
export function completeOptions (options: ReplicatedLevelOptions<any, any>): CompleteOptions {
  if (options.multithreading === true) {
    throw new ReplicationError('The option multithreading is not supported: a replica has one writer', { code: 'LEVEL_NOT_SUPPORTED' })
  }
  const group = text('group', options.group ?? 'default', 1, groupBytesMax)
  const secret = 'secret' in options ? checkSecret(options.secret) : undefined
  const tls = checkTls(options.tls)
  if (secret !== undefined && tls !== undefined) throw new ReplicationError('Give either the option secret or the option tls, not both', { code: 'REPLICATION_INVALID_OPTION' })
  const isProtected = secret !== undefined || tls !== undefined
  const insecure = boolean('insecure', options.insecure ?? false)
  const host = text('host', options.host ?? (isProtected ? '::' : '127.0.0.1'), 1, 255)
  if (!isLoopback(host) && !isProtected && !insecure) {
    throw new ReplicationError(`Listening on ${JSON.stringify(host)}, beyond loopback, lets anyone who can reach it read and write everything: give all replicas of the group the same secret ("npx replicated-level secret" prints a good one) or certificates (tls), or insecure: true if that is meant`, { code: 'REPLICATION_INVALID_OPTION' })
  }
  const { port } = options
  if (port !== undefined && port !== false && !isInteger(port, 0, 65535)) throw invalidOption('port', port, 'an integer from 0 to 65535, or false')
  const resolver = options.resolver ?? lastWriterWins
  if (typeof resolver !== 'function') throw invalidOption('resolver', resolver, 'a function')
  const { transactionBytesMax = transactionBytesDefault, initialSyncMs = 1000, memberTtlMs = memberTtlDefaultMs } = options
  if (!isInteger(transactionBytesMax, 1, transactionBytesCeiling)) throw invalidOption('transactionBytesMax', transactionBytesMax, `an integer from 1 to ${transactionBytesCeiling}`)
  if (typeof initialSyncMs !== 'number' || !(initialSyncMs >= 0)) throw invalidOption('initialSyncMs', initialSyncMs, 'a number of milliseconds, 0 or more')
  if (typeof memberTtlMs !== 'number' || !(memberTtlMs > 0)) throw invalidOption('memberTtlMs', memberTtlMs, 'a number of milliseconds, more than 0')
  return Object.freeze({
    group,
    host,
    port: port ?? portDefault,
    portIsPreference: port === undefined,
    peers: options.peers ?? [],
    secret,
    tls,
    discovery: completeDiscovery(options.discovery ?? options.group !== undefined, !isProtected && (!insecure || isLoopback(host))),
    resolver: resolver as Resolver,
    resolverVersion: text('resolverVersion', options.resolverVersion ?? '', 0, messageTextBytesMax),
    sync: boolean('sync', options.sync ?? false),
    transactionBytesMax,
    initialSyncMs,
    memberTtlMs
  })
}

function completeDiscovery (discovery: boolean | DiscoveryOptions, machineOnly: boolean): CompleteDiscovery {
  if (typeof discovery !== 'boolean' && (typeof discovery !== 'object' || discovery === null)) throw invalidOption('discovery', discovery, 'true, false or an object')
  const { bonjour = true, exchange = true, interfaces, port = discoveryPortDefault } = typeof discovery === 'boolean' ? { bonjour: discovery, exchange: discovery } : discovery
  if (interfaces !== undefined && !(Array.isArray(interfaces) && interfaces.every((each) => typeof each === 'string'))) throw invalidOption('discovery.interfaces', interfaces, 'a list of names or addresses')
  if (!isInteger(port, 1, 65535)) throw invalidOption('discovery.port', port, 'an integer from 1 to 65535')
  return Object.freeze({
    bonjour: boolean('discovery.bonjour', bonjour),
    exchange: boolean('discovery.exchange', exchange),
    interfaces: interfaces === undefined ? undefined : Object.freeze([...interfaces]),
    port,
    machineOnly
  })
}

/** @throws `REPLICATION_INVALID_OPTION` */
export function assertPath (path: unknown, what: string): asserts path is string {
  if (typeof path !== 'string' || path === '') throw new ReplicationError(`The ${what} has to be a non-empty string`, { code: 'REPLICATION_INVALID_OPTION' })
}

/** Whether an address can be reached from this machine only. */
export function isLoopback (host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/**
 * What was received is not repeated: it may be the real secret, a little too short. One that is given as undefined is
 * refused too: it is a variable of the environment that was not set, and no secret at all would be worse than none.
 */
function checkSecret (secret: unknown): string {
  const characters = typeof secret === 'string' ? [...secret].length : 0
  if (characters < secretCharactersMin) {
    throw new ReplicationError(`The option secret has to be a string of ${secretCharactersMin} characters or more, received ${typeof secret === 'string' ? `one of ${characters}` : `something of type ${typeof secret}${secret === undefined ? ' (is the environment variable set?)' : ''}`}: "npx replicated-level secret" prints a good one`, { code: 'REPLICATION_INVALID_OPTION' })
  }
  return secret as string
}

function checkTls (tls: unknown): CertificateOptions | undefined {
  if (tls === undefined) return undefined
  const { key, cert, ca } = (tls ?? {}) as Partial<CertificateOptions>
  const isPem = (value: unknown): boolean => (typeof value === 'string' || Buffer.isBuffer(value)) && value.length > 0
  const authorities = Array.isArray(ca) ? ca : [ca]
  if (![key, cert, ...authorities].every(isPem) || authorities.length === 0) {
    throw new ReplicationError('The option tls has to be { key, cert, ca }, each a string or Buffer in PEM, ca also a list of them', { code: 'REPLICATION_INVALID_OPTION' })
  }
  return tls as CertificateOptions
}

function isInteger (value: unknown, min: number, max: number): value is number {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max
}

function text (name: string, value: unknown, bytesMin: number, bytesMax: number): string {
  if (typeof value !== 'string') throw invalidOption(name, value, 'a string')
  const bytes = Buffer.byteLength(value)
  if (bytes < bytesMin || bytes > bytesMax) throw invalidOption(name, value, `a string of ${bytesMin} to ${bytesMax} bytes`)
  return value
}

function boolean (name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw invalidOption(name, value, 'true or false')
  return value
}

/** Says what an option has to be, and what was received. */
export function invalidOption (name: string, value: unknown, expected: string): ReplicationError {
  const received = inspect(typeof value === 'string' ? value.slice(0, 80) : value, { depth: 0, breakLength: Infinity }).slice(0, 100)
  return new ReplicationError(`The option ${name} has to be ${expected}; received ${received}`, { code: 'REPLICATION_INVALID_OPTION' })
}
