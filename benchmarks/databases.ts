/**
 * The two databases that are compared, opened alike.
 */
import type { AbstractLevel } from 'abstract-level'
import { ClassicLevel } from 'classic-level'
import { ReplicatedLevel } from '../lib/index.ts'
import type { Datum, Encoding } from './data.ts'

export type Engine = 'classic' | 'replicated'
export type Database = AbstractLevel<string | Buffer | Uint8Array, Datum, Datum>
export type Replica = ReplicatedLevel<Datum, Datum>

export interface DatabaseOptions {
  readonly engine: Engine
  readonly directory: string
  readonly encoding: Encoding
  /** Port to listen on; none if left out. Replicated only, as is `peers`. */
  readonly port?: number
  readonly peers?: readonly string[]
}

/** Makes a database and begins to open it; await its `open()`. */
export function makeDatabase ({ engine, directory, encoding, port, peers = [] }: DatabaseOptions): Database {
  const encodings = { keyEncoding: encoding, valueEncoding: encoding }
  if (engine === 'classic') return new ClassicLevel<Datum, Datum>(directory, encodings) as Database
  return new ReplicatedLevel<Datum, Datum>(directory, { ...encodings, port: port ?? false, peers }) as Database
}

export function isReplica (database: Database | undefined): database is Database & Replica {
  return database instanceof ReplicatedLevel
}

/** Operations that a replica knows of, its own and those of others. */
export function operationsKnown (replica: Replica): number {
  return Object.values(replica.replication.status().vector).reduce((sum, sequence) => sum + sequence, 0)
}
