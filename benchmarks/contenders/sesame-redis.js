import { RedisStore } from 'fastify-sesame/stores/redis'
import { createClient } from 'redis'
import { sesame } from './sesame.js'

export default async function sesameRedis({ redis }) {
  const client = await createClient({ url: redis, disableOfflineQueue: true }).connect()
  return { app: await sesame(new RedisStore({ client })) }
}
