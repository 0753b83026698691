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
  /** Calls `callback` once after `delayMs`; must not keep the process alive. */
  setTimer (callback: () => void, delayMs: number): Timer
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

/** One of the concurrent versions of a key. */
export interface Version<K = unknown, V = unknown> {
  /** The key, decoded with the database's key encoding. */
  readonly key: K
  /** The value, decoded with the database's value encoding; undefined for a delete. */
  readonly value: V
  readonly type: 'put' | 'del'
  /** When it was written, by the hybrid logical clock of its writer: milliseconds since 1970. */
  readonly timestamp: number
  /** The log that it was written in: 16 hexadecimal digits. */
  readonly origin: string
  readonly keyBytes: Uint8Array
  readonly valueBytes: Uint8Array | undefined
}

/** What a resolver answers: `true` accepts the challenger, `false` keeps what was accepted, an object merges. */
export type Resolution<V = unknown> = boolean | { value: V } | { type: 'del' }

/**
 * Decides between two concurrent versions of a key: `accepted`, the outcome so far, and `challenger`, the next
 * version in (time, log, sequence) order. Must be pure and synchronous, and the same on every replica.
 */
export type Resolver<K = unknown, V = unknown> = (accepted: Version<K, V>, challenger: Version<K, V>) => Resolution<V>

/** Something in the background failed. Never throws. */
export type ErrorListener = (error: ReplicationError) => void
