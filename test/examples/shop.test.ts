import t from 'tap'
import {
  Browser,
  FORM,
  makeExample,
  messagesIn,
  PAGE,
  sentTo,
  signedIn,
  signIn,
  submit,
  TIMEOUT
} from './fixtures/example.js'

// Tests the shop of the example, and what happens to a cart at a login.

t.setTimeout(TIMEOUT)

/** Returns the lines of the cart on the shop's page, such as `Halva 2`, the total, and the count in the header. */
async function cartOf(browser: Browser): Promise<string[]> {
  const { body } = await browser.get('/shop', PAGE)
  const lines = [...body.matchAll(/value="(\d+)"[^>]*aria-label="Quantity: ([^"]*)"/g)]
  const total = /<strong>Total<\/strong> <span class="price">([^<]*)</.exec(body)?.[1] ?? 'no total'
  const count = /class="count">(\d+)</.exec(body)?.[1] ?? '0'
  return [...lines.map(([, quantity, name]) => `${name} ${quantity}`), total, count]
}

const EMPTY = ['no total', '0']

function add(browser: Browser, id: string) {
  return submit(browser, '/shop', `/cart/${id}/add`)
}

void t.test('a visitor can add products, change their quantity and remove them', async (t) => {
  const browser = new Browser(await makeExample(t))
  t.same(await cartOf(browser), EMPTY)
  t.equal(sentTo(await add(browser, 'halva')), '303 /shop')
  t.same(messagesIn(await browser.get('/shop', PAGE)), ['success status: Halva was added to your cart.'])
  await add(browser, 'halva')
  await add(browser, 'tahini')
  t.same(await cartOf(browser), ['Tahini 1', 'Halva 2', '€16.10', '3'])
  await submit(browser, '/shop', '/cart/tahini/quantity', { quantity: '12' })
  t.same(await cartOf(browser), ['Tahini 12', 'Halva 2', '€87.60', '14'])
  await submit(browser, '/shop', '/cart/tahini/quantity', { quantity: '0' })
  t.same(messagesIn(await browser.get('/shop', PAGE)), ['success status: Tahini was removed.'])
  t.same(await cartOf(browser), ['Halva 2', '€9.60', '2'])
  await submit(browser, '/shop', '/cart/halva/quantity', { quantity: '0' })
  t.same(await cartOf(browser), EMPTY)
})

void t.test('a wrong quantity or an unknown product changes nothing', async (t) => {
  const browser = new Browser(await makeExample(t))
  await add(browser, 'halva')
  for (const quantity of ['', '-1', '1.5', '100', 'x', '1e1']) {
    await submit(browser, '/shop', '/cart/halva/quantity', { quantity })
    t.same(
      messagesIn(await browser.get('/shop', PAGE)).at(-1),
      'error alert: Please choose a quantity from 0 to 99.'
    )
  }
  for (const id of ['caviar', '__proto__', 'constructor']) {
    t.equal((await add(browser, id)).statusCode, 404)
    const answer = await submit(browser, '/shop', `/cart/${id}/quantity`, { quantity: '1' })
    t.equal(answer.statusCode, 404)
  }
  t.same(await cartOf(browser), ['Halva 1', '€4.80', '1'])
  await submit(browser, '/shop', '/cart/halva/quantity', { quantity: '99' })
  await add(browser, 'halva')
  t.same(await cartOf(browser), ['Halva 99', '€475.20', '99'], 'no more than 99 fit in')
})

void t.test('two products that are added at once are both in the cart', async (t) => {
  const browser = new Browser(await makeExample(t))
  await add(browser, 'oil')
  const { body } = await browser.get('/shop', PAGE)
  const token = /name="_csrf" value="([^"]+)"/.exec(body)?.[1] ?? ''
  const payload = new URLSearchParams({ _csrf: token }).toString()
  const request = { method: 'POST', url: '/cart/oil/add', headers: FORM, payload } as const
  await Promise.all(Array.from({ length: 5 }, () => browser.request(request)))
  t.same((await cartOf(browser)).at(-1), '6')
})

void t.test('a cart that a visitor has filled is still there after the login', async (t) => {
  const browser = new Browser(await makeExample(t))
  await add(browser, 'halva')
  t.match((await browser.get('/shop', PAGE)).body, 'Your cart stays when you <a href="/login">sign in</a>')
  const { cookie } = browser
  t.equal(sentTo(await signIn(browser)), '303 /dashboard')
  t.not(browser.cookie, cookie)
  t.same(await cartOf(browser), ['Halva 1', '€4.80', '1'])
  t.match((await browser.get('/dashboard', PAGE)).body, 'class="count">1<')
})

void t.test('another user of the same browser does not see the cart', async (t) => {
  const app = await makeExample(t)
  const browser = await signedIn(app)
  await add(browser, 'halva')
  // Grace sends a login form that was opened before Ada signed in.
  const payload = 'username=grace&password=hopper'
  await browser.request({ method: 'POST', url: '/login', headers: FORM, payload })
  t.match((await browser.get('/dashboard', PAGE)).body, 'Hello, Grace Hopper.')
  t.same(await cartOf(browser), EMPTY)

  await add(browser, 'oil')
  await submit(browser, '/dashboard', '/logout')
  t.same(await cartOf(browser), EMPTY, 'after a logout')
  await signIn(browser)
  t.same(await cartOf(browser), EMPTY)
})
