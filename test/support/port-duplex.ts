/** An it-pipe duplex over a MessagePort. */
import { pushable } from 'it-pushable'
import type { MessagePort } from 'node:worker_threads'
import type { Duplex } from '../../lib/index.ts'

export function portDuplex (port: MessagePort): Duplex {
  const source = pushable<Uint8Array>({ objectMode: true })
  port.on('message', (bytes: Uint8Array | null) => { if (bytes === null) source.end(); else source.push(bytes) })
  port.on('close', () => { source.end() })
  return {
    source,
    sink: async (chunks) => {
      for await (const chunk of chunks) port.postMessage(chunk.slice())
      port.postMessage(null)
    }
  }
}
