/**
 * Those who have come in and not shown yet who they are.
 *
 * They are few, in all and from one host, and take nothing of the room of those who have. Where it is full the one
 * that has been here longest has to go: whoever is who he says needs a moment only, so that strangers who linger
 * cannot keep him out.
 */
import { strangersMax, strangersPerHostMax } from '../limits.ts'

interface Guest {
  readonly host: string | undefined
  readonly dismiss: () => void
}

export class Lobby {
  /** In the order of their arrival. */
  readonly #guests = new Map<object, Guest>()

  get size (): number {
    return this.#guests.size
  }

  /** `dismiss` is called if somebody else needs the room. Those that come from no host count in all only. */
  enter (key: object, host: string | undefined, dismiss: () => void): void {
    const neighbours = host === undefined ? [] : [...this.#guests].filter(([, guest]) => guest.host === host)
    const [oldest] = neighbours.length >= strangersPerHostMax ? neighbours : this.#guests.size >= strangersMax ? this.#guests : []
    this.#guests.set(key, { host, dismiss })
    if (oldest === undefined) return
    this.#guests.delete(oldest[0])
    oldest[1].dismiss()
  }

  leave (key: object): void {
    this.#guests.delete(key)
  }

  /** All have to go. */
  close (): void {
    const guests = [...this.#guests.values()]
    this.#guests.clear()
    for (const { dismiss } of guests) dismiss()
  }
}
