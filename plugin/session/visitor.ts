import { createSealer, sealedLength } from '../cookies/sealed.js'
import { SessionValueError } from '../errors.js'
import type { ResolvedOptions } from '../options/resolve.js'
import { emptyTexts, type Texts } from './changes.js'
import { CSRF_KEY, isOwnKey, LIFETIME_KEY } from './record.js'

/** What the library keeps for a browser without a stored session: CSRF secret, flash messages and return path. */
export interface VisitorData {
  readonly texts: Texts
  /** When the cookie was sealed, in milliseconds since the epoch. */
  readonly sealedAt: number
  /** When the CSRF secret was made, in milliseconds since the epoch. */
  readonly secretAt: number
}

/** Reads and makes the values of the visitor cookie. */
export interface Visitors {
  /** Returns the data of the first valid cookie, or `undefined` if no cookie is valid or all are too old. */
  open(cookies: readonly string[]): VisitorData | undefined
  /**
   * Returns the value of a cookie with `texts`. `before` is the data of the cookie that it replaces.
   * @throws {SessionValueError} if a cookie cannot hold the texts.
   */
  seal(texts: Texts, before: VisitorData | undefined): string
  /** Returns true if a cookie can hold the texts and also a CSRF secret. */
  fits(texts: Texts): boolean
  /** Returns true if a form that is printed now would soon be useless, unless the cookie is sealed again. */
  isAging(data: VisitorData): boolean
}

/** The maximum length of a cookie's name and value together. Browsers drop longer cookies: RFC 6265bis section 5.6. */
const COOKIE_BYTES = 4096
/** A cookie is sealed again once this fraction of its life has passed. */
const AGING_FRACTION = 0.1
/** A text as long as that of a CSRF secret, and a time as long as any until the year 2286. */
const SOME_SECRET = JSON.stringify('x'.repeat(43))
const SOME_TIME = 9_999_999_999_999

export function createVisitors({ secrets, cookieName, lifetime }: ResolvedOptions): Visitors {
  const name = visitorCookieName(cookieName)
  const sealer = createSealer(secrets, name)

  function openOne(cookie: string): VisitorData | undefined {
    const text = sealer.open(cookie)
    if (text === undefined) return undefined
    const data = parse(text)
    return Date.now() < data.sealedAt + lifetime.maxAge ? data : undefined
  }

  function fits(texts: Texts): boolean {
    const all = { [CSRF_KEY]: SOME_SECRET, ...texts }
    const text = format({ texts: all, sealedAt: SOME_TIME, secretAt: SOME_TIME })
    return name.length + sealedLength(Buffer.byteLength(text)) <= COOKIE_BYTES
  }

  return {
    open(cookies) {
      for (const cookie of cookies) {
        const data = openOne(cookie)
        if (data !== undefined) return data
      }
      return undefined
    },
    seal(texts, before) {
      if (!fits(texts)) throw tooLarge(Object.keys(texts)[0] as string)
      const sealedAt = Date.now()
      const isSameSecret = before !== undefined && before.texts[CSRF_KEY] === texts[CSRF_KEY]
      return sealer.seal(format({ texts, sealedAt, secretAt: isSameSecret ? before.secretAt : sealedAt }))
    },
    fits,
    isAging: ({ sealedAt }) => Date.now() - sealedAt >= lifetime.maxAge * AGING_FRACTION
  }
}

export function visitorCookieName(cookieName: string): string {
  return `${cookieName}_visitor`
}

/** Returns the error for a value that a visitor's browser cannot keep. */
export function tooLarge(key: string): SessionValueError {
  return new SessionValueError(
    key,
    `is too large for a visitor: without a stored session it travels in a cookie of at most ${COOKIE_BYTES} bytes`
  )
}

/** Embeds the values as JSON, because a JSON text within a JSON string would take more room. */
function format({ texts, sealedAt, secretAt }: VisitorData): string {
  const fields = Object.keys(texts).map((key) => `${JSON.stringify(key)}:${texts[key]}`)
  return `[${sealedAt},${secretAt},{${fields.join()}}]`
}

/** Only this library can have made `text`, so it has the expected shape. */
function parse(text: string): VisitorData {
  const [sealedAt, secretAt, values] = JSON.parse(text) as [number, number, Record<string, unknown>]
  const texts = emptyTexts()
  for (const [key, value] of Object.entries(values)) {
    if (isOwnKey(key) && key !== LIFETIME_KEY) texts[key] = JSON.stringify(value)
  }
  return { texts, sealedAt, secretAt }
}
