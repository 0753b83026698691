/** Counts what is received: how often a value comes to a replica, live or in a delivery, and by which kind of delivery. */
import { decodeEntries, type Entry } from '../../lib/codec/entry.ts'
import type { Store } from '../../lib/storage/store.ts'
import type { World } from './world.ts'

export function countPayloads ({ intake }: Store, world: World, name: string): void {
  const { apply, begin } = intake
  intake.apply = async (unit) => {
    world.count('units received')
    world.count('payloads received live', payloadsIn(unit.entries))
    await apply.call(intake, unit)
  }
  intake.begin = (...args) => {
    const delivery = begin.apply(intake, args)
    const { add } = delivery
    world.count(`deliveries ${args[4] === true ? 'gone on with' : 'begun'}, ${args[0]}`)
    delivery.add = async (chunk) => {
      world.count('payloads received in deliveries', payloadsIn(decodeEntries(chunk)))
      await add.call(delivery, chunk)
      world.onDelivering(name)
    }
    return delivery
  }
}

function payloadsIn (entries: Iterable<Entry>): number {
  return [...entries].reduce((sum, { values }) => sum + values.filter((value) => value !== undefined).length, 0)
}
