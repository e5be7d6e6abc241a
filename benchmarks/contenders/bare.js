import Fastify from 'fastify'
import { addPlainRoutes } from '../routes.js'

/** The contender that all others are compared with. It has the same routes and replies, but no sessions. */
export default async function bare() {
  const app = Fastify()
  addPlainRoutes(app)
  return { app }
}
