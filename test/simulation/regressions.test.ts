/**
 * Seeds that have found a bug in lib, and what it was.
 *
 * A seed stands for the same history only as long as the scenario is the same. So each of these bugs is also planted
 * again by `faults.ts`, or has a test of its own.
 */
import { test } from 'uvu'
import { passes } from './seeds.ts'

const found: ReadonlyArray<readonly [number, string]> = [
  [5, 'a checkpoint that became ready while a batch was in flight passed for written: the vector went back at the next open'],
  [6, 'a link that had ended gave its turn away while it was still storing: two deliveries met in one stage'],
  [152, 'what was written while nobody was linked was never acknowledged as durable'],
  [417, '`again` overtook the delivery that still waited for its turn, and was not heard: a link that said nothing any more'],
  [1348, 'a unit was applied although the one before it had not been, for want of space'],
  [3108, 'units that waited for the writer were merged between the steps of an apply phase: a version that had been superseded stayed'],
  [4582, 'what a failed write had left in the stage stayed there, and would have been a part of what was staged after it']
]

for (const [seed, what] of found) {
  test(`seed ${seed}: ${what}`, async () => { await passes({ from: seed, seeds: 1, workers: 1 }) })
}

test.run()
