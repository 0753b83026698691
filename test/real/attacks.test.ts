/**
 * A sample of `attacks.long.ts`.
 */
import { attackSuite } from '../support/attack.ts'

attackSuite({ rounds: 3, pings: 60 }).run()
