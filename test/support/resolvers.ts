/**
 * Resolvers as people write them, good and bad, by name, so that another process can be told which.
 */
import type { Resolution, Version } from '../../lib/types.ts'

type Text = Version<any, any>

export const resolvers = {
  /** Symmetric: the longer value wins. */
  longer: (a: Text, b: Text): boolean => String(b.value ?? '').length > String(a.value ?? '').length,
  /** Everything ties: the first stays. */
  never: (): boolean => false,
  /** Depends on the order in which it is asked. */
  asymmetric: (a: Text, b: Text): boolean => (String(a.value).length * 3 + String(b.value).length) % 2 === 0,
  /** A delete loses against everything. */
  putWins: (_a: Text, b: Text): boolean => b.type === 'put',
  /** A delete wins against everything. */
  deleteWins: (a: Text, b: Text): Resolution<string> => a.type === 'del' || b.type === 'del' ? { type: 'del' } : true,
  /** Merges the words of both. */
  union: (a: Text, b: Text): Resolution<string> => ({ value: [...new Set(`${a.value ?? ''} ${b.value ?? ''}`.split(' ').filter(Boolean))].sort().join(' ') }),
  /** Two writers cancel each other out. */
  annihilate: (): Resolution => ({ type: 'del' }),
  throws: (): boolean => { throw new Error('I cannot decide') },
  promise: (): boolean => Promise.resolve(true) as unknown as boolean,
  nonsense: (): boolean => 'b' as unknown as boolean,
  nothing: (): boolean => undefined as unknown as boolean
}
