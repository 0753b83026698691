/**
 * What both directions of a session share: the peer, what it is known to have, and the effects of one event.
 */
import { encodeControl, type ControlMessage, type Hello } from '../codec/message.ts'
import type { ReplicaId } from '../core/ids.ts'
import { VersionVector, type Advance } from '../core/version-vector.ts'
import { ReplicationError } from '../errors.ts'
import { logsOfOthersMax } from '../limits.ts'
import type { Effect, LocalReplica } from './events.ts'

export class Conversation {
  readonly local: LocalReplica
  /** Monotonic time of the event being handled. */
  nowMs: number
  /** When a frame was last sent. */
  sentMs: number
  /** The peer's hello, once it is greeted. */
  peer: Hello | undefined
  /** The vector that our own hello named: the base of later differences. */
  helloVector = new VersionVector()
  /** What the peer has, as far as it said or was sent. */
  readonly peerKnows = new VersionVector()
  /** What the peer has collected, or was told to. */
  peerCollected = new VersionVector()
  readonly operations = { received: 0, sent: 0 }
  #effects: Effect[] = []
  /** Logs that the peer has named and that were not known here then. */
  #foreignLogs = 0

  constructor (local: LocalReplica, nowMs: number) {
    this.local = local
    this.nowMs = this.sentMs = nowMs
  }

  emit (effect: Effect): void {
    this.#effects.push(effect)
  }

  send (message: ControlMessage): void {
    this.sendFrame(encodeControl(message), false)
  }

  sendFrame (frame: Buffer, data: boolean): void {
    this.sentMs = this.nowMs
    this.emit({ type: 'send', frame, data })
  }

  /**
   * Takes in what the peer says that it has: all that names logs passes here first.
   *
   * @throws `REPLICATION_TOO_MANY_LOGS`, and what {@link compare} throws
   */
  learn (advances: readonly Advance[]): void {
    const { local, peerKnows } = this
    this.compare(advances)
    for (const advance of advances) {
      if (peerKnows.sequenceOf(advance.log) === 0 && local.vector.sequenceOf(advance.log) === 0) this.#foreignLogs++
      peerKnows.advance(advance)
    }
    if (local.vector.size + this.#foreignLogs <= logsOfOthersMax) return
    this.#foreignLogs = 0
    for (const { log } of peerKnows) if (local.vector.sequenceOf(log) === 0) this.#foreignLogs++
    if (local.vector.size + this.#foreignLogs > logsOfOthersMax) {
      throw new ReplicationError(`With ${this.#foreignLogs} logs that only the peer knows there would be ${local.vector.size + this.#foreignLogs}, at most ${logsOfOthersMax} are possible`, { code: 'REPLICATION_TOO_MANY_LOGS' })
    }
  }

  /**
   * What anybody is said to have of our own log must be of our own making. What a copy of this directory has brought there is,
   * though we have not sent it: that takes a look at the log records, and another greeting.
   *
   * @throws `REPLICATION_DISCONNECTED`
   */
  compare (advances: readonly Advance[]): void {
    const { local } = this
    const entry = advances.find(({ log }) => log === local.log)
    if (entry === undefined || isOurs(entry, local.vector.get(entry.log), local.told)) return
    this.emit({ type: 'log-contradicted', entry })
    throw new ReplicationError('The peer knows more of the log of this replica than it has sent', { code: 'REPLICATION_DISCONNECTED' })
  }

  /** What has been emitted since the last call. */
  takeEffects (): Effect[] {
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}

export function logReplaced (replica: ReplicaId): ReplicationError {
  return new ReplicationError(`The peer knows more, or something else, of the log of replica ${replica} than that one itself, which was restored or copied: it writes on in a new log`, { code: 'REPLICATION_LOG_REPLACED' })
}

/** Whether an entry for our own log may be of our own making: not beyond what has been sent, and at the same place with the same time. */
function isOurs ({ sequence, hlc }: Advance, own: Advance | undefined, told: number): boolean {
  return own !== undefined && (sequence === own.sequence ? hlc === own.hlc : sequence <= told)
}
