import { RedisStore } from 'connect-redis'
import { createClient } from 'redis'

/** Returns a connect-redis store with a client of its own. */
export async function connectRedisStore(url) {
  return new RedisStore({ client: await createClient({ url, disableOfflineQueue: true }).connect() })
}
