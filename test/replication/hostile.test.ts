/**
 * A sample of `hostile.long.ts`.
 */
import { fuzzedLinksSuite } from '../support/fuzzed-links.ts'

fuzzedLinksSuite(2000).run()
