export { default } from './plugin.js'
export { requireAuth, type RequireAuthOptions } from './guard.js'
export type { SessionManager } from './manager.js'
export type { SessionInfo } from './record.js'
export type { Session } from './session.js'
export { OptionsSchema } from './options-schema.js'
export type { SessionOptions } from './options.js'
export { MemoryStore, type MemoryStoreOptions } from './stores/memory.js'
export { channels } from './diagnostics.js'
export * from './errors.js'
export type {
  Awaitable,
  SessionData,
  SessionPatch,
  SessionRecord,
  SessionStore,
  StoredSession,
  UpdateResult
} from './types.js'
