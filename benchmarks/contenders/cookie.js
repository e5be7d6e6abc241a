import cookie from '@fastify/cookie'
import Fastify from 'fastify'
import { addPlainRoutes } from '../routes.js'

/** What parsing the Cookie header costs, as most session plugins have it parsed. */
export default async function parseCookies() {
  const app = Fastify()
  await app.register(cookie)
  addPlainRoutes(app)
  return { app }
}
