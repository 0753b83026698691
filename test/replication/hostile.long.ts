/**
 * Hostile frames over real sockets, bare and protected by a secret. A million without sockets are in
 * test/sync/fuzz.long.ts.
 */
import { fuzzedLinksSuite } from '../support/fuzzed-links.ts'

fuzzedLinksSuite(20_000).run()
