/**
 * A sample of `space.long.ts`.
 */
import { spaceSuite } from './space.ts'

spaceSuite({ overwrites: 50_000, batches: 100, deletes: 10_000 }).run()
