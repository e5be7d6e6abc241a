import { RedisStore } from 'connect-redis'
import { createClient } from 'redis'

/** Returns a connect-redis store with its own client. */
export async function connectRedisStore(url) {
  return new RedisStore({ client: await createClient({ url, disableOfflineQueue: true }).connect() })
}
