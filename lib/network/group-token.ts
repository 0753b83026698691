/**
 * What an announcement says of its group: a proof for those who know the group, noise for everybody else.
 *
 * A token is a random salt and HMAC-SHA256 (RFC 2104) of salt and port under a key that members share. With a secret
 * the key comes from it and from the group's name; without one from the name alone, which can then be guessed, and
 * a guess be checked. Salts are new at every announcement, so that two of one group have nothing in common. Port and
 * token belong together, so that a token overheard cannot send members to another port.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

const saltBytes = 16
const digestBytes = 16
const textPattern = /^[\w-]{22}$/

export interface Token {
  readonly salt: string
  readonly digest: string
}

/** The key of a group: of what its members know. */
export function groupKey (group: string, secretKey: Uint8Array = new Uint8Array()): Buffer {
  return createHmac('sha256', secretKey).update('replicated-level announcement 1\0').update(group).digest()
}

export class GroupToken {
  readonly #key: Uint8Array
  readonly #randomBytes: (size: number) => Uint8Array

  constructor (key: Uint8Array, randomBytes: (size: number) => Uint8Array) {
    this.#key = key
    this.#randomBytes = randomBytes
  }

  /** A new token for an announcement of this port. */
  make (port: number): Token {
    const salt = Buffer.from(this.#randomBytes(saltBytes))
    return { salt: salt.toString('base64url'), digest: this.#digest(salt, port).toString('base64url') }
  }

  /** Whether whoever made a token knows the group, and meant this port. Takes anything. */
  matches ({ salt, digest }: Partial<Token>, port: number): boolean {
    if (salt === undefined || digest === undefined || !textPattern.test(salt) || !textPattern.test(digest)) return false
    return timingSafeEqual(this.#digest(Buffer.from(salt, 'base64url'), port), Buffer.from(digest, 'base64url'))
  }

  #digest (salt: Buffer, port: number): Buffer {
    return createHmac('sha256', this.#key).update(salt).update(String(port)).digest().subarray(0, digestBytes)
  }
}
