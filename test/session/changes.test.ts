import t from 'tap'
import { Draft } from '../../plugin/session/changes.js'
import type { Session } from '../../plugin/index.js'
import { Browser } from '../fixtures/app.js'
import { makeVisits, valuesOf } from '../fixtures/visits.js'

/** An object that a test changes in place. */
interface Cart {
  items: string[]
  nested: { n: number }
}

const makeCart = (...items: string[]): Cart => ({ items, nested: { n: 0 } })
const cartOf = (session: Session, key = 'cart') => session.get(key) as Cart

/** Changes without a `set`, and what the next request then finds. */
const IN_PLACE: Record<string, { work: (session: Session) => unknown; found: Record<string, unknown> }> = {
  'an object that get handed out': {
    work: (session) => cartOf(session).items.push('b'),
    found: { cart: { items: ['a', 'b'], nested: { n: 0 } } }
  },
  'one deep inside it': {
    work: (session) => (cartOf(session).nested.n = 7),
    found: { cart: { items: ['a'], nested: { n: 7 } } }
  },
  'one that was handed out twice': {
    work(session) {
      cartOf(session).nested.n = 7
      cartOf(session).items.push('b')
    },
    found: { cart: { items: ['a', 'b'], nested: { n: 7 } } }
  },
  'one that was just set': {
    work(session) {
      const cart = makeCart('x')
      session.set('cart', cart)
      cart.items.push('y')
    },
    found: { cart: { items: ['x', 'y'], nested: { n: 0 } } }
  },
  'what an update was given, after it': {
    work(session) {
      const cart = makeCart('x')
      session.update('cart', () => cart)
      cart.items.push('y')
    },
    found: { cart: { items: ['x', 'y'], nested: { n: 0 } } }
  },
  'what an update changed and returned': {
    work: (session) =>
      session.update('cart', (cart) => {
        ;(cart as Cart).items.push('b')
        return cart
      }),
    found: { cart: { items: ['a', 'b'], nested: { n: 0 } } }
  },
  'one before an update of it': {
    work(session) {
      cartOf(session).items.push('b')
      session.update('cart', (cart) => ({ ...(cart as Cart), nested: { n: 1 } }))
    },
    found: { cart: { items: ['a', 'b'], nested: { n: 1 } } }
  },
  'one inside another that is changed too': {
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
  'one at two keys': {
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
  'one that was removed from the session since': {
    work(session) {
      const cart = cartOf(session)
      session.remove('cart')
      cart.items.push('b')
    },
    found: { cart: undefined }
  },
  'one that was replaced since': {
    work(session) {
      const cart = cartOf(session)
      session.set('cart', 'replaced')
      cart.items.push('b')
    },
    found: { cart: 'replaced' }
  },
  'one that a clear dropped': {
    work(session) {
      const cart = cartOf(session)
      session.clear()
      cart.items.push('b')
    },
    found: { cart: undefined, other: undefined }
  }
}

for (const [name, { work, found }] of Object.entries(IN_PLACE)) {
  void t.test(`an object changed in place is saved as it is at the end: ${name}`, async (t) => {
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

/** Changes of a key that is `base`, which another request makes `newer` before they are written. */
const OVERTAKEN: Record<string, { work: (session: Session) => unknown; found: unknown }> = {
  'an update runs again on the newer value': { work: (s) => s.update('k', appendTo('1')), found: 'newer1' },
  'two updates run again, in order': {
    work: (s) => s.update('k', appendTo('1')) ?? s.update('k', appendTo('2')),
    found: 'newer12'
  },
  'an update after a set builds on the set': {
    work: (s) => s.set('k', 'own') ?? s.update('k', appendTo('1')),
    found: 'own1'
  },
  'a set after an update is the set': {
    work: (s) => s.update('k', appendTo('1')) ?? s.set('k', 'own'),
    found: 'own'
  },
  'an update after a remove builds on nothing': {
    work: (s) => s.remove('k') ?? s.update('k', appendTo('1')),
    found: 'undefined1'
  },
  'a remove after an update is the remove': {
    work: (s) => s.update('k', appendTo('1')) ?? s.remove('k'),
    found: undefined
  },
  'an update after a clear builds on nothing': {
    work: (s) => s.clear() ?? s.update('k', appendTo('1')),
    found: 'undefined1'
  },
  'an update beside a set runs again, and the set stays': {
    work: (s) => s.set('other', 1) ?? s.update('k', appendTo('1')),
    found: 'newer1'
  },
  'a set to what was there is no change, so the newer one stays': {
    work: (s) => s.set('k', 'base'),
    found: 'newer'
  },
  'the same beside an update that runs again': {
    work: (s) => s.set('k', 'base') ?? s.update('other', () => 1),
    found: 'newer'
  },
  'a rotation that sets what was there says so again': {
    work: (s) => s.regenerate() ?? s.set('k', 'base'),
    found: 'base'
  },
  'the same in a rotation, beside an update that runs again': {
    work: (s) => s.regenerate() ?? s.set('k', 'base') ?? s.update('other', () => 1),
    found: 'base'
  },
  'a rotation that sets nothing there takes the newer one along': {
    work: (s) => s.regenerate() ?? s.set('other', 1),
    found: 'newer'
  },
  'an update after a set to what was there': {
    work: (s) => s.set('k', 'base') ?? s.update('k', appendTo('1')),
    found: 'base1'
  },
  'an update to a Date, and one on that': {
    work: (s) => s.update('k', () => new Date(0)) ?? s.update('k', appendTo('!')),
    found: '1970-01-01T00:00:00.000Z!'
  }
}

for (const [name, { work, found }] of Object.entries(OVERTAKEN)) {
  void t.test(`overtaken by another request: ${name}`, async (t) => {
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

const SPOILING: Record<string, (cart: Cart) => unknown> = {
  'that throws'(cart) {
    cart.items.push('half')
    throw new Error('no')
  },
  'whose outcome is no JSON'(cart) {
    cart.items.push('half')
    return { ...cart, total: 1n }
  },
  'that leaves what is no JSON, and throws'(cart) {
    Object.assign(cart, { cart })
    throw new Error('no')
  }
}

for (const [name, spoil] of Object.entries(SPOILING)) {
  void t.test(`an update ${name} changes nothing, and overwrites no other request's`, async (t) => {
    const { visit, browser, app } = await makeVisits(t)
    await visit((session) => session.set('cart', makeCart('a')))
    const other = new Browser(app)
    other.cookies.set('session_id', browser.cookies.get('session_id') as string)
    const { result } = await visit(async (session) => {
      cartOf(session).nested.n = 7
      t.throws(() => session.update('cart', (cart) => spoil(cart as Cart)))
      t.same(session.get('cart'), { items: ['a'], nested: { n: 7 } }, 'what was changed before it stays')
      return session.modified
    })
    t.equal(result, true)
    await visit(async (session) => {
      await visit((overtaking) => overtaking.update('cart', () => makeCart('b')), other)
      t.throws(() => session.update('cart', (cart) => spoil(cart as Cart)))
    })
    t.same((await visit((session) => session.get('cart'))).result, makeCart('b'))
  })
}

void t.test('an update that throws and changed nothing leaves the object that was handed out', async (t) => {
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

void t.test(
  'overtaken by a record that is not ours: the update is refused, and nothing is written',
  async (t) => {
    const { attempt, visit, memory } = await makeVisits(t)
    await visit((session) => session.set('k', 'base'))
    const { response, calls } = await attempt((session) => {
      session.update('k', appendTo('1'))
      memory.update = () => 'conflict'
      memory.get = () => ({ version: 2 }) as never
    })
    t.match(response.json(), { statusCode: 409, code: 'SESSION_GONE' })
    t.same(calls, ['get', 'update', 'get'])
  }
)

void t.test('changes put on newer data leave the rest of it as it is', async (t) => {
  const draft = new Draft({ id: 'id' }, () => undefined, { a: '1', b: '1', c: '1', d: '1' })
  draft.set('a', 2)
  draft.set('b', 1)
  draft.remove('c')
  draft.update('d', (n) => Number(n) + 1)
  draft.rebase({ a: '5', b: '5', c: '5', d: '5', e: '5' })
  t.same(draft.keys(), ['a', 'b', 'd', 'e'])
  const difference = draft.difference()
  t.same({ ...difference?.set }, { a: '2', d: '6' })
  t.match(difference, { remove: ['c'], clear: false, versioned: true })
  draft.rebase({ a: '2', d: '7' })
  t.same({ ...draft.difference()?.set }, { d: '8' })
})

void t.test('a clear put on newer data clears that too, and what was set after it stays', async (t) => {
  const draft = new Draft({ id: 'id' }, () => undefined, { a: '1', b: '1' })
  draft.clear()
  draft.set('a', 1)
  draft.rebase({ a: '1', b: '2', c: '3' })
  t.same(draft.keys(), ['a'])
  t.same({ ...draft.difference()?.set }, { a: '1' })
  t.match(draft.difference(), { remove: [], clear: true, versioned: false })
})

void t.test('newer data on which nothing was changed is just read', async (t) => {
  const draft = new Draft({ id: 'id' }, () => undefined, { a: '{"n":1}' })
  t.same(draft.value('a'), { n: 1 })
  draft.rebase({ a: '{"n":2}' })
  t.same(draft.value('a'), { n: 2 })
  t.equal(draft.difference(), undefined)
  t.equal(draft.strayed(), false)
})

/** What a session holds, as plainly as it can be said: the model that the real one is compared with. */
interface Model {
  data: Map<string, string[]>
  flash: string | undefined
  /** Whether the store had it, and still has it. */
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

/** Each does the same to a session and to the model; `mark` tells the steps of a sequence apart. */
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
    if (message !== model.flash) throw new Error(`the message was ${String(message)}`)
    model.flash = undefined
  },
  inPlace(session, model, mark) {
    listOf(session.get('k')).push(mark)
    model.data.get('k')?.push(mark)
  }
}

/** In the order of the keys: which came first is no promise. */
const sorted = (data: object) => Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))
const shown = (session: Session) => ({ data: sorted(valuesOf(session)), flash: session.peekFlash('k') })
const shownOf = ({ data, flash }: Model) => ({ data: sorted(Object.fromEntries(data)), flash })

/** The writes that a sequence may cost: one, or a destroy and the create of what came after it. */
function writesOf(model: Model, before: string): string[] {
  const hasData = model.data.size > 0 || model.flash !== undefined
  if (model.isEnded) return hasData ? ['destroy', 'create'] : ['destroy']
  if (!model.isStored) return hasData ? ['create'] : []
  return model.isRotated || JSON.stringify(shownOf(model)) !== before ? ['update'] : []
}

const names = Object.keys(OPERATIONS)
const pairs = names.flatMap((a) => names.map((b) => [a, b]))
const triples = pairs.flatMap((pair) => names.map((name) => [...pair, name]))

for (const isStored of [true, false]) {
  const visitor = isStored ? 'a session that holds data and a message' : 'a visitor without a session'
  void t.test(`every sequence of up to three operations of one request, by ${visitor}`, async (t) => {
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
            throw new Error(`${sequence.join(', ')}: at once`)
        }
        return session.id
      }, browser)
      const writes = calls.filter((call) => call !== 'get')
      const later = (await visit((session) => ({ shown: shown(session), id: session.id }), browser)).result
      const isKept = writes.length > 0 ? !writes.includes('destroy') || writes.includes('create') : isStored
      const wanted = [shownOf(model), writesOf(model, before), isKept]
      const found = [later.shown, writes, later.id === id]
      if (JSON.stringify(found) === JSON.stringify(wanted)) continue
      failures++
      t.same(found, wanted, sequence.join(', '))
    }
    t.equal(failures, 0)
    t.ok(memory.size > 0 && first.cookies.size === 0)
  })
}
