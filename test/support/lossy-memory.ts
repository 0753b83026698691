/**
 * memory-level with a write-ahead log that can lose batches, as LevelDB's can: what was written since the last
 * `writeOut` is replayed at an open, without those that are lost.
 */
import type { Engine } from '../../lib/storage/engine.ts'
import type { FaultyMemory } from './store.ts'
import { newMemory } from './store.ts'

const buffers = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const

interface Entry {
  readonly type: 'put' | 'del'
  readonly key: Buffer
  readonly value?: Buffer
}

export class LossyMemory {
  readonly engine: FaultyMemory & { compactRange?: () => Promise<void> }
  /** What the tables hold. */
  #tables: Entry[] = []
  /** Batches in the write-ahead log. */
  #log: Entry[][] = []

  private constructor (engine: FaultyMemory) {
    this.engine = engine
    this.engine.compactRange = async () => { await this.#writeOut() }
    const write = engine._batch.bind(engine)
    engine._batch = async (operations, options) => {
      await write(operations, options)
      this.#log.push((operations as Entry[]).map(({ type, key, value }) => value === undefined ? { type, key } : { type, key, value }))
    }
  }

  static async open (): Promise<LossyMemory> {
    const memory = new LossyMemory(newMemory())
    await memory.engine.open()
    return memory
  }

  get asEngine (): Engine {
    return this.engine as unknown as Engine
  }

  /** Batches that could be lost. */
  get logLength (): number {
    return this.#log.length
  }

  async #writeOut (): Promise<void> {
    this.#log = []
    this.#tables = (await this.engine.iterator(buffers).all()).map(([key, value]) => ({ type: 'put', key: key as Buffer, value: value as Buffer }))
  }

  /** As after a crash and an open, without the batches of these indexes. */
  async reopenedWithout (lost: ReadonlySet<number>): Promise<LossyMemory> {
    const memory = await LossyMemory.open()
    const entries = [this.#tables, ...this.#log.filter((_, index) => !lost.has(index))]
    for (const batch of entries) await memory.engine.batch(batch as never, buffers)
    await memory.#writeOut()
    return memory
  }
}
