/**
 * Benchmarks of ReplicatedLevel against classic-level, on this machine, in one run.
 *
 *     npm run bench -- [--rounds n] [--entries n] [--only name] [--encoding utf8|buffer] [--json file] [--floors]
 */
import { launch } from './launch.ts'

launch('main', 300)
