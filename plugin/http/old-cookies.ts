import type { SerializeOptions } from '@fastify/cookie'
import type { FastifyReply } from 'fastify'
import type { ResolvedOptions } from '../options/resolve.js'
import type { Predecessor } from '../migrate/predecessor.js'
import type { GivenCookie } from '../session/move-in.js'
import { cookieValues, UNUSED, type Attributes, type CookieWriter } from './cookie.js'
import { keepRawCookies } from './reply-headers.js'

/** Reads and clears the cookies of the session libraries that the application used before. */
export interface OldCookies {
  /** Returns the values of these cookies in a `Cookie` header. */
  read(header: string | undefined): readonly GivenCookie[]
  /** Deletes those of the cookies that are not kept, or all of them after a logout. */
  clear(reply: FastifyReply, cookies: readonly GivenCookie[], hasEnded: boolean): void
}

const NONE: readonly GivenCookie[] = []

export function createOldCookies(
  { predecessors, cookie }: Pick<ResolvedOptions, 'predecessors' | 'cookie'>,
  serialize: CookieWriter
): OldCookies {
  const { sameSite, httpOnly, partitioned } = cookie

  function clearOne(reply: FastifyReply, { cookieName, path, domain }: Predecessor): void {
    // A page that came without TLS cannot replace a Secure cookie, and a cookie with a prefix must be Secure.
    const secure = reply.request.protocol === 'https' || cookieName.startsWith('__')
    const own = { path, domain, secure, maxAge: 0 }
    const attributes: Attributes = { ...UNUSED, sameSite, httpOnly, partitioned, ...own }
    reply.header('set-cookie', serialize(cookieName, '', attributes as SerializeOptions))
  }

  return {
    read(header) {
      if (header === undefined || predecessors.length === 0) return NONE
      return predecessors.flatMap((predecessor) =>
        cookieValues(header, `${predecessor.cookieName}=`, Infinity).map((value) => ({ predecessor, value }))
      )
    },
    clear(reply, cookies, hasEnded) {
      const cleared = new Set(cookies.map(({ predecessor }) => predecessor))
      if (cleared.size > 0) keepRawCookies(reply)
      for (const predecessor of cleared) if (hasEnded || !predecessor.keep) clearOne(reply, predecessor)
    }
  }
}
