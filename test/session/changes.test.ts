import t from 'tap'
import { Changes } from '../../plugin/session/changes.js'
import type { Session } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

interface Cart {
  items: string[]
  nested: { n: number }
}

const makeCart = (...items: string[]): Cart => ({ items, nested: { n: 0 } })
const cartOf = (session: Session, key = 'cart') => session.get(key) as Cart

/** Each case changes values in place. `found` holds the values that a later request must find in the session. */
const IN_PLACE: Record<string, { work: (session: Session) => unknown; found: Record<string, unknown> }> = {
  'saves in-place changes to an object returned by get()': {
    work: (session) => cartOf(session).items.push('b'),
    found: { cart: { items: ['a', 'b'], nested: { n: 0 } } }
  },
  'saves in-place changes to a nested object': {
    work: (session) => (cartOf(session).nested.n = 7),
    found: { cart: { items: ['a'], nested: { n: 7 } } }
  },
  'saves in-place changes to an object returned by get() twice': {
    work(session) {
      cartOf(session).nested.n = 7
      cartOf(session).items.push('b')
    },
    found: { cart: { items: ['a', 'b'], nested: { n: 7 } } }
  },
  'saves in-place changes to an object that was just set': {
    work(session) {
      const cart = makeCart('x')
      session.set('cart', cart)
      cart.items.push('y')
    },
    found: { cart: { items: ['x', 'y'], nested: { n: 0 } } }
  },
  'saves in-place changes to the result of an update(), after the update()': {
    work(session) {
      const cart = makeCart('x')
      session.update('cart', () => cart)
      cart.items.push('y')
    },
    found: { cart: { items: ['x', 'y'], nested: { n: 0 } } }
  },
  'saves in-place changes inside an update() that returns the same object': {
    work: (session) =>
      session.update('cart', (cart) => {
        ;(cart as Cart).items.push('b')
        return cart
      }),
    found: { cart: { items: ['a', 'b'], nested: { n: 0 } } }
  },
  'saves in-place changes to an object before an update() of its key': {
    work(session) {
      cartOf(session).items.push('b')
      session.update('cart', (cart) => ({ ...(cart as Cart), nested: { n: 1 } }))
    },
    found: { cart: { items: ['a', 'b'], nested: { n: 1 } } }
  },
  'saves in-place changes to an object that is also inside another object': {
    work(session) {
      const [cart, other] = [cartOf(session), cartOf(session, 'other')]
      Object.assign(other, { inner: cart })
      cart.items.push('b')
    },
    found: {
      cart: { items: ['a', 'b'], nested: { n: 0 } },
      other: { items: [], nested: { n: 0 }, inner: { items: ['a', 'b'], nested: { n: 0 } } }
    }
  },
  'saves in-place changes to an object stored at two keys': {
    work(session) {
      const cart = cartOf(session)
      session.set('other', cart)
      cart.items.push('b')
    },
    found: {
      cart: { items: ['a', 'b'], nested: { n: 0 } },
      other: { items: ['a', 'b'], nested: { n: 0 } }
    }
  },
  'in-place changes to a removed object do not bring it back': {
    work(session) {
      const cart = cartOf(session)
      session.remove('cart')
      cart.items.push('b')
    },
    found: { cart: undefined }
  },
  'in-place changes to a replaced object do not bring it back': {
    work(session) {
      const cart = cartOf(session)
      session.set('cart', 'replaced')
      cart.items.push('b')
    },
    found: { cart: 'replaced' }
  },
  'in-place changes to an object after clear() do not bring it back': {
    work(session) {
      const cart = cartOf(session)
      session.clear()
      cart.items.push('b')
    },
    found: { cart: undefined, other: undefined }
  }
}

for (const [name, { work, found }] of Object.entries(IN_PLACE)) {
  void t.test(name, async (t) => {
    const { visit } = await makeVisits(t)
    await visit((session) => {
      session.set('cart', makeCart('a'))
      session.set('other', makeCart())
    })
    const { calls, result } = await visit((session) => {
      work(session)
      return session.modified
    })
    t.same(calls, ['get', 'update'])
    t.equal(result, true)
    const wanted: Record<string, unknown> = { cart: makeCart('a'), other: makeCart(), ...found }
    for (const [key, value] of Object.entries(wanted)) {
      t.same((await visit((session) => session.get(key))).result, value, key)
    }
  })
}

const appendTo = (text: string) => (value: unknown) => `${String(value)}${text}`

/**
 * Each case changes the key `k`, whose value was `base`. Before the change is written, another request sets `k` to
 * `newer`.
 */
const OVERTAKEN: Record<string, { work: (session: Session) => unknown; found: unknown }> = {
  'update() runs again on the newer value': { work: (s) => s.update('k', appendTo('1')), found: 'newer1' },
  'two update() calls run again, in order': {
    work: (s) => s.update('k', appendTo('1')) ?? s.update('k', appendTo('2')),
    found: 'newer12'
  },
  'update() after set() runs on the set value': {
    work: (s) => s.set('k', 'own') ?? s.update('k', appendTo('1')),
    found: 'own1'
  },
  'set() after update() wins': {
    work: (s) => s.update('k', appendTo('1')) ?? s.set('k', 'own'),
    found: 'own'
  },
  'update() after remove() starts from undefined': {
    work: (s) => s.remove('k') ?? s.update('k', appendTo('1')),
    found: 'undefined1'
  },
  'remove() after update() wins': {
    work: (s) => s.update('k', appendTo('1')) ?? s.remove('k'),
    found: undefined
  },
  'update() after clear() starts from undefined': {
    work: (s) => s.clear() ?? s.update('k', appendTo('1')),
    found: 'undefined1'
  },
  'update() runs again if the request also sets another key': {
    work: (s) => s.set('other', 1) ?? s.update('k', appendTo('1')),
    found: 'newer1'
  },
  'set() to the loaded value is not a change, so the newer value stays': {
    work: (s) => s.set('k', 'base'),
    found: 'newer'
  },
  'set() to the loaded value is not a change if an update() of another key is retried': {
    work: (s) => s.set('k', 'base') ?? s.update('other', () => 1),
    found: 'newer'
  },
  'set() to the loaded value is a change during a rotation': {
    work: (s) => s.regenerate() ?? s.set('k', 'base'),
    found: 'base'
  },
  'set() to the loaded value is a change during a rotation with a retried update()': {
    work: (s) => s.regenerate() ?? s.set('k', 'base') ?? s.update('other', () => 1),
    found: 'base'
  },
  'a rotation keeps the newer value of a key that it does not set': {
    work: (s) => s.regenerate() ?? s.set('other', 1),
    found: 'newer'
  },
  'update() after set() to the loaded value runs on that value': {
    work: (s) => s.set('k', 'base') ?? s.update('k', appendTo('1')),
    found: 'base1'
  },
  'update() after update() to a Date gets the Date as text': {
    work: (s) => s.update('k', () => new Date(0)) ?? s.update('k', appendTo('!')),
    found: '1970-01-01T00:00:00.000Z!'
  }
}

for (const [name, { work, found }] of Object.entries(OVERTAKEN)) {
  void t.test(`if another request writes first, ${name}`, async (t) => {
    const { visit, browser, app } = await makeVisits(t)
    await visit((session) => session.set('k', 'base'))
    const other = new Browser(app)
    other.cookies.set('session_id', browser.cookies.get('session_id') as string)
    await visit(async (session) => {
      session.get('k')
      await visit((overtaking) => overtaking.set('k', 'newer'), other)
      work(session)
    })
    t.equal((await visit((session) => session.get('k'))).result, found)
  })
}

const FAILING_UPDATES: Record<string, (cart: Cart) => unknown> = {
  'that throws'(cart) {
    cart.items.push('half')
    throw new Error('no')
  },
  'whose result is not JSON'(cart) {
    cart.items.push('half')
    return { ...cart, total: 1n }
  },
  'that creates a cycle and throws'(cart) {
    Object.assign(cart, { cart })
    throw new Error('no')
  }
}

for (const [name, fail] of Object.entries(FAILING_UPDATES)) {
  void t.test(`an update() ${name} changes nothing and does not undo another request's change`, async (t) => {
    const { visit, browser, app } = await makeVisits(t)
    await visit((session) => session.set('cart', makeCart('a')))
    const other = new Browser(app)
    other.cookies.set('session_id', browser.cookies.get('session_id') as string)
    const { result } = await visit(async (session) => {
      cartOf(session).nested.n = 7
      t.throws(() => session.update('cart', (cart) => fail(cart as Cart)))
      t.same(session.get('cart'), { items: ['a'], nested: { n: 7 } }, 'earlier changes stay')
      return session.modified
    })
    t.equal(result, true)
    await visit(async (session) => {
      await visit((overtaking) => overtaking.update('cart', () => makeCart('b')), other)
      t.throws(() => session.update('cart', (cart) => fail(cart as Cart)))
    })
    t.same((await visit((session) => session.get('cart'))).result, makeCart('b'))
  })
}

void t.test('in-place changes are saved even if an earlier update() threw an error', async (t) => {
  const { visit } = await makeVisits(t)
  await visit((session) => session.set('cart', makeCart('a')))
  await visit((session) => {
    const cart = cartOf(session)
    t.throws(() =>
      session.update('cart', () => {
        throw new Error('no')
      })
    )
    cart.items.push('b')
  })
  t.same((await visit((session) => session.get('cart'))).result, makeCart('a', 'b'))
})

void t.test('an update() is refused with 409 if its retry loads a malformed record', async (t) => {
  const { attempt, visit, memory } = await makeVisits(t)
  await visit((session) => session.set('k', 'base'))
  const { response, calls } = await attempt((session) => {
    session.update('k', appendTo('1'))
    memory.update = () => 'conflict'
    memory.get = () => ({ version: 2 }) as never
  })
  t.match(response.json(), { statusCode: 409, code: 'SESSION_GONE' })
  t.same(calls, ['get', 'update', 'get'])
})

void t.test('rebase() keeps the changed keys and takes all other keys from the newer data', async (t) => {
  const changes = new Changes({ id: 'id' }, () => undefined, { a: '1', b: '1', c: '1', d: '1' })
  changes.set('a', 2)
  changes.set('b', 1)
  changes.remove('c')
  changes.update('d', (n) => Number(n) + 1)
  changes.rebase({ a: '5', b: '5', c: '5', d: '5', e: '5' })
  t.same(changes.keys(), ['a', 'b', 'd', 'e'])
  const difference = changes.difference()
  t.same({ ...difference?.set }, { a: '2', d: '6' })
  t.match(difference, { remove: ['c'], clear: false, versioned: true })
  changes.rebase({ a: '2', d: '7' })
  t.same({ ...changes.difference()?.set }, { d: '8' })
})

void t.test(
  'rebase() after clear() also clears the newer data, but keeps values that were set after the clear()',
  async (t) => {
    const changes = new Changes({ id: 'id' }, () => undefined, { a: '1', b: '1' })
    changes.clear()
    changes.set('a', 1)
    changes.rebase({ a: '1', b: '2', c: '3' })
    t.same(changes.keys(), ['a'])
    t.same({ ...changes.difference()?.set }, { a: '1' })
    t.match(changes.difference(), { remove: [], clear: true, versioned: false })
  }
)

void t.test('after a rebase(), unchanged keys have the values of the newer data', async (t) => {
  const changes = new Changes({ id: 'id' }, () => undefined, { a: '{"n":1}' })
  t.same(changes.value('a'), { n: 1 })
  changes.rebase({ a: '{"n":2}' })
  t.same(changes.value('a'), { n: 2 })
  t.equal(changes.difference(), undefined)
  t.equal(changes.mutatedAfterCommit(), false)
})

/** A simple model of a session. The test compares real sessions with this model. */
interface Model {
  data: Map<string, string[]>
  flash: string | undefined
  /** Whether the store still has the session. */
  isStored: boolean
  isEnded: boolean
  isRotated: boolean
}

type Operation = (session: Session, model: Model, mark: string) => void

function forget(model: Model): void {
  model.data = new Map()
  model.flash = undefined
}

const listOf = (value: unknown) => (value ?? []) as string[]

/**
 * Each function applies one operation to both the session and the model. `mark` is the string that the operation
 * writes. Each step of a sequence has a different `mark`.
 */
const OPERATIONS: Record<string, Operation> = {
  set(session, model, mark) {
    session.set('k', [mark])
    model.data.set('k', [mark])
  },
  update(session, model, mark) {
    session.update('k', (value) => [...listOf(value), mark])
    model.data.set('k', [...listOf(model.data.get('k')), mark])
  },
  remove(session, model) {
    session.remove('k')
    model.data.delete('k')
  },
  clear(session, model) {
    session.clear()
    forget(model)
  },
  regenerate(session, model) {
    session.regenerate()
    model.isRotated = model.isStored
  },
  invalidate(session, model) {
    session.invalidate()
    forget(model)
    model.isEnded ||= model.isStored
    model.isStored = model.isRotated = false
  },
  setFlash(session, model, mark) {
    session.setFlash('k', mark)
    model.flash = mark
  },
  getFlash(session, model) {
    const message = session.getFlash('k')
    if (message !== model.flash) throw new Error(`the message was ${JSON.stringify(message)}`)
    model.flash = undefined
  },
  inPlace(session, model, mark) {
    listOf(session.get('k')).push(mark)
    model.data.get('k')?.push(mark)
  }
}

/** Sorts the entries of an object by key, because the order of the keys is not guaranteed. */
const sorted = (data: object) => Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))
const shown = (session: Session) => ({ data: sorted(valuesOf(session)), flash: session.peekFlash('k') })
const shownOf = ({ data, flash }: Model) => ({ data: sorted(Object.fromEntries(data)), flash })

/**
 * Returns the store writes that a sequence of operations must cause. There is at most one write, unless a new session
 * replaces an ended session. Replacing it takes two writes: a destroy and a create. A flash message alone needs no
 * session, because it is in the visitor cookie.
 */
function writesOf(model: Model, before: string): string[] {
  const hasData = model.data.size > 0
  if (model.isEnded) return hasData ? ['destroy', 'create'] : ['destroy']
  if (!model.isStored) return hasData ? ['create'] : []
  return model.isRotated || JSON.stringify(shownOf(model)) !== before ? ['update'] : []
}

const names = Object.keys(OPERATIONS)
const pairs = names.flatMap((a) => names.map((b) => [a, b]))
const triples = pairs.flatMap((pair) => names.map((name) => [...pair, name]))

for (const isStored of [true, false]) {
  const visitor = isStored ? 'a session with data and a flash message' : 'a visitor without a session'
  void t.test(
    `for ${visitor}, every sequence of up to three operations gives the result that the model predicts`,
    async (t) => {
      const { visit, app, memory, browser: first } = await makeVisits(t)
      let failures = 0
      for (const sequence of [...names.map((name) => [name]), ...pairs, ...triples]) {
        const browser = new Browser(app)
        const model: Model = { data: new Map(), flash: undefined, isStored, isEnded: false, isRotated: false }
        if (isStored) {
          await visit((session) => {
            session.set('k', ['base'])
            session.set('other', ['kept'])
            session.setFlash('k', 'base')
          }, browser)
          model.data = new Map([
            ['k', ['base']],
            ['other', ['kept']]
          ])
          model.flash = 'base'
        }
        const before = JSON.stringify(shownOf(model))
        const { calls, result: id } = await visit((session) => {
          for (const [step, name] of sequence.entries()) {
            OPERATIONS[name]?.(session, model, `${step}`)
            if (JSON.stringify(shown(session)) !== JSON.stringify(shownOf(model)))
              throw new Error(`${sequence.join(', ')}: wrong within the request`)
          }
          return session.id
        }, browser)
        const writes = calls.filter((call) => call !== 'get')
        const later = (await visit((session) => ({ shown: shown(session), id: session.id }), browser)).result
        const isKept = writes.includes('create') || (isStored && !writes.includes('destroy'))
        const wanted = [shownOf(model), writesOf(model, before), isKept]
        const found = [later.shown, writes, later.id === id]
        if (JSON.stringify(found) === JSON.stringify(wanted)) continue
        failures++
        t.same(found, wanted, sequence.join(', '))
      }
      t.equal(failures, 0)
      t.ok(memory.size > 0 && first.cookies.size === 0)
    }
  )
}
