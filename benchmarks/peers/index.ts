/**
 * ReplicatedLevel against what else one could use, on this machine, in one run.
 *
 *     npm run bench:peers -- [--rounds n] [--entries n] [--peers name,name] [--json file] [--round-limit seconds]
 *
 * What they need is installed first, into this folder.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { launch } from '../launch.ts'
import { kinds } from './kinds.ts'
import { parseOptions } from './options.ts'
import { isInstalled } from './packages.ts'

const folder = fileURLToPath(new URL('.', import.meta.url))
process.env.BENCHMARKS_PEERS = folder

let peers: readonly string[]
try {
  peers = parseOptions(process.argv.slice(2)).peers
} catch (error) {
  console.error((error as Error).message)
  process.exit(2)
}

if (peers.some((name) => kinds[name]!.packages.length > 0) && !isInstalled(folder)) {
  console.error(`Installing what is compared with, in ${folder}`)
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  const { status } = spawnSync(npm, ['ci'], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'], shell: process.platform === 'win32' })
  if (status !== 0) process.exit(1)
}

launch('peers/main', 3 * 60 * 60)
