import t from 'tap'
import { addRoutes, Browser, makeApp, setCookieOf } from './fixtures/app.js'
import { spyStore } from './fixtures/stores.js'

void t.test('no cookie, nothing set: no store call, no cookie', async (t) => {
  const store = spyStore()
  const app = addRoutes(await makeApp(t, { store }))
  const response = await new Browser(app).get('/read')
  t.same(response.json(), { name: null })
  t.same(store.take(), [])
  t.equal(setCookieOf(response), undefined)
})
