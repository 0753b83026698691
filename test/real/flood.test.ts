/**
 * A sample of `flood.long.ts`.
 */
import { floodSuite } from '../support/flood.ts'

floodSuite(20_000, 5_000).run()
