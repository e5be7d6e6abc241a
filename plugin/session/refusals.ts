import { SessionUsageError } from '../errors.js'

/**
 * Determines whether a session can be read and whether its changes are saved. In `detached` mode they are not, because
 * the browser may have a session that could not be loaded. In `unloaded` mode, the plugin's `onRequest` hook has not
 * run yet. In `off` mode, the route has no session.
 */
export type SessionMode = 'open' | 'readonly' | 'detached' | 'unloaded' | 'off'

type Refusal = ConstructorParameters<typeof SessionUsageError>
type Refusals = Readonly<Partial<Record<SessionMode, Refusal>>>

const COMMITTED: Refusal = [
  'SESSION_COMMITTED',
  'The session was already saved: change it before save() and before the reply'
]

const READ_REFUSALS: Refusals = {
  unloaded: [
    'SESSION_NOT_LOADED',
    'The session is not loaded yet: use it after the onRequest hook of fastify-sesame, ' +
      'or load it there with await app.sessionManager.get(request)'
  ],
  off: ['SESSION_OFF', 'This route has config { session: false }: it has no session']
}

const CHANGE_REFUSALS: Refusals = {
  ...READ_REFUSALS,
  readonly: [
    'SESSION_READONLY',
    "This route has config { session: 'readonly' }: its session cannot be changed"
  ]
}

/** @throws {SessionUsageError} if a session cannot be read in this mode. */
export function requireReadable(mode: SessionMode): void {
  const refusal = READ_REFUSALS[mode]
  if (refusal !== undefined) throw new SessionUsageError(...refusal)
}

/** @throws {SessionUsageError} if a session cannot be changed in this mode, or not any more. */
export function requireChangeable(mode: SessionMode, committed: boolean): void {
  const refusal = committed ? COMMITTED : CHANGE_REFUSALS[mode]
  if (refusal !== undefined) throw new SessionUsageError(...refusal)
}
