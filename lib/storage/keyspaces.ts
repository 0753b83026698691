/**
 * Where everything is on disk: the first byte of every key names its keyspace. `FORMAT.md` is the specification.
 *
 * User keys keep LevelDB's own byte order under the prefix of their keyspace, so that reads and iterators pass
 * straight through to native code. Data has the highest prefix, which lets a compaction of an open range work as
 * it does on a plain LevelDB.
 */
import { highOf, joinedOf, lowOf, readUint32, writeUint32 } from '../codec/integers.ts'
import type { LogId } from '../core/ids.ts'
import { bytesOf, type Bytes } from './engine.ts'

/** The format that this version writes. */
export const formatVersion = 1

export const keyspace = {
  meta: 0x10,
  log: 0x20,
  stage: 0x30,
  version: 0x40,
  sibling: 0x50,
  data: 0x60
} as const

export type Keyspace = typeof keyspace[keyof typeof keyspace]

/** The data keyspace as text, for keys that are text. */
export const dataPrefix = String.fromCharCode(keyspace.data)
/** The first text above every key of the data keyspace. */
export const dataEnd = String.fromCharCode(keyspace.data + 1)

export const dotBytes = 16

/** `key` in a keyspace. */
export function inKeyspace (space: Keyspace, key: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(1 + key.length)
  bytes[0] = space
  bytes.set(key, 1)
  return bytes
}

/** The same of a key as a binary string. */
export function textInKeyspace (space: Keyspace, key: string): Buffer {
  const bytes = Buffer.allocUnsafe(1 + key.length)
  bytes[0] = space
  bytes.latin1Write(key, 1)
  return bytes
}

/** A user's key in the data keyspace: text as text. */
export function dataKey (key: Bytes): Buffer | string {
  return typeof key === 'string' ? dataPrefix + key : inKeyspace(keyspace.data, bytesOf(key) as Uint8Array)
}

/** All keys of a keyspace. */
export function wholeKeyspace (space: Keyspace): { gte: Buffer, lt: Buffer } {
  return { gte: Buffer.of(space), lt: Buffer.of(space + 1) }
}

export function writeDot (target: Buffer, offset: number, log: LogId, sequence: number): void {
  target.latin1Write(log, offset)
  writeUint32(target, offset + 8, highOf(sequence))
  writeUint32(target, offset + 12, lowOf(sequence))
}

export function readSequence (source: Buffer, offset: number): number {
  return joinedOf(readUint32(source, offset), readUint32(source, offset + 4))
}

/** The key of a log record; `sequence` is that of its first operation. */
export function logKey (log: LogId, sequence: number): Buffer {
  const bytes = Buffer.allocUnsafe(1 + dotBytes)
  bytes[0] = keyspace.log
  writeDot(bytes, 1, log, sequence)
  return bytes
}

/** The key of the value of one sibling of `key`. */
export function siblingKey (key: Uint8Array, log: LogId, sequence: number): Buffer {
  const bytes = Buffer.allocUnsafe(1 + key.length + dotBytes)
  bytes[0] = keyspace.sibling
  bytes.set(key, 1)
  writeDot(bytes, 1 + key.length, log, sequence)
  return bytes
}

function dotOf (log: LogId, sequence: number): Buffer {
  const bytes = Buffer.allocUnsafe(dotBytes)
  writeDot(bytes, 0, log, sequence)
  return bytes
}

function metaKey (name: string, suffix: Uint8Array = new Uint8Array(0)): Buffer {
  return Buffer.concat([Buffer.of(keyspace.meta), Buffer.from(name), suffix])
}

/** What a clean close writes under `K`: the tally is of the same moment, and no checkpoint is. */
export const tallied = 2

/** Names in the meta keyspace. Each is one letter, where more follows a fixed number of bytes. */
export const meta = {
  format: metaKey('F'),
  replica: metaKey('R'),
  ownLog: metaKey('L'),
  identity: metaKey('I'),
  cleanClose: metaKey('K'),
  resolverVersion: metaKey('O'),
  checkpoint: metaKey('P'),
  stage: metaKey('S'),
  tally: metaKey('T'),
  hole: metaKey('H'),
  leaving: metaKey('W'),
  runningTime: metaKey('U'),
  vector: (log: LogId) => metaKey('V', Buffer.from(log, 'latin1')),
  collected: (log: LogId) => metaKey('C', Buffer.from(log, 'latin1')),
  member: (replica: string) => metaKey('M', Buffer.from(replica, 'hex')),
  end: (log: LogId, sequence: number) => metaKey('E', dotOf(log, sequence)),
  journal: (slot: number) => metaKey('J', Buffer.of(slot >> 8, slot & 0xff)),
  /** All entries whose name begins with this letter. */
  all: (name: 'V' | 'C' | 'E' | 'M' | 'J') => ({ gte: metaKey(name), lt: metaKey(String.fromCharCode(name.charCodeAt(0) + 1)) })
}
