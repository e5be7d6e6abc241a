import { RedisStore } from '../../dist/stores/redis/store.js'
import { createClient } from 'redis'
import { sesame } from './sesame.js'

export default async function sesameRedis({ redis }) {
  const client = await createClient({ url: redis, disableOfflineQueue: true }).connect()
  return { app: await sesame(new RedisStore({ client })) }
}
