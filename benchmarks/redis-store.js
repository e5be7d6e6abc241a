import { RedisStore } from 'connect-redis'
import { createClient } from 'redis'

/** Returns a connect-redis store that has its own Redis client. */
export async function connectRedisStore(url) {
  return new RedisStore({ client: await createClient({ url, disableOfflineQueue: true }).connect() })
}
