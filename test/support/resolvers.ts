/**
 * Resolvers as people write them, good and bad, by name.
 */
import type { Resolution, Version } from '../../lib/types.ts'

type Text = Version<any, any>

export const resolvers = {
  /** Depends on the order in which it is asked. */
  asymmetric: (a: Text, b: Text): boolean => (String(a.value).length * 3 + String(b.value).length) % 2 === 0,
  /** A delete wins against everything. */
  deleteWins: (a: Text, b: Text): Resolution<string> => a.type === 'del' || b.type === 'del' ? { type: 'del' } : true,
  /** Merges the words of both. */
  union: (a: Text, b: Text): Resolution<string> => ({ value: [...new Set(`${a.value ?? ''} ${b.value ?? ''}`.split(' ').filter(Boolean))].sort().join(' ') }),
  throws: (): boolean => { throw new Error('I cannot decide') }
}
