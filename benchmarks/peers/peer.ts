/**
 * What a database has to do to be compared: there are two of it, each in a process of its own, of which the *guest*
 * connects to the *host*.
 *
 * An adapter does what a user would do after reading the database's documentation: its own persistence and its own
 * replication, with the settings it comes with.
 */

export interface TextPut {
  readonly type: 'put'
  readonly key: string
  readonly value: string
}

export interface Peer {
  /** Resolves when the database calls it written. */
  put (key: string, value: string): Promise<unknown>
  batch (puts: TextPut[]): Promise<unknown>
  get (key: string): Promise<string | undefined>
  /** All of them, by reading. */
  keys (): AsyncIterable<unknown>
  /** How many entries there are at least. */
  known (): number | Promise<number>
  /** Calls back when an entry may have changed; without a key if it cannot be told which. */
  onChange (listener: (key?: string) => void): Promise<void> | void
  /** What the other side needs to know to connect. */
  invitation (): unknown
  /** Called on the guest; resolves when it has begun. */
  connect (invitation: never): Promise<unknown> | void
  /** Called on the host with what the guest is, if both write. */
  welcome? (invitation: never): Promise<void> | void
  /** Called on the guest; resolves when nothing comes any more. */
  disconnect (): Promise<unknown> | void
  close (): Promise<unknown>
  /** Bytes sent and received, if they do not pass through sockets of the guest's process. */
  wireBytes? (): Promise<number>
  /** Processes of its own. */
  readonly processes?: readonly number[]
}

export interface OpenOptions {
  /** Exists, and is empty. */
  readonly directory: string
  readonly role: 'host' | 'guest'
  /** Whether the guest will write, too. */
  readonly bothWrite: boolean
  /** Of the host, for the guest. */
  readonly invitation: never
}

export interface PeerKind {
  readonly title: string
  /** Packages whose versions are reported; ours are not among them. */
  readonly packages: readonly string[]
  /** How the two are connected. */
  readonly layout: string
  /** What a write that has resolved survives. */
  readonly durability: string
  /** Whether there is anything to compare beyond writes of one process. */
  readonly replicates: boolean
  /** What is missing on this machine, if it cannot be measured here. */
  readonly missing?: () => string | undefined
  open (options: OpenOptions): Promise<Peer>
}
