/**
 * The public test suite of abstract-level, run on whatever a factory makes, and counted.
 *
 * Undeclaring a feature in a manifest silently skips its tests, so a caller has to ask how many assertions passed.
 * On classic-level itself it is 5168.
 */
import suite from 'abstract-level/test/index.js'
import { createHarness } from 'tape'

export const assertionsMin = 5168

export interface SuiteResult {
  passed: number
  /** The name of the test, the assertion and what it expected. */
  failures: string[]
}

interface Row {
  type: 'test' | 'assert' | 'end'
  name?: string
  ok?: boolean
  id?: number
  expected?: unknown
  actual?: unknown
  error?: unknown
}

/** Runs the suite; `factory` is called for each test with the options of a new, empty database. */
export async function runAbstractSuite (factory: (options?: object) => unknown): Promise<SuiteResult> {
  const harness = createHarness({ autoclose: true } as object)
  const result: SuiteResult = { passed: 0, failures: [] }
  const finished = new Promise<void>((resolve, reject) => {
    let test = ''
    harness.createStream({ objectMode: true })
      .on('data', (row: Row) => {
        if (row.type === 'test') test = row.name ?? ''
        if (row.type !== 'assert') return
        if (row.ok === true) result.passed++
        else result.failures.push(`${test}: ${row.name ?? ''} (expected ${String(row.expected)}, received ${String(row.actual)}, ${String(row.error)})`)
      })
      .on('end', resolve)
      .on('error', reject)
  })
  suite({ test: harness, factory })
  await finished
  return result
}
