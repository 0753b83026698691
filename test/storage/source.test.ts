import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { compareKeys, Pages, StoredKeys, type PageIterator } from '../../lib/storage/source.ts'

/** An iterator of these keys that gives a few at a time, however many it is asked for. */
function pagesOf (keys: readonly string[], atOnce: number, space: string): Pages {
  const left = keys.map((key): [Buffer, Buffer] => [Buffer.from(space + key), Buffer.from(`${key} in ${space}`)])
  const iterator: PageIterator<Buffer, Buffer> = { nextv: async (size) => left.splice(0, Math.min(size, atOnce)), close: async () => {} }
  return new Pages(iterator)
}

const sets: string[][] = [[], ['a'], ['', 'a', 'ab', 'b'], ['aa', 'ab', 'b\u0000', 'c'], ['d', 'e', 'f', 'g', 'h'], ['', 'h', 'i']]

test('the data and the version records of keys come together, in key order, whatever is read at once', async () => {
  for (const data of sets) {
    for (const versions of sets) {
      for (const [few, many] of [[1, 1], [1, 3], [3, 1], [2, 9], [9, 9]] as const) {
        const keys = new StoredKeys<Buffer>(pagesOf(data, few, '`'), pagesOf(versions, many, '@'), compareKeys)
        const found: Array<[string, string | undefined, string | undefined]> = []
        while (await keys.fill()) while (keys.next()) found.push([keys.key.toString('utf8', 1), keys.data?.toString(), keys.record?.toString()])
        const expected = [...new Set([...data, ...versions])].sort().map((key) => [key, data.includes(key) ? `${key} in \`` : undefined, versions.includes(key) ? `${key} in @` : undefined])
        assert.equal(found, expected, `${data.join()} and ${versions.join()}, ${few} and ${many} at once`)
        assert.not(keys.next())
        assert.not(await keys.fill())
      }
    }
  }
})

test('what fails to be read ahead is thrown where it is wanted, and nowhere else', async () => {
  let calls = 0
  const failing: PageIterator<Buffer, Buffer> = {
    nextv: async () => {
      if (++calls > 1) throw new Error('no file descriptors left')
      return [[Buffer.from('`a'), Buffer.from('1')]]
    },
    close: async () => {}
  }
  const pages = new Pages(failing)
  await pages.fill()
  await new Promise((resolve) => { setImmediate(resolve) })
  assert.is(pages.head?.[1].toString(), '1')
  pages.shift()
  assert.is(await pages.fill().then(() => undefined, ({ message }: Error) => message), 'no file descriptors left')
})

test.run()
