import { randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto'
import { promisify } from 'node:util'

export interface User {
  readonly id: string
  readonly username: string
  readonly role: string
  /** The name that is shown on the pages. The user can change it. */
  readonly name: string
}

/** The user accounts. This example keeps them in memory. A real application would use a database. */
export interface Users {
  find(id: string): User | undefined
  all(): readonly User[]
  /**
   * Returns the user, or `undefined` if the username or the password is wrong. The caller cannot tell which of the two
   * is wrong.
   */
  authenticate(username: string, password: string): Promise<User | undefined>
  rename(id: string, name: string): void
  changePassword(id: string, password: string): Promise<void>
}

interface Password {
  readonly salt: Buffer
  readonly hash: Buffer
}

export const DEMO_ACCOUNTS = [
  { id: '1', username: 'ada', password: 'lovelace', role: 'admin', name: 'Ada Lovelace' },
  { id: '2', username: 'grace', password: 'hopper', role: 'member', name: 'Grace Hopper' }
]

const derive = promisify<string, Buffer, number, ScryptOptions, Buffer>(scrypt)
/**
 * The scrypt parameters from the OWASP Password Storage Cheat Sheet. They are as strong as N=2^17 with p=1, but need
 * only 16 MB of memory.
 */
const COST = { N: 2 ** 14, r: 8, p: 5 }

export async function createUsers(accounts = DEMO_ACCOUNTS): Promise<Users> {
  const users = new Map<string, User>()
  const passwords = new Map<string, Password & { readonly userId: string }>()
  for (const { password, ...user } of accounts) {
    users.set(user.id, user)
    passwords.set(user.username, { userId: user.id, ...(await passwordOf(password)) })
  }
  const nobody = await passwordOf(randomBytes(32).toString('hex'))

  return {
    find: (id) => users.get(id),
    all: () => [...users.values()],
    async authenticate(username, password) {
      const known = passwords.get(username)
      // Hash the password even if the username is unknown. Otherwise the response time would reveal which usernames
      // exist.
      const { salt, hash } = known ?? nobody
      const matches = timingSafeEqual(await hashOf(password, salt), hash)
      return known !== undefined && matches ? users.get(known.userId) : undefined
    },
    rename(id, name) {
      const user = users.get(id)
      if (user !== undefined) users.set(id, { ...user, name })
    },
    async changePassword(id, password) {
      const user = users.get(id)
      if (user !== undefined) passwords.set(user.username, { userId: id, ...(await passwordOf(password)) })
    }
  }
}

async function passwordOf(password: string): Promise<Password> {
  const salt = randomBytes(16)
  return { salt, hash: await hashOf(password, salt) }
}

function hashOf(password: string, salt: Buffer): Promise<Buffer> {
  return derive(password, salt, 32, COST)
}
