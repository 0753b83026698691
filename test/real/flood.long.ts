/**
 * A hundred thousand forged services on the network.
 */
import { floodSuite } from '../support/flood.ts'

floodSuite(100_000, 20_000).run()
