import { inspect } from 'node:util'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { MemoryStore, type Session, type SessionOptions } from '../../plugin/index.js'
import { Browser, makeApp } from '../fixtures/app.js'
import { idOfCookie } from '../fixtures/cookies.js'
import { failingStore, slowStore } from '../fixtures/stores.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

// These tests cover the members that the sessions of @fastify/session, express-session and @fastify/secure-session have.
// Each works, or throws an error that says what to use instead.

const BOTH: Record<string, Partial<SessionOptions>> = {
  'without `properties`': {},
  'with `properties`': { properties: true }
}

/** Creates an app with a session of ada that has a cart. */
async function signedIn(t: Test, options: Partial<SessionOptions>) {
  const made = await makeVisits(t, options)
  await made.visit((session) => {
    session.login('ada')
    session.set('cart', ['tea'])
    session.setFlash('note', 'hello')
  })
  return made
}

const ENDS: Record<string, (session: Session) => unknown> = {
  'await destroy()': async (session) => {
    await session.destroy()
  },
  'destroy(callback)': (session) =>
    new Promise<void>((resolve, reject) =>
      session.destroy((error) =>
        error === undefined ? resolve() : reject(new Error('destroy', { cause: error }))
      )
    ),
  'delete()': (session) => session.delete()
}

for (const [when, options] of Object.entries(BOTH)) {
  for (const [name, end] of Object.entries(ENDS)) {
    void t.test(`${name} ends the session, also on a 5xx (${when})`, async (t) => {
      for (const fails of [false, true]) {
        const { attempt, memory, browser } = await signedIn(t, options)
        const { response, calls, cookies } = await attempt(async (session) => {
          await end(session)
          if (fails) throw new Error('the handler failed')
        })
        t.same([response.statusCode, calls, memory.size], [fails ? 500 : 200, ['get', 'destroy'], 0])
        t.match(cookies, [/^session_id=; Max-Age=0/])
        t.equal(browser.cookies.size, 0)
      }
    })
  }

  void t.test(
    `regenerate(callback) leaves an empty, anonymous session with a new id (${when})`,
    async (t) => {
      const { app, visit, memory, browser } = await signedIn(t, options)
      const before = browser.cookies.get('session_id') as string
      const { result, calls } = await visit((session) => {
        const seen: unknown[][] = []
        session.regenerate((...args) => {
          seen.push(args, session.keys())
          session.set('theme', 'dark')
        })
        return [seen, valuesOf(session), session.authenticatedAt]
      })
      t.same(result, [[[], []], { theme: 'dark' }, undefined])
      t.same([calls, memory.size], [['get', 'update'], 1])
      t.not(browser.cookies.get('session_id'), before)
      t.match(memory.get(idOfCookie(browser.cookie)), { userId: null, data: { theme: '"dark"' } })
      const old = new Browser(app)
      old.cookies.set('session_id', before)
      t.same((await visit(valuesOf, old)).result, {}, 'the old id is dead')
    }
  )

  void t.test(`regenerate(keep, callback) and regenerate(keep) keep the named keys (${when})`, async (t) => {
    for (const withCallback of [true, false]) {
      const { visit } = await signedIn(t, options)
      const { result } = await visit(async (session) => {
        const id = session.id
        let calls = 0
        if (withCallback)
          session.regenerate(['cart'], () => {
            calls++
          })
        // eslint-disable-next-line @typescript-eslint/await-thenable -- as code for @fastify/session does
        else await session.regenerate(['cart'])
        return [calls, id === session.id]
      })
      t.same(result, [withCallback ? 1 : 0, false])
      t.same((await visit(valuesOf)).result, { cart: ['tea'] })
    }
  })

  void t.test(
    `sessionId, isModified() and isSaved() say what id, modified and isNew say (${when})`,
    async (t) => {
      const { visit, browser } = await makeVisits(t, options)
      const seen = ({ sessionId, id }: Session, session: Session) => {
        t.equal(sessionId, id)
        return [session.isModified(), session.isSaved()]
      }
      const made = await visit(async (session) => {
        const states = [seen(session, session)]
        session.set('name', 'ada')
        states.push(seen(session, session))
        await session.save()
        return [...states, seen(session, session), session.sessionId]
      })
      t.same(made.result, [[false, false], [true, false], [false, true], idOfCookie(browser.cookie)])
      const loaded = await visit((session) => {
        const before = seen(session, session)
        session.set('name', 'eve')
        return [before, seen(session, session)]
      })
      t.same(loaded.result, [
        [false, true],
        [true, false]
      ])
    }
  )
}

void t.test(
  'the login of the docs of express-session works, and its reply waits for the store',
  async (t) => {
    const memory = new MemoryStore()
    const app = await makeApp(t, { store: slowStore(memory), properties: true, userKey: 'user' })
    app.get('/visit', async ({ session }) => session.set('cart', ['tea']))
    app.get('/login', (request: FastifyRequest, reply: FastifyReply) => {
      request.session.regenerate((error) => {
        if (error !== undefined) return void reply.send(error)
        Reflect.set(request.session, 'user', 'ada')
        request.session.save((error) => {
          if (error !== undefined) return void reply.send(error)
          void reply.send({ size: memory.size, user: memory.get(request.session.id)?.userId })
        })
      })
    })
    app.get('/logout', (request: FastifyRequest, reply: FastifyReply) => {
      request.session.destroy((error) => void reply.send(error ?? 'bye'))
    })
    app.get('/read', async ({ session }) => valuesOf(session))
    const browser = new Browser(app)
    await browser.get('/visit')
    t.same((await browser.get('/login')).json(), { size: 1, user: 'ada' })
    t.same((await browser.get('/read')).json(), { user: 'ada' })
    t.equal((await browser.get('/logout')).body, 'bye')
    t.same([memory.size, browser.cookies.size], [0, 0])
  }
)

/** The methods that take a callback, each with a use that must fail on a readonly route. */
const WITH_CALLBACK: Record<string, (session: Session, callback?: (error?: unknown) => void) => unknown> = {
  destroy: (session, callback) => session.destroy(callback as () => void),
  regenerate: (session, callback) => session.regenerate(callback as () => void),
  'regenerate(keep)': (session, callback) => session.regenerate(['cart'], callback)
}

for (const [name, use] of Object.entries(WITH_CALLBACK)) {
  void t.test(`an error of ${name} goes to the callback, and without one it is thrown at once`, async (t) => {
    const { visit, browser } = await signedIn(t, {})
    await visit(
      (session) => {
        const errors: unknown[][] = []
        t.doesNotThrow(() => use(session, (...args) => errors.push(args)))
        t.match(errors, [[{ code: 'SESSION_READONLY' }]])
        t.equal(errors.length, 1)
        t.throws(() => use(session), { code: 'SESSION_READONLY' })
      },
      browser,
      'readonly'
    )
    await visit(async (session) => {
      await session.save()
      t.throws(() => use(session), { code: 'SESSION_COMMITTED' })
    })
    const { response } = await (
      await signedIn(t, {})
    ).attempt((session) =>
      use(session, () => {
        throw Object.assign(new Error('of the callback'), { statusCode: 418 })
      })
    )
    t.equal(response.statusCode, 418, 'an error of the callback itself is thrown, and calls it only once')
  })
}

void t.test('a wrong argument throws at once, no callback runs, and nothing changes', async (t) => {
  const { visit } = await signedIn(t, {})
  const fails = (): never => t.fail('the callback ran') as never
  const { calls } = await visit((session) => {
    const error = (option: string) => ({ code: 'SESSION_OPTION_INVALID', option })
    for (const wrong of [null, true, 'userId', 1, {}, [1], new Set(['userId'])]) {
      t.throws(() => session.regenerate(wrong as string[], fails), error('regenerate.keep'))
      t.throws(() => session.regenerate(wrong as string[]), error('regenerate.keep'))
    }
    for (const wrong of [null, true, 'cart', 1, {}, ['cart']] as unknown as (() => void)[]) {
      t.throws(() => session.regenerate(['cart'], wrong), error('regenerate.callback'))
      t.throws(() => session.destroy(wrong), error('destroy.callback'))
      t.throws(() => session.save(wrong), error('save.callback'))
    }
    t.same([session.modified, session.get('userId')], [false, 'ada'])
  })
  t.same(calls, ['get'])
})

void t.test('delete(key) throws and names remove(key), because delete() ends the session', async (t) => {
  for (const options of Object.values(BOTH)) {
    const { visit } = await signedIn(t, options)
    await visit((session) => {
      for (const key of ['cart', undefined]) {
        t.throws(() => Reflect.apply(session.delete, session, [key]) as unknown, {
          code: 'SESSION_PROPERTY_UNKNOWN',
          message: /use session\.remove\(key\)/
        })
      }
    })
    t.match((await visit(valuesOf)).result, { userId: 'ada', cart: ['tea'] })
  }
})

void t.test('save(callback) calls back after the write, with the error if there is one', async (t) => {
  const seen: unknown[] = []
  const memory = new MemoryStore()
  const saved = (session: Session) =>
    new Promise<void>((resolve) =>
      session.save((...args) => {
        seen.push(args, memory.size)
        resolve()
      })
    )
  const { visit } = await makeVisits(t, { store: slowStore(memory) })
  await visit((session) => {
    session.set('name', 'ada')
    const pending = saved(session)
    seen.push(memory.size)
    return pending
  })
  t.same(seen.splice(0), [0, [], 1])
  const broken = await makeVisits(t, { store: failingStore((method) => method === 'create', memory) })
  await broken.visit((session) => {
    session.set('name', 'ada')
    return saved(session)
  })
  t.match(seen, [[{ code: 'SESSION_STORE_UNAVAILABLE' }], 1])
})

/** The properties that only the sessions of other libraries have, each with the replacement that the error names. */
const REPLACED: Record<string, RegExp> = {
  changed: /session\.modified/,
  cookie: /session\.expiresAt .* login\(userId, \{ maxAge \}\) .* options maxAge and cookie/,
  deleted: /session\.isNew/,
  encryptedSessionId: /session\.id/,
  options: /login\(userId, \{ maxAge \}\) .* options maxAge and cookie/,
  reload: /session\.rollback\(\) .* update\(key, fn\)/,
  touch: /idleTimeout/
}

for (const [when, options] of Object.entries(BOTH)) {
  void t.test(`what does not exist here throws on reading and assigning (${when})`, async (t) => {
    const { visit } = await makeVisits(t, options)
    const { calls } = await visit((session) => {
      const error = { name: 'SessionUsageError', code: 'SESSION_PROPERTY_UNKNOWN' }
      for (const [name, message] of Object.entries(REPLACED)) {
        t.throws(() => Reflect.get(session, name) as unknown, { ...error, message }, name)
        // With the option, the name could be meant as data.
        const assigned = when.startsWith('with ') ? /name is reserved/ : message
        t.throws(() => Reflect.set(session, name, 1), { ...error, message: assigned }, name)
        t.notOk(name in session, `a test for ${name} does not throw`)
      }
      t.throws(() => ((session as unknown as Cookies).cookie.maxAge = 1), error)
      t.throws(() => (session as unknown as Cookies).options({ maxAge: 1 }), error)
    })
    t.same(calls, [])
  })

  void t.test(`what frameworks and log serializers look for never throws (${when})`, async (t) => {
    const { visit } = await makeVisits(t, options)
    await visit(async (session) => {
      for (const name of ['then', 'toJSON', 'data', 'user', 'nodeType', Symbol.iterator, inspect.custom])
        t.equal(Reflect.get(session, name), undefined, String(name))
      t.equal(await Promise.resolve(session), session)
      t.equal(JSON.stringify({ session }), '{"session":{}}')
      t.notMatch(inspect(session, { depth: 5, showHidden: true, getters: true }), /threw|Error/)
      t.same(Object.entries(session), [])
    })
  })
}

interface Cookies {
  cookie: { maxAge: number }
  options(options: object): void
}
