/**
 * A worker thread with a replica whose only peer is at the other end of a MessagePort.
 */
import { pipe } from 'it-pipe'
import { workerData } from 'node:worker_threads'
import type { MessagePort } from 'node:worker_threads'
import { ReplicatedLevel } from '../../lib/index.ts'
import { portDuplex } from './port-duplex.ts'

const { directory, conversation, control } = workerData as { directory: string, conversation: MessagePort, control: MessagePort }
const db = new ReplicatedLevel(directory, { port: false })
await db.open()
const duplex = portDuplex(conversation)
pipe(duplex, db.replication.stream(), duplex).catch(() => {})

control.on('message', async ({ put, get, close }: { put?: [string, string], get?: string, close?: true }) => {
  if (put !== undefined) control.postMessage(await db.put(...put))
  if (get !== undefined) control.postMessage(await db.get(get))
  if (close === true) {
    await db.close()
    conversation.close()
    control.postMessage(undefined)
    control.close()
  }
})
