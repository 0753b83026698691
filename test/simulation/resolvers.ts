/** Resolvers as unreasonable as they may be, as long as they are pure. */
import type { Resolution, Version } from '../../lib/types.ts'

type Text = Version<string, string | undefined>

function hash (text: string): number {
  let value = 0x811c9dc5
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  return value >>> 0
}

const text = ({ type, value }: Text): string => type === 'put' ? value! : 'deleted'

export const resolvers = {
  lastWriterWins: () => true,
  firstWriterWins: () => false,
  intransitive: (a: Text, b: Text): boolean => hash(`${text(a)}>${text(b)}`) % 2 === 0,
  merging: (a: Text, b: Text): Resolution<string> => hash(`${text(b)}/${text(a)}`) % 5 === 0 ? { type: 'del' } : { value: `(${text(a)}+${text(b)})` },
  deleteWins: (a: Text, b: Text): Resolution<string> => a.type === 'del' || b.type === 'del' ? { type: 'del' } : true,
  throwing: (a: Text, b: Text): boolean => {
    if (hash(text(a) + text(b)) % 3 === 0) throw new Error('I cannot decide')
    return hash(text(b)) % 2 === 0
  }
}
