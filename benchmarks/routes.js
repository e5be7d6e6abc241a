import { HELLO, NAME, nextTurn, readAll, seedOf } from './payload.js'

/** Adds routes that send the same replies as `addSessionRoutes`, but use no session. */
export function addPlainRoutes(app) {
  app.get('/hello', async () => HELLO)
  app.get('/read', async () => ({ name: NAME }))
  app.post('/change', async () => ({ visits: 1 }))
  app.post('/login', async () => HELLO)
  app.post('/csrf', async () => HELLO)
  app.post('/add', async () => {
    await nextTurn()
    return HELLO
  })
}

/**
 * Adds routes for libraries whose `request.session` has `get` and `set`. Contenders add the login and logout routes
 * themselves, because each library has its own functions for them.
 */
export function addSessionRoutes(app) {
  app.get('/hello', async () => HELLO)
  app.get('/read', async ({ session }) => ({ name: session.get('name') ?? null }))
  app.get('/all', async ({ session }) => readAll((key) => session.get(key)))
  app.post('/seed', async ({ session, query }) => {
    for (const [key, value] of Object.entries(seedOf(query))) session.set(key, value)
    return HELLO
  })
  app.post('/change', async ({ session }) => {
    const visits = session.get('visits') + 1
    session.set('visits', visits)
    return { visits }
  })
}

/**
 * Adds a counter route for libraries without `update()`. Its handler reads the value, adds one and writes the result.
 */
export function addUnsafeCounter(app) {
  app.post('/add', async ({ session }) => {
    const count = session.get('count') ?? 0
    await nextTurn()
    session.set('count', count + 1)
    return HELLO
  })
}
