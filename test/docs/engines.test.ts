import t, { type Test } from 'tap'
import { PostgresStore } from 'fastify-sesame/stores/postgres'
import { signIn } from 'fastify-sesame/testing'
import { findPostgres, makePool, makeSchema } from '../fixtures/postgres.js'
import { sharedRedis, withoutRedis } from '../fixtures/redis.js'
import { complete, EXAMPLES, runExample } from './fixtures/examples.js'
import { blocksOf } from './fixtures/pages.js'

// Runs the examples that need a database, with a real one.

const postgres = await findPostgres(t)
const redis = withoutRedis === false ? await sharedRedis(t) : ''

/** Sets an environment variable that examples read, until the test ends. */
function setEnv(t: Test, name: string, value: string): void {
  const before = process.env[name]
  process.env[name] = value
  t.teardown(() => {
    if (before === undefined) Reflect.deleteProperty(process.env, name)
    else process.env[name] = before
  })
}

/** Runs an example. Checks that the app reads a session from its store, and that the store takes a change. */
async function tryStore(t: Test, code: string): Promise<void> {
  const { app } = await runExample(t, code.replace(/^await app\.listen.*$/m, ''))
  app.get('/visits', async ({ session }) => {
    session.update('visits', (visits) => Number(visits ?? 0) + 1)
    return session.get('visits')
  })
  const { cookie } = await signIn(app, { userId: 'ada' })
  for (const visits of [1, 2])
    t.equal((await app.inject({ url: '/visits', headers: { cookie } })).body, `${visits}`)
}

for (const { page, heading, code } of EXAMPLES.filter(({ code }) => code.includes('new PostgresStore(')))
  void t.test(`the PostgreSQL example of ${page}, ${heading}, works`, { skip: postgres.skip }, async (t) => {
    const { url } = (postgres as { server: { url: string } }).server
    const pool = makePool(t, { url })
    const schema = await makeSchema(t, pool)
    await pool.query(PostgresStore.sql({ schema }))
    setEnv(t, 'DATABASE_URL', `${url}?options=${encodeURIComponent(`-c search_path=${schema}`)}`)
    await tryStore(t, code)
  })

for (const { page, heading, code } of EXAMPLES.filter(({ code }) => code.includes('new RedisStore(')))
  void t.test(`the Redis example of ${page}, ${heading}, works`, { skip: withoutRedis }, async (t) => {
    setEnv(t, 'REDIS_URL', redis)
    await tryStore(t, code)
  })

void t.test('the role of deploying.md has enough rights', { skip: postgres.skip }, async (t) => {
  const pool = makePool(t, (postgres as { server: { url: string } }).server, { max: 1 })
  const schema = await makeSchema(t, pool)
  await pool.query(`SET search_path = ${schema}`)
  await pool.query(PostgresStore.sql())
  const [grants] = blocksOf('docs/deploying.md').filter(({ language }) => language === 'sql')
  const role = `${schema}_role`
  await pool.query(
    `${(grants as { code: string }).code.replaceAll('shop', role)}GRANT USAGE ON SCHEMA ${schema} TO ${role}`
  )
  t.teardown(() => pool.query(`RESET ROLE; DROP OWNED BY ${role}; DROP ROLE ${role}`))
  await pool.query(`SET ROLE ${role}`)
  const store = new PostgresStore({ pool })
  t.same(await store.ready(), [])
  t.equal(await store.get(''), undefined)
})

void t.test('every example of a database is run here', async (t) => {
  t.same(
    EXAMPLES.filter(({ code }) => /new (PostgresStore|RedisStore)\(/.test(complete(code))).map(
      ({ page }) => page
    ),
    ['docs/deploying.md', 'docs/stores.md', 'docs/stores.md']
  )
})
