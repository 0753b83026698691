/**
 * Types that more than one folder shares: what is injected, and what users see.
 */
import type { ReplicationError } from './errors.ts'

/** A timer handle; opaque. */
export type Timer = unknown

/**
 * Time, timers and randomness, handed in so that a simulator can own them.
 */
export interface System {
  /** Wall clock, milliseconds since 1970. */
  nowMs (): number
  /** Monotonic clock, milliseconds since an arbitrary moment. */
  monotonicMs (): number
  /** Calls `callback` once after `delayMs`; must not keep the process alive, unless a call of the user's waits for that. */
  setTimer (callback: () => void, delayMs: number, isWaitedFor?: boolean): Timer
  clearTimer (timer: Timer): void
  /** Lets pending I/O have its turn. */
  yield (): Promise<void>
  randomBytes (size: number): Uint8Array
  /** Uniform in [0, 1). */
  random (): number
}

export interface Address {
  host: string
  port: number
}

interface VersionOf<K> {
  /** The key, decoded with the database's key encoding. */
  readonly key: K
  /** When it was written, by the hybrid logical clock of its writer: milliseconds since 1970. */
  readonly timestamp: number
  /** The log that it was written in: 16 hexadecimal digits. */
  readonly origin: string
  readonly keyBytes: Uint8Array
}

/** A value that was written. */
export interface PutVersion<K = unknown, V = unknown> extends VersionOf<K> {
  readonly type: 'put'
  /** The value, decoded with the database's value encoding, or its bytes where they cannot be decoded. */
  readonly value: V
  readonly valueBytes: Uint8Array
}

/** A delete. */
export interface DelVersion<K = unknown> extends VersionOf<K> {
  readonly type: 'del'
  readonly value: undefined
  readonly valueBytes: undefined
}

/** One of the concurrent versions of a key. */
export type Version<K = unknown, V = unknown> = PutVersion<K, V> | DelVersion<K>

/** What a resolver answers: `true` accepts the challenger, `false` keeps what was accepted, an object merges. */
export type Resolution<V = unknown> = boolean | { value: V } | { type: 'del' }

/**
 * Decides between two concurrent versions of a key: `accepted`, the outcome so far, and `challenger`, the next
 * version in (time, log, sequence) order; one of them may be a delete. Must be pure and synchronous, and the same on every replica.
 */
export type Resolver<K = unknown, V = unknown> = (accepted: Version<K, V>, challenger: Version<K, V>) => Resolution<V>

/** Something in the background failed. Never throws. */
export type ErrorListener = (error: ReplicationError) => void
