import { expiring, unexpired } from './expiring.js'
import { RETURN_KEY } from './record.js'
import type { SessionState } from './state.js'

/** The maximum length of a return path in bytes. */
const MAX_BYTES = 1024
/** Printable ASCII without spaces or `\`. A path that begins with `//` is a URL of another host for browsers. */
const LOCAL_PATH = /^\/(?!\/)[\x21-\x5b\x5d-\x7e]*$/

/** Returns true if a redirect to `path` stays on this origin (RFC 3986 section 4.2, WHATWG URL section 4.4). */
export function isReturnPath(path: unknown): path is string {
  return typeof path === 'string' && path.length <= MAX_BYTES && LOCAL_PATH.test(path)
}

/** Remembers the page that a signed-out user has asked for. A path that is not local or too long is not kept. */
export function rememberPage(state: SessionState, path: string): void {
  if (isReturnPath(path) && pageToReturnTo(state) !== path) state.setOwn(RETURN_KEY, expiring(path))
}

/** Returns the page to return to after the login, or `undefined` if there is none. */
export function pageToReturnTo(state: SessionState): string | undefined {
  const path = unexpired(state.own(RETURN_KEY))
  return isReturnPath(path) ? path : undefined
}
