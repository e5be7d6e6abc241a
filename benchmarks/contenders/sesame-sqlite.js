import { SqliteStore } from '../../dist/stores/sqlite.js'
import { sesame } from './sesame.js'

export default async function sesameSqlite({ folder }) {
  return { app: await sesame(new SqliteStore(`${folder}/sessions-${process.pid}.db`)) }
}
