/**
 * A million overwrites, one by one and in batches; a hundred thousand deletes.
 */
import { spaceSuite } from './space.ts'

spaceSuite({ overwrites: 1_000_000, batches: 1000, deletes: 100_000 }).run()
