/**
 * A million overwrites, one by one and in batches.
 */
import { spaceSuite } from './space.ts'

spaceSuite({ overwrites: 1_000_000, batches: 1000 }).run()
