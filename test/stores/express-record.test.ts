import t from 'tap'
import { fromExpressStore, type ExpressStore } from '../../plugin/stores/express/store.js'
import { idOf, makeRecord } from '../../plugin/testing/records.js'
import { makeFake } from '../fixtures/express.js'

const ID = idOf('a')

void t.test(
  'the stored cookie contains the expiry in every format that express-session stores read',
  async (t) => {
    const fake = makeFake()
    const now = Date.now()
    await fromExpressStore(fake).create(ID, makeRecord({ expiresAt: now + 60_000 }))
    const { cookie } = JSON.parse(fake.texts.get(ID) as string) as { cookie: Record<string, number> }
    t.same(Date.parse(String(cookie['expires'])), now + 60_000)
    for (const name of ['maxAge', 'originalMaxAge']) {
      const age = cookie[name] as number
      t.ok(age > 59_000 && age <= 60_000, `${name}: ${age}`)
    }
  }
)

void t.test('the store gets the expiry as a Date, as from express-session', async (t) => {
  const given: { cookie: { expires: unknown } }[] = []
  const store: ExpressStore = {
    ...makeFake(),
    set: (_sid, session, callback) => {
      given.push(session)
      callback()
    }
  }
  const record = makeRecord()
  await fromExpressStore(store).create(ID, record)
  t.same(
    given.map(({ cookie }) => cookie.expires),
    [new Date(record.expiresAt)]
  )
})

void t.test('the store gets only ASCII characters, so its column may have any character set', async (t) => {
  const fake = makeFake()
  const store = fromExpressStore(fake)
  const data = { 'ключ 🔑': '"é 中文 \u2028"', '\ud800': '"\u007f\u0080"', ascii: '"~"' }
  const record = makeRecord({ data, userId: 'ådà' })
  await store.create(ID, record)
  t.match(fake.texts.get(ID), /^[\0-\x7f]+$/)
  t.same(await store.get(ID), record)
})
