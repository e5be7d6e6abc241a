import cookie from '@fastify/cookie'
import Fastify from 'fastify'
import { addPlainRoutes } from '../routes.js'

/** Shows the cost of parsing the Cookie header with @fastify/cookie, which most session plugins use. */
export default async function parseCookies() {
  const app = Fastify()
  await app.register(cookie)
  addPlainRoutes(app)
  return { app }
}
