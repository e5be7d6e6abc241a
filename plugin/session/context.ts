import type { Tokens } from '../cookies/tokens.js'
import type { ResolvedOptions } from '../options/resolve.js'
import type { Visitors } from './visitor.js'

/** The objects that all sessions of one registered plugin share. */
export interface SessionContext {
  readonly options: ResolvedOptions
  readonly tokens: Tokens
  readonly visitors: Visitors
}

/** The facts about a request that its session needs. */
export interface SessionRequest {
  /** Returns the values of the visitor cookies that the request carries. */
  visitorCookies(): readonly string[]
  /** Returns true if the reply must not use up a flash message: for HEAD, a prefetch, and an error page after a commit. */
  isPassive(): boolean
}
