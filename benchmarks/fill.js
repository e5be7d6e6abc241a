import { Buffer } from 'node:buffer'
import { createTokens, idOfToken } from '../dist/cookies/tokens.js'
import { COOKIE, SECRET, seedOf } from './payload.js'

/** The default length of a token, in bytes. */
const ID_LENGTH = 32

/**
 * Puts `count` sessions straight into a store, which is faster than logging in `count` times.
 * Returns the cookie values of `sample` sessions, evenly spread.
 */
export async function fillStore(store, count, sample) {
  const tokens = createTokens([Buffer.from(SECRET)], ID_LENGTH)
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
