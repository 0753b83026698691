/**
 * Bonjour: DNS-SD (RFC 6763) over multicast DNS (RFC 6762) with bonjour-service, and all that keeps it from hurting.
 *
 * One instance per IPv4 interface, since one socket announces on one interface only. An instance lives until its
 * interface goes or changes, its socket fails, or it no longer hears its own questions: an interface that was removed
 * and made again leaves a socket deaf for good. Then another takes its place, later and later if it fails again.
 *
 * What must always hold:
 * - nothing that happens to a socket is thrown: the library's mdns object has its listeners from the first moment, its
 *   error callback is always given, each callback of ours is caught;
 * - what strangers send costs at most a twentieth of the time (`costShare`), and nothing of it is kept;
 * - a service is never probed for and never expires; its name is random, so that nobody else has it.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import type { EventEmitter } from 'node:events'
import { networkInterfaces } from 'node:os'
import { Bonjour } from 'bonjour-service'
import { ReplicationError } from '../errors.ts'
import { discoveryAskMaxMs, discoveryAskMinMs, discoveryCheckMs, discoveryPollMs } from '../limits.ts'
import { isLoopback } from '../options.ts'
import { BackOff } from '../sync/back-off.ts'
import type { Address, System, Timer } from '../types.ts'
import type { ActiveDiscovery, Discovery, DiscoveryTask } from './discovery.ts'
import { isIpv6Only, isOnLink, isReachableOver, usableInterfaces, type MachineInterfaces, type NetworkInterface } from './interfaces.ts'
import { addressesOf, loopbackText, serviceDomain, serviceType, servicesIn, type DnsRecord } from './service-records.ts'

/** RFC 6762, 6: answers of several responders are spread over this time. */
const answerDelayMs = { min: 20, max: 120 }

const goodbyeMs = 300

/** Larger packets are dropped unread: those of multicast DNS fit an Ethernet frame. */
const packetBytesMax = 4096

/** Time for packets from the network: this share of all, saved up to so much. */
const costShare = 0.05
const costSavedMaxMs = 100

/** Own questions that may go unheard in a row. */
const unheardMax = 2

interface Question { readonly name: string, readonly type: string }
interface Packet { readonly id?: number, readonly questions: Question[], readonly answers: DnsRecord[], readonly additionals: DnsRecord[] }

/** What bonjour-service holds and its types leave out. */
interface Server {
  readonly mdns: EventEmitter & { query (packet: object, callback: (error?: Error | null) => void): void }
  respondToQuery (packet: { questions: Question[] }): void
}

export interface BonjourOptions {
  system: System
  /** What the machine has; `networkInterfaces` of `node:os` by default. */
  interfaces?: () => MachineInterfaces
}

export class BonjourDiscovery implements Discovery {
  readonly #system: System
  readonly #interfaces: () => MachineInterfaces

  constructor ({ system, interfaces = networkInterfaces }: BonjourOptions) {
    this.#system = system
    this.#interfaces = interfaces
  }

  start (task: DiscoveryTask): ActiveDiscovery {
    return new Watch(this.#system, this.#interfaces, task)
  }
}

/** An interface that is used, and the instance on it, unless that is waited for. */
interface Place {
  network: NetworkInterface
  readonly backOff: BackOff
  instance: Instance | undefined
  retryAtMs: number
}

/** Keeps one instance on each interface there is. */
class Watch implements ActiveDiscovery {
  readonly #system: System
  readonly #interfaces: () => MachineInterfaces
  readonly #task: DiscoveryTask
  readonly #places = new Map<string, Place>()
  readonly #closing = new Set<Promise<void>>()
  readonly #reported = new Set<string>()
  /** Names of the services of all instances: not to be found. */
  readonly ownNames = new Set<string>()
  #timer: Timer | undefined
  #closed = false

  constructor (system: System, interfaces: () => MachineInterfaces, task: DiscoveryTask) {
    this.#system = system
    this.#interfaces = interfaces
    this.#task = task
    this.#poll(true)
  }

  lookAgain (): void {
    for (const { instance } of this.#places.values()) instance?.lookAgain()
  }

  async close (): Promise<void> {
    this.#closed = true
    this.#system.clearTimer(this.#timer)
    for (const place of this.#places.values()) this.#end(place)
    await Promise.all(this.#closing)
  }

  #poll (first = false): void {
    if (this.#closed) return
    let changed = false
    try {
      changed = this.#follow()
    } catch (error) {
      this.#report('Bonjour cannot be used', error)
    }
    if (changed && !first) this.#task.onNetworkChanged()
    this.#timer = this.#system.setTimer(() => { this.#poll() }, discoveryPollMs)
  }

  /** Makes the places those of the interfaces there are; whether any came or went. */
  #follow (): boolean {
    const machine = this.#interfaces()
    const usable = new Map(usableInterfaces(machine, this.#task).map((network) => [network.key, network]))
    let changed = false
    for (const [key, place] of this.#places) {
      const network = usable.get(key)
      if (network !== undefined && (network.index === undefined || place.network.index === undefined || network.index === place.network.index)) continue
      this.#end(place)
      this.#places.delete(key)
      changed = true
    }
    for (const [key, network] of usable) {
      const known = this.#places.get(key)
      if (known === undefined) {
        changed = true
        const backOff = new BackOff({ minMs: discoveryAskMinMs, maxMs: discoveryAskMaxMs, random: () => this.#system.random() })
        this.#places.set(key, { network, backOff, instance: undefined, retryAtMs: 0 })
      } else if (known.network.index === undefined && network.index !== undefined) {
        known.network = network
      }
    }
    for (const place of this.#places.values()) {
      if (place.instance === undefined && this.#system.monotonicMs() >= place.retryAtMs) this.#begin(place)
    }
    if (!this.#task.machineOnly && isIpv6Only(machine)) {
      this.#report('Bonjour works on IPv4 only, and this machine has no IPv4 network', undefined)
    }
    return changed
  }

  #begin (place: Place): void {
    const { key } = place.network
    place.instance = new Instance({
      system: this.#system,
      task: this.#task,
      network: place.network,
      ownNames: this.ownNames,
      onHealthy: () => {
        place.backOff.reset()
        for (const fault of this.#reported) if (fault.startsWith(key)) this.#reported.delete(fault)
      },
      onFault: (what, error) => { this.#report(`${what} on ${place.network.address} (${place.network.name})`, error, key) },
      onFailed: () => {
        const current = this.#places.get(key)
        if (current === undefined || current.instance !== place.instance) return
        this.#end(current)
        current.retryAtMs = this.#system.monotonicMs() + current.backOff.next()
      }
    })
  }

  #end (place: Place): void {
    const { instance } = place
    place.instance = undefined
    if (instance === undefined) return
    const closing: Promise<void> = instance.close().finally(() => { this.#closing.delete(closing) })
    this.#closing.add(closing)
  }

  #report (what: string, cause: unknown, key = ''): void {
    const reason = cause instanceof Error ? `: ${cause.message}` : ''
    const fault = `${key} ${what}${reason}`
    if (this.#closed || this.#reported.has(fault) || this.#reported.size >= 100) return
    this.#reported.add(fault)
    this.#task.onError(new ReplicationError(`${what}${reason}; peers that are named or already known are connected all the same`, { code: 'REPLICATION_DISCOVERY', cause }))
  }
}

interface InstanceOptions {
  readonly system: System
  readonly task: DiscoveryTask
  readonly network: NetworkInterface
  readonly ownNames: Set<string>
  /** It has heard itself. */
  readonly onHealthy: () => void
  readonly onFault: (what: string, error: unknown) => void
  /** It is of no use any more. */
  readonly onFailed: () => void
}

/** Announces, answers and asks on one interface. */
class Instance {
  readonly #options: InstanceOptions
  readonly #name: string
  readonly #bonjour: Bonjour
  readonly #server: Server
  readonly #questions = new Map<string, Question>()
  #answerTimer: Timer | undefined
  #timer: Timer | undefined
  /** Of the last question: our own questions are known by it. */
  #id = 0
  #heard = true
  #unheard = 0
  #askIntervalMs = discoveryAskMinMs / 2
  #askAtMs: number
  /** What strangers may cost, and when that was counted. */
  #costMs = costSavedMaxMs
  #countedMs: number
  #service: ReturnType<Bonjour['publish']> | undefined
  #closed = false

  constructor (options: InstanceOptions) {
    this.#options = options
    const { system, task, network, ownNames } = options
    this.#name = Buffer.from(system.randomBytes(8)).toString('hex')
    ownNames.add(this.#name)
    const nowMs = this.#countedMs = system.monotonicMs()
    const socket = createSocket({ type: 'udp4', reuseAddr: true })
    const settings = { socket, interface: network.address, bind: '0.0.0.0', port: task.port }
    this.#bonjour = new Bonjour(settings as object, (error: Error) => { this.#fault('Cannot answer', error) })
    this.#server = (this.#bonjour as unknown as { server: Server }).server
    const { mdns } = this.#server
    mdns.on('error', (error: Error) => { this.#failed('Cannot open the port of multicast DNS', error) })
    // Packets that make no sense come here too, and are no fault of this machine.
    mdns.on('warning', (error: NodeJS.ErrnoException) => { if (error.syscall !== undefined) this.#fault('Cannot use multicast', error) })
    mdns.removeAllListeners('query')
    mdns.on('query', (packet: Packet) => { this.#asked(packet) })
    mdns.on('response', (packet: Packet, sender: RemoteInfo) => { this.#answered(packet, sender) })
    this.#guard(socket)
    if (task.address !== undefined && isReachableOver(network, task.address)) this.#publish(task.address)
    this.#askAtMs = nowMs + this.#between(answerDelayMs.min, answerDelayMs.max)
    this.#schedule()
  }

  lookAgain (): void {
    const { system } = this.#options
    if (this.#closed) return
    this.#askIntervalMs = discoveryAskMinMs
    this.#askAtMs = Math.min(this.#askAtMs, system.monotonicMs() + this.#between(discoveryAskMinMs / 2, discoveryAskMinMs))
    this.#schedule()
  }

  /** Says goodbye, as far as that is possible in a moment. */
  async close (): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const { system, ownNames } = this.#options
    for (const timer of [this.#timer, this.#answerTimer]) system.clearTimer(timer)
    await this.#within((done) => { if (this.#service !== undefined) this.#bonjour.unpublishAll(done); else done() })
    // An announcement that failed would be repeated, on a closed socket, and throw.
    if (this.#service !== undefined) this.#service.destroyed = true
    await this.#within((done) => { this.#bonjour.destroy(done) })
    ownNames.delete(this.#name)
  }

  /** Between the socket and the library: what is too large, comes from far, or would cost too much is not even decoded. */
  #guard (socket: Socket): void {
    const { system, network } = this.#options
    const [decode] = socket.listeners('message') as Array<(bytes: Buffer, sender: RemoteInfo) => void>
    socket.removeAllListeners('message')
    socket.on('message', (bytes, sender) => {
      if (this.#closed || bytes.length > packetBytesMax || !isOnLink(network, sender.address)) return
      const startMs = system.monotonicMs()
      this.#costMs = Math.min(costSavedMaxMs, this.#costMs + (startMs - this.#countedMs) * costShare)
      this.#countedMs = startMs
      if (this.#costMs <= 0) {
        this.#heard = true // by others at least
        return
      }
      try {
        decode!(bytes, sender)
      } catch (error) {
        this.#fault('Cannot read a packet', error)
      }
      this.#costMs -= system.monotonicMs() - startMs
    })
  }

  #publish ({ host, port }: Address): void {
    const { salt, digest } = this.#options.task.token.make(port)
    this.#service = this.#bonjour.publish({
      name: this.#name,
      type: serviceType,
      // One of its own: the machine's name is nobody's business, and another's record of it would be added.
      host: `${this.#name}.local`,
      port,
      txt: { v: 1, s: salt, d: digest, ...(isLoopback(host) ? { [loopbackText]: host } : {}) },
      probe: false,
      disableIPv6: true
    })
  }

  // ---------------------------------------------------------------- asking

  #schedule (): void {
    const { system } = this.#options
    system.clearTimer(this.#timer)
    const delayMs = Math.min(discoveryCheckMs, Math.max(0, this.#askAtMs - system.monotonicMs()))
    this.#timer = system.setTimer(() => { this.#tick() }, delayMs)
  }

  /** Looks whether the last question was heard; asks for services if it is time, else only to be heard. */
  #tick (): void {
    const { system } = this.#options
    this.#unheard = this.#heard ? 0 : this.#unheard + 1
    if (this.#unheard >= unheardMax) return this.#failed('Own questions are not heard', undefined)
    const nowMs = system.monotonicMs()
    const isTime = nowMs >= this.#askAtMs
    if (isTime) {
      this.#askAtMs = nowMs + this.#between(this.#askIntervalMs / 2, this.#askIntervalMs)
      this.#askIntervalMs = Math.min(discoveryAskMaxMs, this.#askIntervalMs * 2)
    }
    this.#id = 1 + Math.floor(system.random() * 0xffff)
    this.#heard = false
    const name = isTime ? serviceDomain : `${this.#name}.${serviceDomain}` // of which there is no PTR
    this.#server.mdns.query({ id: this.#id, questions: [{ name, type: 'PTR' }] }, (error) => { if (error != null) this.#fault('Cannot ask', error) })
    this.#schedule()
  }

  // ---------------------------------------------------------------- hearing

  #asked ({ id, questions }: Packet): void {
    if (id === this.#id && !this.#heard) {
      this.#heard = true
      this.#options.onHealthy()
    }
    if (this.#service === undefined) return
    const own = `${this.#name}.`
    for (const { name, type } of questions.slice(0, 32)) {
      const key = name.toLowerCase()
      if (key === serviceDomain || key.startsWith(own) || key === '_services._dns-sd._udp.local') this.#questions.set(`${key} ${type}`, { name, type })
      if (this.#questions.size >= 32) break
    }
    if (this.#questions.size === 0) return
    // Whoever asks meanwhile shares the answer: asking much does not make us talk much.
    this.#answerTimer ??= this.#options.system.setTimer(() => {
      this.#answerTimer = undefined
      const due = [...this.#questions.values()]
      this.#questions.clear()
      this.#server.respondToQuery({ questions: due })
    }, this.#between(answerDelayMs.min, answerDelayMs.max))
  }

  #answered ({ answers, additionals }: Packet, { address: sender }: RemoteInfo): void {
    const { task, ownNames } = this.#options
    for (const service of servicesIn([...answers, ...additionals])) {
      if (ownNames.has(service.name)) continue
      if (!task.token.matches({ salt: service.text.get('s'), digest: service.text.get('d') }, service.port)) continue
      for (const address of addressesOf(service, sender)) task.onFound(address)
    }
  }

  // ---------------------------------------------------------------- faults

  #fault (what: string, error: unknown): void {
    if (!this.#closed) this.#options.onFault(what, error)
  }

  #failed (what: string, error: unknown): void {
    if (this.#closed) return
    this.#fault(what, error)
    this.#options.onFailed()
  }

  /** Uniform between two times. */
  #between (minMs: number, maxMs: number): number {
    return minMs + this.#options.system.random() * (maxMs - minMs)
  }

  /** Waits until something calls back, throws, or takes too long. */
  async #within (work: (done: () => void) => void): Promise<void> {
    const { system } = this.#options
    await new Promise<void>((resolve) => {
      const timer = system.setTimer(resolve, goodbyeMs)
      const done = (): void => {
        system.clearTimer(timer)
        resolve()
      }
      try {
        work(done)
      } catch {
        done()
      }
    })
  }
}
