/**
 * What replicas have to hold, by true causality: every write remembers all writes that its replica knew of.
 *
 * It knows no vectors and no dots' arithmetic. The siblings of a key at a replica are the writes to it that the
 * replica knows and that no other write to it, known too, had seen.
 */
export interface Write {
  readonly dot: string
  readonly key: string
  readonly type: 'put' | 'del'
  readonly past: ReadonlySet<Write>
}

export class CausalOracle {
  readonly #known: Array<Set<Write>>

  constructor (replicas: number) {
    this.#known = Array.from({ length: replicas }, () => new Set<Write>())
  }

  siblings (replica: number, key: string): Write[] {
    const writes = [...this.#known[replica]!].filter((write) => write.key === key)
    return writes.filter((write) => !writes.some((other) => other.past.has(write)))
  }

  keys (replica: number): Set<string> {
    return new Set([...this.#known[replica]!].map(({ key }) => key))
  }

  /** Whether a delete writes anything. */
  holdsPut (replica: number, key: string): boolean {
    return this.siblings(replica, key).some(({ type }) => type === 'put')
  }

  write (replica: number, dot: string, key: string, type: 'put' | 'del'): void {
    const known = this.#known[replica]!
    known.add({ dot, key, type, past: new Set(known) })
  }

  /** What has happened so far at a replica, for {@link receive} at a later time. */
  moment (replica: number): ReadonlySet<Write> {
    return new Set(this.#known[replica]!)
  }

  receive (replica: number, moment: ReadonlySet<Write>): void {
    for (const write of moment) this.#known[replica]!.add(write)
  }
}
