/** Writes, and is gone at the moment at which the last write has resolved. */
import { ReplicatedLevel } from '../../lib/index.ts'

const [location = '', count = '1'] = process.argv.slice(2)
const db = new ReplicatedLevel(location, { port: false })
await db.open()
for (let index = 0; index < Number(count); index++) await db.put(`key-${index}`, `value-${index}`)
process.kill(process.pid, 'SIGKILL')
