import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import { Browser, makeLoggedApp, setCookieOf } from '../fixtures/app.js'

/** Sends a request to `host`, and returns the Domain attribute of the session cookie and the log lines. */
async function ask(
  t: Test,
  host: string,
  answer: unknown
): Promise<{ domain: string | undefined; lines: string[] }> {
  const { app, lines } = await makeLoggedApp(t, {
    cookie: { secure: 'auto', domain: () => answer as string }
  })
  const cookie = setCookieOf(await app.inject({ url: '/set?name=ada', headers: { host } }))
  return { domain: /Domain=([^;]+)/.exec(String(cookie))?.[1], lines }
}

void t.test('cookie.domain can be a function of the request’s host and headers', async (t) => {
  const seen: unknown[] = []
  const { app, lines } = await makeLoggedApp(t, {
    cookie: {
      secure: 'auto',
      domain(request) {
        seen.push([Object.keys(request), request.hostname, request.headers['x-tenant']])
        return request.hostname.replace('www.', '')
      }
    }
  })
  const browser = new Browser(app)
  for (const host of ['www.a.test:3000', 'www.b.test'])
    t.match(
      setCookieOf(await browser.get('/login', { host, 'x-tenant': host })),
      `Domain=${host.slice(4, 10)};`
    )
  t.same(seen, [
    [['hostname', 'headers'], 'www.a.test', 'www.a.test:3000'],
    [['hostname', 'headers'], 'www.b.test', 'www.b.test']
  ])
  t.same(lines, [])
})

void t.test(
  'a function for cookie.domain is called once for each cookie that is set or cleared',
  async (t) => {
    let calls = 0
    const { app } = await makeLoggedApp(t, { cookie: { secure: 'auto', domain: () => (calls++, 'a.test') } })
    const browser = new Browser(app)
    for (const [url, expected] of [
      ['/empty', 0],
      ['/read', 0],
      ['/set?name=ada', 1],
      ['/read', 0],
      ['/set?name=eve', 0],
      ['/logout', 1]
    ] as const) {
      calls = 0
      const response = await browser.get(url, { host: 'a.test' })
      t.equal(calls, expected, url)
      if (expected === 1) t.match(setCookieOf(response), /; Domain=a\.test;/, url)
    }
  }
)

void t.test('a returned domain is accepted if it is the host or a parent domain of it', async (t) => {
  for (const [host, answer] of [
    ['a.test', 'a.test'],
    ['a.test:8080', 'a.test'],
    ['x.y.a.test', 'a.test'],
    ['x.y.a.test', 'y.a.test'],
    ['x.a.test', '.a.test'],
    ['X.A.Test', 'a.TEST']
  ] as const)
    t.same(await ask(t, host, answer), { domain: answer, lines: [] }, `${answer} for ${host}`)
  t.same(await ask(t, 'a.test', undefined), { domain: undefined, lines: [] })
})

void t.test(
  'a returned domain that browsers refuse is not sent, and the warning names the host and the domain',
  async (t) => {
    for (const [host, answer] of [
      ['a.test', 'b.test'],
      ['a.test', 'x.a.test'],
      ['xa.test', 'a.test'],
      ['a.test', 'test'],
      ['a.test', '.test'],
      ['localhost', 'localhost'],
      ['10.1.2.3', '10.1.2.3'],
      ['10.1.2.3', '2.3'],
      ['[::1]', '[::1]'],
      ['a.test', ''],
      ['a.test', '.'],
      ['a.test', '..a.test'],
      ['a.test', 'a.test.'],
      ['a.test', 'a.test; Path=/x'],
      ['a.test', null],
      ['a.test', 5],
      ['a.test', ['a.test']],
      ['a.test', Promise.resolve('a.test')]
    ] as const) {
      const { domain, lines } = await ask(t, host, answer)
      const what = `${inspect(answer)} for ${host}`
      t.equal(domain, undefined, what)
      t.equal(lines.length, 1, what)
      const { level, msg } = JSON.parse(lines[0] as string) as { level: number; msg: string }
      t.equal(level, 40)
      t.ok(msg.includes(`for the host '${host}'`), msg)
      if (typeof answer === 'string') t.ok(msg.includes(`returned '${answer}'`), msg)
    }
  }
)

void t.test('refused domains cause only one warning, and the session still works', async (t) => {
  const { app, lines } = await makeLoggedApp(t, { cookie: { secure: 'auto', domain: () => 'b.test' } })
  for (const host of ['a.test', 'c.test', 'b.test']) {
    const browser = new Browser(app)
    await browser.get('/set?name=ada', { host })
    t.same((await browser.get('/read', { host })).json(), { name: 'ada' })
  }
  t.equal(lines.length, 1)
})

void t.test('an error that a function for cookie.domain throws fails the request', async (t) => {
  const domain = (): string => {
    throw new Error('no tenant')
  }
  const { app, lines } = await makeLoggedApp(t, { cookie: { secure: 'auto', domain } })
  t.match((await app.inject('/set?name=ada')).json(), { statusCode: 500, message: 'no tenant' })
  t.match(lines.join(''), '"msg":"no tenant"')
  t.equal((await app.inject('/read')).statusCode, 200)
})
