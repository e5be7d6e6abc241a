import { idOfToken } from '../dist/cookies/tokens.js'
import { COOKIE, seedOf } from './payload.js'

/**
 * Puts `count` sessions straight into a store, because a million logins would take a minute.
 * The cookie values of `sample` of them, evenly spread.
 */
export async function fillStore(store, { tokens }, count, sample) {
  const data = Object.fromEntries(
    Object.entries(seedOf({})).map(([key, value]) => [key, JSON.stringify(value)])
  )
  const step = count / sample
  const cookies = []
  for (let made = 0; made < count; made++) {
    const token = tokens.mint()
    const now = Date.now()
    const times = { createdAt: now, lastAccessed: now, expiresAt: now + COOKIE.maxAge * 1000 }
    await store.create(idOfToken(token), { version: 1, data, ...times, userId: null })
    if (made >= cookies.length * step) cookies.push(tokens.sign(token))
  }
  return cookies
}
