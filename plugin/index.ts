export { default } from './http/plugin.js'
export { csrfProtection } from './http/csrf.js'
export {
  guarded,
  type GuardedOptions,
  type GuardedRoute,
  type SignedInRequest,
  type UserId
} from './http/guarded-route.js'
export { requireAuth, type RequireAuthOptions } from './http/require-auth.js'
export type { SessionManager } from './http/session-manager.js'
export type { LoginOptions } from './session/login.js'
export type { SessionInfo, SessionInfoWithData } from './session/record.js'
export type { Session } from './session/session.js'
export type { SessionCallback } from './session/aliases.js'
export type { CookieOptions, CsrfOptions, SessionOptions } from './options/session-options.js'
export { MemoryStore, type MemoryStoreOptions } from './stores/memory.js'
export { channels, type ChannelMessages, type SessionChannel } from './diagnostics.js'
export * from './errors.js'
export type {
  Awaitable,
  EndReason,
  JsonForm,
  JsonValue,
  SessionData,
  SessionInput,
  SessionKey,
  SessionPatch,
  SessionProperties,
  SessionRecord,
  SessionStore,
  SessionValue,
  StoredSession,
  UpdateResult
} from './types.js'
