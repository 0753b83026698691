/**
 * Faults to be planted in lib, one at a time: a simulation that finds none of them would be worth nothing.
 *
 * Each replaces snippets of the source that occur exactly once. When lib changes, a fault may have to be written anew:
 * the run then says so.
 */
import type { Patch } from './workers.ts'

export interface PlantedFault {
  readonly name: string
  readonly patches: readonly Patch[]
}

export const faults: readonly PlantedFault[] = [
  {
    name: 'the vector advances in the middle of a catch-up',
    patches: [{
      file: 'lib/storage/intake.ts',
      find: 'if (more) batch.putRaw(meta.stage, encodeStageRecord({ ...record, cursor: phase.cursor }))',
      replace: `for (const advance of record.vector) batch.advance(advance)
          if (more) batch.putRaw(meta.stage, encodeStageRecord({ ...record, cursor: phase.cursor }))`
    }]
  },
  {
    name: 'half a sibling set is sent',
    patches: [{
      file: 'lib/storage/merge.ts',
      find: 'batch.addToUnit(merged, merged.map((sibling, index) => indexOfDot(before, sibling) === -1 ? values[index] : undefined))',
      replace: `const sent = merged.filter((sibling) => indexOfDot(before, sibling) === -1)
    batch.addToUnit(sent, sent.map((sibling) => values[indexOfDot(merged, sibling)]))`
    }]
  },
  {
    name: 'a catch-up is not read at one snapshot',
    patches: [
      { file: 'lib/storage/source.ts', find: 'this.reading = { snapshot: options.snapshot, ', replace: 'this.reading = { snapshot: undefined as never, ' },
      { file: 'lib/storage/log-source.ts', find: 'keys.slice(this.#index, this.#index + this.#valuesAtOnce)', replace: 'keys.slice(this.#index, this.#index + 1)' }
    ]
  },
  {
    name: 'a copied directory writes on in the log of its original',
    patches: [{ file: 'lib/storage/identity.ts', find: "remembered.birthTime !== found.birthTime) return 'new-replica'", replace: "remembered.birthTime !== found.birthTime) return 'same'" }]
  },
  {
    name: 'the log goes on after a power loss',
    patches: [{ file: 'lib/storage/identity.ts', find: "remembered.bootId !== found.bootId)) return 'new-log'", replace: "remembered.bootId !== found.bootId)) return 'same'" }]
  },
  {
    name: 'what is forwarded by others is not waited for',
    patches: [
      { file: 'lib/sync/receiving.ts', find: 'const missing = before.filter(({ log, sequence }) => !local.vector.covers(log, sequence))', replace: 'const missing = before.slice(0, 0)' },
      { file: 'lib/storage/intake.ts', find: "if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit came before what it depends on', { code: 'REPLICATION_PROTOCOL' })", replace: 'void [log, sequence]' }
    ]
  },
  {
    name: 'siblings are folded in the order of their arrival',
    patches: [{ file: 'lib/core/siblings.ts', find: 'return [...kept, ...added].sort(compareSiblings)', replace: 'return [...kept, ...added]' }]
  },
  {
    name: 'an operation that is live is swept from the log',
    patches: [{ file: 'lib/storage/sweeper.ts', find: 'if (record === undefined || indexOfDot(', replace: 'if (record === undefined || record[0] !== 1 || indexOfDot(' }]
  },
  {
    name: 'what is not on the medium is acknowledged as durable',
    patches: [{ file: 'lib/storage/store.ts', find: 'vector = this.#state.vector.clone()\n      batch.sync = true', replace: 'vector = this.#state.vector.clone()' }]
  },
  {
    name: 'a write is acknowledged before it is committed',
    patches: [{ file: 'lib/storage/writer.ts', find: 'await this.#commit(transactions)', replace: 'for (const { resolve } of transactions) resolve()\n      await this.#commit(transactions)' }]
  },
  {
    name: 'sequences are given in another order than transactions came in',
    patches: [{ file: 'lib/storage/writer.ts', find: 'for (const { operations, sync } of transactions) {', replace: 'for (const { operations, sync } of transactions.reverse()) {' }]
  },
  {
    name: 'a batch becomes visible in two parts',
    patches: [{
      file: 'lib/storage/intake.ts',
      find: 'return new Promise((resolve, reject) => {\n      this.#units.push',
      replace: `if (unit.entries.length > 1) {
      const early = unit.stream.clone()
      early.join(unit.before)
      early.join(unit.changes)
      this.#run(async (merger) => {
        await merger.merge(unit.entries.slice(0, 1), early)
        return true
      }).catch(() => {})
    }
    return new Promise((resolve, reject) => {
      this.#units.push`
    }]
  },
  {
    name: 'a merge keeps a version that the other side has superseded',
    patches: [{ file: 'lib/core/siblings.ts', find: '!theirContext.covers(dot.log, dot.sequence))', replace: "(dot.type === 'put' && theirs.length > 0) || !theirContext.covers(dot.log, dot.sequence))" }]
  },
  {
    name: 'a delete leaves a put that has lost',
    patches: [{ file: 'lib/storage/local.ts', find: "if (type === 'del' && !holdsPut(siblings)) return false", replace: "if (type === 'del' && siblings.at(-1)?.type !== 'put') return false" }]
  },
  {
    name: 'a stage that is half applied is given up',
    patches: [{ file: 'lib/storage/delivery.ts', find: 'if (this.#staged && !this.#applying) await', replace: 'if (this.#staged) await' }]
  },
  {
    name: 'a link that has ended gives its turn away while it is still storing',
    patches: [{ file: 'lib/network/link.ts', find: 'this.#afterDeliveries(() => { this.#owner.releaseTurn(this) })\n    this.#owner.ended', replace: 'this.#owner.releaseTurn(this)\n    this.#owner.ended' }]
  },
  {
    name: 'a unit is applied although the one before it has failed',
    patches: [{ file: 'lib/storage/intake.ts', find: "if (!batch.reaches(log, sequence)) throw new ReplicationError('A unit before this one could not be applied', { code: 'REPLICATION_DISCONNECTED' })", replace: 'void [log, sequence]' }]
  },
  {
    name: 'a checkpoint passes for written by a batch that does not hold it',
    patches: [{
      file: 'lib/storage/journal.ts',
      find: 'this.#checkpoint = this.#written.number\n      if (this.#ready === this.#written) this.#ready = undefined\n    }',
      replace: 'this.#checkpoint = this.#written.number\n    }\n    this.#ready = undefined'
    }]
  }
]
