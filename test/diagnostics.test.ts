import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import { channels, MemoryStore, type SessionOptions } from '../plugin/index.js'
import { contextOf, addRoutes, Browser, makeApp } from './fixtures/app.js'
import { stopClock, type Clock } from './fixtures/clock.js'
import { listen } from './fixtures/diagnostics.js'
import { wrap } from './fixtures/stores.js'
import { oldFastify } from './migrate/fixtures/old-apps.js'
import { idOfToken } from '../plugin/cookies/tokens.js'

type Channel = keyof typeof channels

interface Stage {
  readonly browser: Browser
  readonly memory: MemoryStore
  readonly clock: Clock
  /** Returns the id of the browser's session. */
  id(): string
}

interface Scenario {
  readonly options?: Partial<SessionOptions>
  /** Prepares the scenario before the test subscribes to the channel. */
  readonly before?: (stage: Stage) => Promise<unknown>
  /** Makes the plugin publish messages, and returns the messages that the test expects. */
  readonly work: (stage: Stage) => Promise<unknown[]>
}

/** Stands for the id of the request in expected messages. */
const requestId = 'the id of the request'

async function signIn({ browser, id }: Stage): Promise<string> {
  await browser.get('/set?name=ada&userId=7')
  return id()
}

const failingCreate = wrap(new MemoryStore(), (method, _args, next) => {
  if (method === 'create') throw new Error('no answer')
  return next()
})

const OLD = oldFastify()

/** Scenarios that publish messages. Each channel has at least one scenario. */
const SCENARIOS: Record<Channel, Record<string, Scenario>> = {
  created: {
    'a first change': { work: async (stage) => [{ id: await signIn(stage), userId: '7', requestId }] },
    'a first change by an anonymous visitor': {
      async work({ browser, id }) {
        await browser.get('/set?name=ada')
        return [{ id: id(), userId: null, requestId }]
      }
    }
  },
  migrated: {
    'a cookie of another library': {
      options: { migrateFrom: OLD.predecessor() },
      async work({ browser, id }) {
        browser.cookies.set(...((await OLD.signIn({ userId: '7' })).split('=') as [string, string]))
        await browser.get('/read')
        return [{ id: id(), userId: '7', cookieName: 'sessionId', requestId }]
      }
    }
  },
  loaded: {
    'a cookie of a live session': {
      before: signIn,
      async work({ browser, id }) {
        await browser.get('/read')
        return [{ id: id(), userId: '7', requestId }]
      }
    }
  },
  saved: {
    'a change': {
      before: signIn,
      async work({ browser, id }) {
        await browser.get('/set?color=red')
        return [{ id: id(), requestId }]
      }
    },
    'a touch': {
      options: { idleTimeout: 100 },
      before: signIn,
      async work({ browser, id, clock }) {
        clock.move(50_000)
        await browser.get('/read')
        return [{ id: id(), requestId }]
      }
    },
    'a rotation': {
      before: signIn,
      async work({ browser, id }) {
        await browser.get('/login')
        return [{ id: id(), requestId }]
      }
    }
  },
  rotated: {
    'a login': {
      before: signIn,
      async work({ browser, id }) {
        const previousId = id()
        await browser.get('/login')
        return [{ id: id(), previousId, requestId }]
      }
    }
  },
  destroyed: {
    'a logout': {
      before: signIn,
      async work({ browser, id }) {
        const ended = id()
        await browser.get('/logout')
        return [{ id: ended, reason: 'invalidated', requestId }]
      }
    },
    'revoke()': {
      before: signIn,
      async work({ browser, id }) {
        const { sessionManager } = browser.app
        await sessionManager.revoke(id())
        await sessionManager.revoke(id())
        return [{ id: id(), reason: 'revoked' }]
      }
    },
    'revokeAll()': {
      before: signIn,
      async work({ browser: { app }, id }) {
        const other = new Browser(app)
        await other.get('/set?userId=7')
        const kept = idOf(other)
        await app.sessionManager.revokeAll(7, { except: kept })
        await app.sessionManager.revokeAll(7, { except: kept })
        return [{ id: id(), reason: 'revoked' }]
      }
    },
    maxSessionsPerUser: {
      options: { maxSessionsPerUser: 1 },
      before: signIn,
      async work({ browser: { app }, id }) {
        await new Browser(app).get('/set?userId=7')
        return [{ id: id(), reason: 'limit', requestId }]
      }
    }
  },
  expired: {
    'a cookie of an expired session': {
      before: signIn,
      async work({ browser, id, clock }) {
        clock.move(86_400_000)
        await browser.get('/read')
        return [{ id: id(), requestId }]
      }
    },
    'a sweep': {
      before: signIn,
      async work({ browser: { app }, clock }) {
        await app.sessionManager.cleanup()
        clock.move(86_400_000)
        await app.sessionManager.cleanup()
        return [{ count: 1 }]
      }
    }
  },
  gone: {
    'a change after the session ended': {
      before: signIn,
      async work({ browser, id }) {
        await browser.get('/ended-first/set')
        return [{ id: id(), requestId }]
      }
    },
    'a logout after the session ended': {
      before: signIn,
      async work({ browser, id }) {
        await browser.get('/ended-first/invalidate')
        return [{ id: id(), requestId }]
      }
    }
  },
  conflict: {
    'an update() that raced another request': {
      before: signIn,
      async work({ browser, id }) {
        await browser.get('/overtaken')
        return [{ id: id(), attempt: 1, requestId }]
      }
    }
  },
  evicted: {
    'a session beyond maxSessions': {
      options: { store: new MemoryStore({ maxSessions: 1 }) },
      before: signIn,
      async work({ browser, id }) {
        await new Browser(browser.app).get('/set?name=eve')
        return [{ id: id() }]
      }
    }
  },
  malformedCookie: {
    'a cookie with a wrong signature': {
      async work({ browser }) {
        browser.cookies.set('session_id', `${'0'.repeat(64)}.${'A'.repeat(43)}`)
        await browser.get('/read')
        return [{ reason: 'signature' }]
      }
    }
  },
  invalidRecord: {
    'a malformed record': {
      before: signIn,
      async work({ browser, memory, id }) {
        memory.get = () => ({ data: {} }) as never
        await browser.get('/read')
        return [{ id: id(), reason: 'shape' }]
      }
    },
    'a value that is not JSON': {
      before: signIn,
      async work({ browser, memory, id, clock }) {
        const times = { lastAccessed: clock.start, expiresAt: clock.start + 1000 }
        memory.update(id(), { set: { name: '{' }, remove: [], ...times })
        await browser.get('/read')
        return [{ id: id(), key: 'name', reason: 'json' }]
      }
    }
  },
  csrfRefused: {
    'a foreign origin': {
      async work({ browser }) {
        await browser.request({
          method: 'POST',
          url: '/change?secret=1',
          headers: { origin: 'https://evil.test' }
        })
        return [{ reason: 'origin', method: 'POST', url: '/change' }]
      }
    },
    'a missing token': {
      async work({ browser }) {
        await browser.request({ method: 'POST', url: '/change?secret=1' })
        return [{ reason: 'token-missing', method: 'POST', url: '/change' }]
      }
    }
  },
  storeFailure: {
    'a store that throws': {
      options: { store: failingCreate },
      async work({ browser }) {
        await browser.get('/set?name=ada')
        return [{ operation: 'create', error: new Error('no answer') }]
      }
    }
  }
}

async function makeStage(t: Test, { options = {} }: Scenario): Promise<Stage> {
  const clock = stopClock(t)
  const memory = new MemoryStore()
  const app = addRoutes(await makeApp(t, { store: memory, cleanupInterval: 0, ...options }))
  app.post('/change', { preHandler: app.csrfProtection }, async () => 'changed')
  app.get('/ended-first/:change', async ({ session, params }) => {
    await contextOf(app).options.store.destroy(session.id)
    if ((params as { change: string }).change === 'set') session.set('name', 'late')
    else session.invalidate()
    return 'late'
  })
  app.get('/overtaken', async ({ session, headers: { cookie = '' } }) => {
    await app.inject({ url: '/add', headers: { cookie } })
    session.update('count', (count) => Number(count ?? 0) + 1)
    return 'overtaken'
  })
  const browser = new Browser(app)
  const id = () => idOf(browser)
  return { browser, memory, clock, id }
}

function idOf({ cookies }: Browser): string {
  return idOfToken(cookies.get('session_id')?.split('.')[0] ?? '')
}

/** Replaces the id of a Fastify request, such as `req-1`. */
function withoutRequestId(message: unknown): unknown {
  const { requestId: given } = message as { requestId?: string }
  return given?.startsWith('req-') === true ? { ...(message as object), requestId } : message
}

for (const [key, scenarios] of Object.entries(SCENARIOS)) {
  const { name } = channels[key as Channel]
  for (const [cause, scenario] of Object.entries(scenarios)) {
    void t.test(`${cause} publishes a message on ${String(name)}`, async (t) => {
      const stage = await makeStage(t, scenario)
      await scenario.before?.(stage)
      const messages = listen(t, String(name).slice('fastify-sesame:'.length))
      const tokens = [...stage.browser.cookies.values()]
      const expected = await scenario.work(stage)
      t.same(messages.map(withoutRequestId), expected)
      tokens.push(...stage.browser.cookies.values())
      for (const value of tokens) t.notMatch(inspect(messages), value.split('.')[0])
    })

    void t.test(`${cause} publishes nothing if nobody subscribes to ${String(name)}`, async (t) => {
      const published: unknown[] = []
      for (const channel of Object.values(channels)) {
        channel.publish = (message: unknown) => void published.push(message)
        t.teardown(() => Reflect.deleteProperty(channel, 'publish'))
      }
      const stage = await makeStage(t, scenario)
      await scenario.before?.(stage)
      await scenario.work(stage)
      t.same(published, [])
    })
  }
}

void t.test('the name of every channel is derived from its key in `channels`', async (t) => {
  t.same(Object.keys(SCENARIOS).sort(), Object.keys(channels).sort())
  for (const [key, { name }] of Object.entries(channels)) {
    t.equal(name, `fastify-sesame:${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`)
  }
})
