/**
 * The one error class of this library, and every code it uses.
 *
 * A code is stable: programs may compare it. Codes that abstract-level already has keep their meaning
 * (`LEVEL_NOT_SUPPORTED`, `LEVEL_DATABASE_NOT_OPEN`, ...); the others begin with `REPLICATION_`. The README
 * says of each what to do.
 */
export type ReplicationErrorCode =
  | 'LEVEL_NOT_SUPPORTED'
  | 'LEVEL_DATABASE_NOT_OPEN'
  | 'LEVEL_INVALID_KEY'
  | 'LEVEL_ITERATOR_NOT_OPEN'
  | 'LEVEL_SNAPSHOT_NOT_OPEN'
  | 'LEVEL_IO_ERROR'
  | 'REPLICATION_INVALID_OPTION'
  | 'REPLICATION_NOT_A_REPLICA'
  | 'REPLICATION_FORMAT_UNKNOWN'
  | 'REPLICATION_CORRUPT'
  | 'REPLICATION_ADOPTION_UNFINISHED'
  | 'REPLICATION_PATH_NOT_EMPTY'
  | 'REPLICATION_HOLE'
  | 'REPLICATION_LOG_FORKED'
  | 'REPLICATION_WRITE_INDETERMINATE'
  | 'REPLICATION_ADDRESS_IN_USE'
  | 'REPLICATION_LISTEN_FAILED'
  | 'REPLICATION_DIAL_FAILED'
  | 'REPLICATION_TIMEOUT'
  | 'REPLICATION_PEER_SILENT'
  | 'REPLICATION_PEER_STALLED'
  | 'REPLICATION_DISCONNECTED'
  | 'REPLICATION_AUTHENTICATION_FAILED'
  | 'REPLICATION_TOO_MANY_LINKS'
  | 'REPLICATION_TOO_MANY_LOGS'
  | 'REPLICATION_TOO_MANY_MEMBERS'
  | 'REPLICATION_DUPLICATE_LINK'
  | 'REPLICATION_SELF'
  | 'REPLICATION_GROUP_MISMATCH'
  | 'REPLICATION_PROTOCOL_VERSION'
  | 'REPLICATION_PROTOCOL'
  | 'REPLICATION_FRAME_TOO_LARGE'
  | 'REPLICATION_CLOCK_AHEAD'
  | 'REPLICATION_CLOCK_BEHIND'
  | 'REPLICATION_CLOCK_IMPOSSIBLE'
  | 'REPLICATION_TRANSACTION_TOO_LARGE'
  | 'REPLICATION_RESOLVER'
  | 'REPLICATION_RESOLVER_MISMATCH'
  | 'REPLICATION_LOG_REPLACED'
  | 'REPLICATION_ID_TAKEN'
  | 'REPLICATION_PEERS'
  | 'REPLICATION_DISCOVERY'
  | 'REPLICATION_MEMBER'
  | 'REPLICATION_INTERNAL'

/** An error with a stable `code`; `cause` holds the error that led to it, if any. */
export class ReplicationError extends Error {
  readonly code: ReplicationErrorCode

  constructor (message: string, options: { code: ReplicationErrorCode, cause?: unknown }) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.name = 'ReplicationError'
    this.code = options.code
  }
}

/** What a disk gives that is full or fails, and what the operating system gives that has no more room: by LevelDB, by our writer, by Node.js. */
const diskCodes = new Set<unknown>(['LEVEL_IO_ERROR', 'REPLICATION_WRITE_INDETERMINATE', 'ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EMFILE', 'ENFILE'])

/** The code for what is no error of ours. */
function codeFor (error: unknown): ReplicationErrorCode {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (diskCodes.has(code)) return 'LEVEL_IO_ERROR'
  return code === 'LEVEL_CORRUPTION' ? 'REPLICATION_CORRUPT' : 'REPLICATION_INTERNAL' // the former is LevelDB's, whose files are damaged
}

/** What a background task threw, as an error that has a code; of a disk the same whatever became of the write, which nobody has asked for. Never throws. */
export function toReplicationError (error: unknown, code?: ReplicationErrorCode): ReplicationError {
  try {
    if (error instanceof ReplicationError && error.code !== 'REPLICATION_WRITE_INDETERMINATE') return error
    const message = error instanceof Error ? error.message : String(error)
    return new ReplicationError(message, { code: code ?? codeFor(error), cause: error })
  } catch {
    return new ReplicationError('Something was thrown that cannot be shown', { code: code ?? 'REPLICATION_INTERNAL', cause: error })
  }
}

/** Says what failed that nobody has asked for, with the code that {@link toReplicationError} gives it. */
export function backgroundError (message: string, cause: unknown): ReplicationError {
  return new ReplicationError(message, { code: toReplicationError(cause).code, cause })
}
