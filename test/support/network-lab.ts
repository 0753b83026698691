/**
 * A network of one's own: hosts (Linux network namespaces) on bridges, with cables to pull and filters to set.
 *
 * Nothing of it is seen by the machine outside. It needs root and iproute2; filters need nftables or iptables. What a
 * run leaves behind when it is killed, the next one removes.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'

const labs = new Set<NetworkLab>()
process.once('exit', () => { for (const lab of labs) lab.close() })

let made = 0

function run (command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function works (command: string, ...args: string[]): boolean {
  try {
    run(command, ...args)
    return true
  } catch {
    return false
  }
}

/** Why there can be no network of one's own; undefined if there can. */
export const noLab = ((): string | undefined => {
  if (process.platform !== 'linux') return 'network namespaces need Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  if (!works('ip', '-V')) return 'network namespaces need ip (iproute2)'
  const probe = `rl-${process.pid}-probe`
  if (!works('ip', 'netns', 'add', probe)) return 'this machine lets nobody make a network namespace'
  run('ip', 'netns', 'del', probe)
  return undefined
})()

/** Whether packets can be filtered, and by what. */
export const filter = ['nft', 'iptables'].find((command) => noLab === undefined && works(command, '--version'))

export class LabHost {
  readonly name: string
  /** Of the namespace, as `ip netns exec` takes it. */
  readonly namespace: string
  readonly #bridges: string

  constructor (name: string, namespace: string, bridges: string) {
    this.name = name
    this.namespace = namespace
    this.#bridges = bridges
    run('ip', 'netns', 'add', namespace)
    this.run('ip', 'link', 'set', 'lo', 'up')
  }

  run (command: string, ...args: string[]): string {
    return run('ip', 'netns', 'exec', this.namespace, command, ...args)
  }

  /** Gives it an interface with a cable to a bridge, and with a hardware address of its own or this one. */
  plug (device: string, bridge: string, address: string, hardware?: string): void {
    const port = `${this.name}-${device}`
    run('ip', '-n', this.#bridges, 'link', 'add', port, 'type', 'veth', 'peer', 'name', device, ...(hardware === undefined ? [] : ['address', hardware]), 'netns', this.namespace)
    run('ip', '-n', this.#bridges, 'link', 'set', port, 'master', bridge, 'up')
    this.run('ip', 'link', 'set', device, 'up')
    this.readdress(device, address)
  }

  readdress (device: string, address: string): void {
    this.run('ip', '-4', 'address', 'flush', 'dev', device)
    this.run('ip', 'address', 'add', `${address}/24`, 'dev', device)
    works('ip', '-n', this.namespace, 'route', 'add', 'default', 'dev', device)
  }

  /** Removes an interface altogether. */
  unplug (device: string): void {
    this.run('ip', 'link', 'del', device)
  }

  /** Takes the bridge's end of the cable down or up: the host does not notice. */
  cable (device: string, up: boolean): void {
    run('ip', '-n', this.#bridges, 'link', 'set', `${this.name}-${device}`, up ? 'up' : 'down')
  }

  /** Drops what comes from these addresses, or goes to them, or both. */
  block (addresses: string[], directions: Array<'from' | 'to'> = ['from', 'to']): void {
    if (filter === 'nft') this.run('nft', 'add table ip lab; add chain ip lab from { type filter hook input priority 0; }; add chain ip lab to { type filter hook output priority 0; }')
    for (const address of addresses) {
      for (const direction of directions) {
        if (filter === 'nft') this.run('nft', 'add', 'rule', 'ip', 'lab', direction, 'ip', direction === 'from' ? 'saddr' : 'daddr', address, 'drop')
        else this.run('iptables', '-A', direction === 'from' ? 'INPUT' : 'OUTPUT', direction === 'from' ? '-s' : '-d', address, '-j', 'DROP')
      }
    }
  }

  unblock (): void {
    if (filter === 'nft') this.run('nft', 'delete', 'table', 'ip', 'lab')
    else this.run('iptables', '-F')
  }
}

export class NetworkLab {
  readonly #prefix = `rl-${process.pid}-${++made}`
  readonly #hosts: LabHost[] = []
  readonly #bridges: string

  constructor (bridges: string[] = ['br0']) {
    sweep()
    labs.add(this)
    this.#bridges = `${this.#prefix}-bridges`
    run('ip', 'netns', 'add', this.#bridges)
    for (const bridge of bridges) run('ip', '-n', this.#bridges, 'link', 'add', bridge, 'up', 'type', 'bridge', 'mcast_snooping', '0')
  }

  host (name: string): LabHost {
    const host = new LabHost(name, `${this.#prefix}-${name}`, this.#bridges)
    this.#hosts.push(host)
    return host
  }

  close (): void {
    labs.delete(this)
    for (const namespace of [...this.#hosts.map(({ namespace }) => namespace), this.#bridges]) works('ip', 'netns', 'del', namespace)
  }
}

/** Removes what runs that are no more have left. */
function sweep (): void {
  let namespaces: string[] = []
  try {
    namespaces = readdirSync('/run/netns')
  } catch {}
  for (const name of namespaces) {
    const pid = Number(/^rl-(\d+)-/.exec(name)?.[1] ?? process.pid)
    try {
      process.kill(pid, 0)
    } catch {
      works('ip', 'netns', 'del', name)
    }
  }
}
