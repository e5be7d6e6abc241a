import { SqliteStore } from '../../dist/stores/sqlite/store.js'
import { sesame } from './sesame.js'

export default async function sesameSqlite({ folder }) {
  return { app: await sesame(new SqliteStore(`${folder}/sessions-${process.pid}.db`)) }
}
