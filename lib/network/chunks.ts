/**
 * Chunks of bytes on their way from whoever pushes them to one reader, who pulls them: an async iterator that costs one
 * promise a chunk.
 */
import { Fifo } from '../core/fifo.ts'

type Result = IteratorResult<Uint8Array, undefined>

interface Reader {
  readonly resolve: (result: Result) => void
  readonly reject: (error: Error) => void
}

export class Chunks implements AsyncIterableIterator<Uint8Array, undefined> {
  /** Of those that wait for a reader. */
  bytes = 0
  #chunks = new Fifo<Uint8Array>()
  readonly #readers = new Fifo<Reader>()
  #ended = false
  #failure: Error | undefined

  /** How many wait for a reader. */
  get length (): number {
    return this.#chunks.length
  }

  [Symbol.asyncIterator] (): this {
    return this
  }

  next (): Promise<Result> {
    const value = this.#chunks.shift()
    if (value !== undefined) {
      this.bytes -= value.byteLength
      return Promise.resolve({ done: false, value })
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#ended) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => { this.#readers.push({ resolve, reject }) })
  }

  /** The reader leaves. */
  return (): Promise<Result> {
    this.drop()
    return Promise.resolve({ done: true, value: undefined })
  }

  push (value: Uint8Array): void {
    if (this.#ended) return
    const reader = this.#readers.shift()
    if (reader !== undefined) return reader.resolve({ done: false, value })
    this.#chunks.push(value)
    this.bytes += value.byteLength
  }

  /** No more will come; what has come can still be read. */
  end (failure?: Error): void {
    if (this.#ended) return
    this.#ended = true
    this.#failure = failure
    for (let reader = this.#readers.shift(); reader !== undefined; reader = this.#readers.shift()) {
      if (failure === undefined) reader.resolve({ done: true, value: undefined })
      else reader.reject(failure)
    }
  }

  /** No more will be read. */
  drop (failure?: Error): void {
    this.#chunks = new Fifo()
    this.bytes = 0
    this.end(failure)
  }
}
