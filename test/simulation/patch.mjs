/**
 * Loads the sources of lib with changes: limits that a simulation can set, and, if one is to be planted, a fault.
 *
 *     node --import ./test/simulation/patch.mjs --import tsx ...
 *
 * The environment variable SIMULATION_PATCHES is a JSON list of `{ file, find, replace }`. A snippet that does not
 * occur exactly once ends the process: a planted fault must not silently become none.
 */
import { register } from 'node:module'

register(`data:text/javascript,${encodeURIComponent(`
import { readFileSync } from 'node:fs'

let patches = []

export function initialize (data) {
  patches = JSON.parse(data)
}

export async function load (url, context, nextLoad) {
  const path = /\\/(lib\\/.*\\.ts)(\\?.*)?$/.exec(url)?.[1]
  if (path === undefined || url.includes('/node_modules/')) return await nextLoad(url, context)
  let source = readFileSync(new URL(url.split('?')[0]), 'utf8')
  for (const { file, find, replace } of patches) {
    if (file !== path) continue
    if (source.split(find).length !== 2) throw new Error('SIMULATION_PATCHES: not exactly once in ' + path + ': ' + find)
    source = source.replace(find, () => replace)
  }
  if (path === 'lib/limits.ts') source = settable(source)
  return { format: 'module', source, shortCircuit: true }
}

/** Every limit becomes a variable, which all importers see change. */
function settable (source) {
  const names = [...source.matchAll(/^export const (\\w+) =/gm)].map((match) => match[1])
  return source.replaceAll(/^export const /gm, 'export let ') +
    'const given = { ' + names.join(', ') + ' }\\n' +
    'export function setLimits (limits) { ({ ' + names.join(', ') + ' } = { ...given, ...limits }) }\\n'
}
`)}`, { data: process.env.SIMULATION_PATCHES ?? '[]' })
