import { PostgresStore } from '../../dist/stores/postgres/store.js'
import pg from 'pg'
import { sesame } from './sesame.js'

export default async function sesamePostgres({ postgres }) {
  const store = new PostgresStore({ pool: new pg.Pool({ connectionString: postgres }) })
  await store.migrate()
  return { app: await sesame(store) }
}
