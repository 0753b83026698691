/**
 * Methods that Buffer has had since Node 0.x and that Node's own types leave out: `write` and `toString` with the
 * encoding fixed, at half of their cost, which shows where every key passes through.
 */
declare global {
  interface Buffer {
    latin1Slice (start?: number, end?: number): string
    latin1Write (text: string, offset: number): number
    utf8Write (text: string, offset: number): number
  }
}

export {}
