import { SessionUsageError } from '../errors.js'
import { isReplaced } from './aliases.js'
import { Session, SELF } from './session.js'

const MEMBERS = Object.getOwnPropertyDescriptors(Session.prototype)
/** The names that every object has, and the names that `await` and `JSON.stringify` look for. */
const OBJECT_NAMES: ReadonlySet<string> = new Set([
  ...Object.getOwnPropertyNames(Object.prototype),
  'then',
  'toJSON'
])

/**
 * Returns a session whose other properties are its data, for the option `properties`. So code that was written for
 * @fastify/session, express-session or @fastify/secure-session can write `session.user = user`.
 */
export function withProperties(session: Session): Session {
  return new Proxy(session, HANDLER)
}

/** Returns true if the property is a key of the data. A member of `Session` and a key that begins with `$` never is. */
function isData(property: PropertyKey): property is string {
  if (typeof property !== 'string' || property.startsWith('$')) return false
  return !Object.hasOwn(MEMBERS, property) && !OBJECT_NAMES.has(property) && !isReplaced(property)
}

/** @throws {SessionUsageError} if the property is not a key of the data. */
function requireData(property: PropertyKey): asserts property is string {
  if (isData(property)) return
  const name = String(property)
  const isKey = typeof property === 'string' && !name.startsWith('$')
  const text = JSON.stringify(name)
  throw new SessionUsageError(
    'SESSION_PROPERTY_UNKNOWN',
    isKey
      ? `session.${name} cannot be data, because the name is reserved: use another name, or session.set(${text}, value), get(${text}) and remove(${text})`
      : `session.${name} cannot be data: use a name that is a string and does not begin with "$"`
  )
}

function refuse(what: string): () => never {
  return () => {
    const text = `${what} is not possible on a session: assign its properties one by one`
    throw new SessionUsageError('SESSION_PROPERTY_UNKNOWN', text)
  }
}

function isMethod(property: PropertyKey): boolean {
  if (property === 'constructor' || !Object.hasOwn(MEMBERS, property)) return false
  return typeof (MEMBERS as Record<PropertyKey, PropertyDescriptor>)[property]?.value === 'function'
}

const HANDLER: ProxyHandler<Session> = {
  get(session, property) {
    if (property === SELF) return session
    if (isData(property)) return session.get(property)
    // The session itself is `this` in its members, because a proxy does not have its private fields.
    const value: unknown = Reflect.get(session, property, session)
    return isMethod(property) ? (value as () => unknown).bind(session) : value
  },
  set(session, property, value) {
    requireData(property)
    session.set(property, value)
    return true
  },
  deleteProperty(session, property) {
    requireData(property)
    session.remove(property)
    return true
  },
  has: (session, property) => (isData(property) ? session.has(property) : Reflect.has(session, property)),
  ownKeys(session) {
    try {
      return session.keys().filter(isData)
    } catch {
      // A log serializer can print a session before it is loaded. An error there would end the process.
      return []
    }
  },
  getOwnPropertyDescriptor(session, property) {
    const value = isData(property) ? session.get(property) : undefined
    return value === undefined ? undefined : { value, writable: true, enumerable: true, configurable: true }
  },
  defineProperty: refuse('Object.defineProperty()'),
  setPrototypeOf: refuse('Object.setPrototypeOf()'),
  preventExtensions: refuse('Object.freeze(), seal() or preventExtensions()')
}
