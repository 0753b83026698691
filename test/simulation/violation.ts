/** A promise that was broken: what a simulation looks for. */
export class Violation extends Error {
  readonly kind: string

  constructor (kind: string, message: string) {
    super(`${kind}: ${message}`)
    this.kind = kind
  }
}
