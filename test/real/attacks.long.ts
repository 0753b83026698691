/**
 * Strangers and members of ill will against one of two replicas that are linked and have something to say. Forged
 * services are in `flood.long.ts`.
 */
import { attackSuite } from '../support/attack.ts'

attackSuite({ rounds: 5, pings: 100 }).run()
