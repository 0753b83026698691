/**
 * What a secret and a group give: the key that their replicas share, and a name that they can shout.
 *
 * scrypt (RFC 7914) makes each guess at a secret cost 128 MiB and a third of a second, for whoever has seen a
 * handshake or an announcement. The group is part of the salt, so that one secret may serve several groups. The two
 * halves of its output tell nothing of each other.
 */
import { scrypt } from 'node:crypto'
import { MiB } from '../limits.ts'

const cost = 131_072
const blockSize = 8
const keyBytes = 32

export interface GroupKeys {
  /** The pre-shared key of connections. */
  readonly connection: Buffer
  /** A key for what is announced in public: those who know it are of the group, and it leads nowhere else. */
  readonly announcement: Buffer
}

/** Takes about 0.3 s, off the main thread, and 128 MiB for as long. */
export async function deriveGroupKeys (secret: string, group: string): Promise<GroupKeys> {
  const salt = Buffer.concat([Buffer.from('replicated-level 1\0'), Buffer.from(group)])
  const bytes = await new Promise<Buffer>((resolve, reject) => {
    scrypt(secret.normalize('NFC'), salt, 2 * keyBytes, { N: cost, r: blockSize, p: 1, maxmem: 256 * MiB }, (error, key) => {
      if (error === null) resolve(key)
      else reject(error)
    })
  })
  return { connection: bytes.subarray(0, keyBytes), announcement: bytes.subarray(keyBytes) }
}
